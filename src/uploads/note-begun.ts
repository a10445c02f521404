/**
 * That a direct upload has begun in the store, written down together with the answer to its request, which may be kept under
 * an Idempotency-Key. A lost answer to that COMMIT is looked up and not undone (promise 4): whoever sends the request again
 * is told of this upload for as long as its key is kept, so it must be there.
 */
import { type Executor, isDatabaseUnavailable } from '../database/client.ts';
import type { UploadSessionsRepository } from './session-repository.ts';

/** Nobody knows whether it was written down. The upload is left to its lease; the cause is what to tell the client. */
export class BeginningUnknown extends Error {
  override name = 'BeginningUnknown';
}

/**
 * @param lease seconds beyond `expiresAt` until the upload is reaped
 * @returns false when the upload was ended meanwhile
 * @throws BeginningUnknown
 */
export async function noteBegun(
  sessions: UploadSessionsRepository,
  { id, storeUploadId, expiresAt, lease }: { id: string; storeUploadId: string; expiresAt: Date; lease: number },
  inTransaction: (transaction: Executor) => Promise<void>,
): Promise<boolean> {
  try {
    return await sessions.noteBegun(id, storeUploadId, async (transaction) => {
      await sessions.keep(id, lease, expiresAt, transaction);
      await inTransaction(transaction);
    });
  } catch (error) {
    if (!isDatabaseUnavailable(error)) throw error;
    if (await wasNoted(sessions, id, lease, error)) return true;
    throw error;
  }
}

async function wasNoted(sessions: UploadSessionsRepository, id: string, lease: number, cause: unknown) {
  try {
    // Writes the record, so it waits for a transaction that has not ended yet.
    await sessions.keep(id, lease);
    return (await sessions.storeUploadId(id)) !== undefined;
  } catch {
    throw new BeginningUnknown('nobody knows whether an upload has begun', { cause });
  }
}
