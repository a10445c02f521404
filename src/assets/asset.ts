/** The asset: a stored file with its record. This is its one shape in memory, in SQL and in the API. */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { AssetState } from '../database/schema.ts';
import { sql } from '../database/sql.ts';
import { binaryDigest, bytesCount, timestamp } from '../http/schema-types.ts';

export interface Asset {
  id: string;
  ownerId: string;
  projectId?: string;
  name: string;
  state: AssetState;
  assetType: string;
  mediaType: string;
  /** Bytes. */
  size: number;
  /** Absent when nobody named it and the bytes never passed through the service. */
  sha256?: Buffer;
  /** Why it was rejected; a problem type. */
  reason?: string;
  metadata: Record<string, string>;
  objectKey: string;
  cacheControl: string;
  version: number;
  createdAt: Date;
  updatedAt: Date;
  trashedAt?: Date;
}

/** Columns of a whole asset, for `select` and `returning` in hand-written SQL; `toAsset` reads them. */
export const assetColumns = sql.raw(
  'id, owner_id, project_id, name, state, asset_type, media_type, size, sha256, reason, metadata, object_key, cache_control, version, created_at, updated_at, trashed_at',
);

export type AssetRow = {
  id: string;
  owner_id: string;
  project_id: string | null;
  name: string;
  state: AssetState;
  asset_type: string | null;
  media_type: string | null;
  size: string | null;
  sha256: Buffer | null;
  reason: string | null;
  metadata: Record<string, string>;
  object_key: string;
  cache_control: string | null;
  version: number;
  created_at: Date | string;
  updated_at: Date | string;
  trashed_at: Date | string | null;
};

/** @throws when the row is that of an upload, which has no size or digest yet */
export function toAsset(row: AssetRow): Asset {
  if (row.size === null || row.media_type === null || row.asset_type === null) {
    throw new Error(`asset ${row.id} in state ${row.state} is incomplete`);
  }
  return {
    id: row.id,
    ownerId: row.owner_id,
    ...(row.project_id !== null && { projectId: row.project_id }),
    name: row.name,
    state: row.state,
    assetType: row.asset_type,
    mediaType: row.media_type,
    size: Number(row.size),
    ...(row.sha256 !== null && { sha256: row.sha256 }),
    ...(row.reason !== null && { reason: row.reason }),
    metadata: row.metadata,
    objectKey: row.object_key,
    cacheControl: row.cache_control ?? 'private',
    version: row.version,
    createdAt: new Date(row.created_at),
    updatedAt: new Date(row.updated_at),
    ...(row.trashed_at !== null && { trashedAt: new Date(row.trashed_at) }),
  };
}

export const assetDocument = z
  .object({
    id: z.string().meta({
      override: { type: 'string', format: 'uuid' },
      description: 'UUIDv7',
      example: '019aa1b2-7c3d-7e4f-8a5b-6c7d8e9fa0b1',
    }),
    name: z.string().meta({ description: 'File name, NFC, 1 to 255 bytes of UTF-8', example: 'photo.jpg' }),
    projectId: z.string().optional().meta({ example: 'website' }),
    assetType: z.string().meta({ description: 'Upload policy the file was accepted under', example: 'image' }),
    mediaType: z.string().meta({ description: 'As detected from the bytes', example: 'image/jpeg' }),
    size: bytesCount.meta({ example: 48213 }),
    sha256: binaryDigest.optional().meta({
      description: 'SHA-256 of the bytes; absent after a direct upload that declared none',
    }),
    state: z
      .enum(['processing', 'ready', 'rejected', 'lost'])
      .meta({ description: 'Only `ready` assets can be downloaded' }),
    reason: z.string().optional().meta({ description: 'Problem type for which the asset was rejected' }),
    metadata: z
      .record(z.string(), z.string())
      .meta({ description: 'Data that the application keeps with the file', example: { album: 'summer' } }),
    createdAt: timestamp,
    updatedAt: timestamp,
    trashedAt: timestamp.optional().meta({ description: 'Present while the asset is in the trash' }),
  })
  .meta({ id: 'Asset' });
export type AssetDocument = z.input<typeof assetDocument>;

/** The record as clients see it: no owner, no object key. */
export function toDocument(asset: Asset): AssetDocument {
  const { id, name, projectId, assetType, mediaType, size, metadata, state } = asset;
  if (state === 'uploading' || state === 'deleting') throw new Error(`asset ${id} is ${state} and has no document`);
  return {
    id,
    name,
    ...(projectId !== undefined && { projectId }),
    assetType,
    mediaType,
    size,
    ...(asset.sha256 && { sha256: asset.sha256.toString('hex') }),
    state,
    ...(asset.reason !== undefined && { reason: asset.reason }),
    metadata,
    createdAt: asset.createdAt.toISOString(),
    updatedAt: asset.updatedAt.toISOString(),
    ...(asset.trashedAt && { trashedAt: asset.trashedAt.toISOString() }),
  };
}

/** Entity tag of the record (RFC 9110 section 8.8.3); changes with every change of the record. */
export function recordTag(asset: Asset): string {
  return `"${createHash('sha256').update(`${asset.id}.${asset.version}`).digest('base64url').slice(0, 22)}"`;
}

/** Entity tag of the bytes: their digest, or what stands for it, as a key is written once. */
export function contentTag(asset: Asset): string {
  const digest = asset.sha256 ?? createHash('sha256').update(asset.objectKey).digest();
  return `"${digest.toString('hex')}"`;
}
