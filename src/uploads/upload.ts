/** What uploads are as they begin, arrive and end. */
import type { Caller } from '../access/caller.ts';
import type { Actor } from '../database/audit.ts';
import type { Executor } from '../database/client.ts';
import type { Retention } from '../database/tables/assets.ts';
import type { Facts, Original, ProcessingRecord, Scan } from '../database/tables/processing-record.ts';
import type { StoredDerivative } from '../processing/keep-on-arrival.ts';
import type { Place } from '../projects/places.ts';

export interface NewUpload {
  id: string;
  ownerId: string;
  projectId?: string;
  place: Place;
  caller: Caller;
  actor: Actor;
  name: string;
  objectKey: string;
  metadata: Record<string, string>;
  path: string;
  tags: readonly string[];
  /** Absent: as its upload policy says. */
  retention?: Retention | null;
  createdAt: Date;
  /** What it replaces. */
  replacement?: { assetId: string; expectedVersion: number | null; name: string | null };
}

/** What is known of the bytes once they are stored and checked. */
export interface StoredBytes {
  size: number;
  sha256: Buffer;
  mediaType: string;
  assetType: string;
  cacheControl: string;
  /** What was sent, where that is not what is stored. */
  original?: Original | undefined;
}

/** The same of bytes that never passed through the service, so that the digest is known only if somebody named it. */
export type SettledBytes = Omit<StoredBytes, 'sha256'> & {
  sha256?: Buffer | undefined;
  /** Known where the bytes came by one request. */
  crc32?: number | undefined;
};

/** Something that belongs into the same transaction, such as the answer to a request that may be repeated. */
export type InTransaction<Subject> = (transaction: Executor, subject: Subject) => Promise<void>;

/** An upload whose bytes are all there. */
export interface SettledUpload {
  id: string;
  /** Its bytes take the place of those of an asset. */
  isReplacing: boolean;
  /** That it is charged to, where it may be settled together with others of that. */
  account?: string;
  /** Called in the transaction while the upload is locked; when it rejects, nothing is written. */
  held?: ((transaction: Executor) => Promise<void>) | undefined;
}

/** What was done to a file, and found out of it, before it is an asset. */
export interface LearnedOnTheWay {
  /** Steps that need not be done again. */
  ended?: ProcessingRecord;
  /** Its bytes are to be read back before it is served. */
  needsVerification?: boolean;
  scan?: Scan;
  facts?: Facts;
  thumbHash?: string;
  /** Whose objects are stored. */
  derivatives?: readonly StoredDerivative[];
}

/** An upload whose lease has ended. */
export interface AbandonedUpload {
  id: string;
  isReplacing: boolean;
  ownerId: string;
  objectKey: string;
  /** There when it was sealed. */
  stored?: StoredBytes;
}

export interface EndedUpload {
  action: 'upload.refused' | 'upload.aborted';
  reason: string;
  actor: Actor;
  /** A call that makes something in the store had no answer: its key is looked at again. */
  inDoubt?: boolean;
}
