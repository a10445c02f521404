/** What a writer of parts (part-writer.ts) is told, and what it tells. */
import type { ObjectAttributes, ObjectStore, UploadedPart } from './object-store.ts';
import type { CallerBuffers } from './part-buffers.ts';

export interface PartWriterOptions {
  store: ObjectStore;
  buffers: CallerBuffers;
  key: string;
  /** Bytes of every part but the last, at most the budget of the buffers; the usual size of a buffer when absent. */
  partSize?: number;
  partsInFlight: number;
  /** Stops the writer until `finish` is called; from then on it goes through. */
  signal: AbortSignal;
  /** Asked for once, when the object is begun in the store. */
  attributes: () => ObjectAttributes;
  /**
   * Awaited before anything is sent, and before the object is made whole, with the number of bytes that the object then
   * has at least.
   */
  beforeSending: (bytes: number) => Promise<void>;
  /**
   * Awaited when the store has begun the upload, before any part is sent. When it fails, the writer ends, and the upload is
   * left to whoever was told of it.
   */
  onBegun?: (uploadId: string) => Promise<void>;
  /**
   * Awaited when a multipart upload may be open in the store, or open later, that nobody knows the id of.
   * @param uploadId of the one that the writer goes on with; undefined when it does not go on
   */
  onDoubt?: (uploadId: string | undefined) => Promise<void>;
  /** Awaited for each part that the store has, in order; not for the last one, which `finish` sends. Its failure ends the writer. */
  onPart?: (part: UploadedPart, end: number) => Promise<void>;
}

/** Where an earlier writer has stopped. */
export interface ResumePoint {
  /** Absent when no part was sent. */
  uploadId: string | undefined;
  /** Parts that are there, from the first on without a gap, and their bytes. */
  parts: number;
  bytes: number;
  /** What came after them, at most a part, and how it is read. */
  tail: { size: number; read: () => AsyncIterable<Buffer> };
}

/** What `abandon` knows: nothing of the object is left, or something may be and its key must be kept to look again. */
export type Abandoned = 'nothing-left' | 'unsure';
