/** What one request brings for a resumable upload, and how far the upload is after it. */
import type { Asset } from '../assets/asset.ts';
import type { Actor } from '../database/audit.ts';

/** A digest of the body of one request. */
export interface BodyChecksum {
  algorithm: 'sha1' | 'sha256';
  digest: Buffer;
}

/** Bytes that follow those that are safe. */
export interface Append {
  actor: Actor;
  /** Bytes of the body, where the client says so. */
  length?: number;
  /** Bytes that are safe, as the client knows it. */
  offset: number;
  checksum?: BodyChecksum;
  source: AsyncIterable<Buffer>;
  signal: AbortSignal;
}

/** How far the upload is after a request. */
export type UploadProgress =
  | { id: string; offset: number; size?: number; expiresAt: Date; uploadMetadata?: string; asset?: undefined }
  | { id: string; offset: number; size: number; uploadMetadata?: string; asset: Asset };
