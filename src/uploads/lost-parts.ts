/**
 * A resumable upload whose parts the store does not have any more. A rule of the bucket may have ended the multipart
 * upload, or somebody with access to the bucket. Nobody can go on with it, so it ends, and its client is told to begin
 * anew, instead of being told for ever that the store does not answer.
 *
 * It ends only on what the store has said for certain (promise 4): it serves, it has no such upload, or another part than
 * the one that was written down, and it has no object.
 */
import type { Actor } from '../database/audit.ts';
import { Problem } from '../problems.ts';
import {
  NoSuchUpload,
  type ObjectStore,
  ObjectStoreUnavailable,
  PartsChanged,
  type UploadedPart,
} from '../storage/object-store.ts';
import { isWhole, OutcomeUnknown } from '../storage/whole-object.ts';
import type { UploadContext } from './context.ts';
import type { UploadSession } from './session-repository.ts';
import { Superseded } from './takeover.ts';

/** Whether a call failed because the store has no such upload, or other parts. */
export function mayBeLost(error: unknown): boolean {
  if (error instanceof NoSuchUpload) return true;
  if (!(error instanceof ObjectStoreUnavailable) || error instanceof OutcomeUnknown) return false;
  return error.cause instanceof NoSuchUpload || error.cause instanceof PartsChanged;
}

/**
 * Ends the upload, if parts that were acknowledged are lost.
 * @param holder who is at the upload
 * @returns whether they are; false when they are there after all
 * @throws Superseded when another request has taken over; ObjectStoreUnavailable when nobody can tell
 */
export async function endIfLost(
  { store, sessions, uploads }: Pick<UploadContext, 'store' | 'sessions' | 'uploads'>,
  { id, objectKey, size }: Pick<UploadSession, 'id' | 'objectKey' | 'size'>,
  holder: string,
  actor: Actor,
): Promise<boolean> {
  const storeUploadId = await sessions.storeUploadId(id);
  if (storeUploadId === undefined) return false;
  // A disk that is not mounted has nothing, either.
  await store.check({});
  const there = await partsOf(store, objectKey, storeUploadId);
  if (there && hasAll(there, await sessions.parts(id))) return false;
  if (size !== undefined && (await isWhole(store, objectKey, size))) return false;
  const outcome = { action: 'upload.aborted' as const, reason: 'parts-lost', actor };
  return uploads.markForDeletion(id, outcome, {
    inTransaction: async (transaction) => {
      if (!(await sessions.finish(transaction, id, holder))) throw new Superseded();
    },
  });
}

export function partsLost(): Problem {
  return new Problem('upload-expired', {
    detail: 'Parts of this upload are lost in the object store, so it has ended. Begin a new one.',
  });
}

/** @returns undefined when the store has no such upload */
async function partsOf(store: ObjectStore, key: string, uploadId: string): Promise<UploadedPart[] | undefined> {
  try {
    return await store.listParts(key, uploadId, {});
  } catch (error) {
    if (error instanceof NoSuchUpload) return undefined;
    throw error;
  }
}

function hasAll(there: UploadedPart[], noted: UploadedPart[]): boolean {
  const known = new Set(there.map(named));
  return noted.every((part) => known.has(named(part)));
}

/** Some servers quote an entity tag in one answer and not in another. */
function named({ partNumber, etag, size }: UploadedPart): string {
  return `${partNumber} ${etag.replaceAll('"', '')} ${size}`;
}
