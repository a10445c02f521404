/**
 * Settles uploads whose lease ran out: the process that held them is dead, or cut off for good. It looks before it
 * acts. An upload that was sealed and whose object is there, with the right size and digest, is finished: only the last
 * statement was missing. Everything else is ended: first the record, so that nobody can finish it any more, then, by a
 * job, what is left of its bytes. A live upload renews its lease, however slow it is, and is never touched.
 */

import type { Asset } from '../../assets/asset.ts';
import type { Core } from '../../core.ts';
import { systemActor } from '../../database/audit.ts';
import type { Executor } from '../../database/client.ts';
import { requireConfirmed } from '../../database/unconfirmed-restore.ts';
import type { JobContext } from '../../jobs/job.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import { objectMatches } from '../../storage/verify.ts';
import { ReplacementRefused } from '../../versions/refusal.ts';
import { uploadsRepository } from '../context.ts';
import type { UploadsRepository } from '../repository.ts';
import { uploadAnswer } from '../routes/upload-request.ts';
import type { AbandonedUpload } from '../upload.ts';

const BATCH = 100;
const AT_ONCE = 8;

export interface ReaperOptions {
  uploads: UploadsRepository;
  store: ObjectStore;
  /** What belongs into the transaction that finishes an upload. */
  finished?: (transaction: Executor, uploadId: string, asset: Asset) => Promise<void>;
  onError: (message: string, error: unknown) => void;
}

export interface Reaped {
  finished: number;
  ended: number;
  /** Could not be looked at; they are left for the next time. */
  failed: number;
}

/** The reaper on what the service shares. */
export function reap(core: Core, context: JobContext): Promise<Reaped> {
  const { background, store, idempotency, onError } = core;
  return reapUploads(
    {
      uploads: uploadsRepository(core, background),
      store,
      onError,
      finished: (transaction, id, asset) => idempotency.completeUpload(transaction, id, uploadAnswer(asset)),
    },
    context,
  );
}

/**
 * The same for a command, whose work belongs to no worker, so nobody can take it away.
 * @throws Error while a restore is not confirmed
 */
export async function reapOutsideOfJobs(core: Core): Promise<Reaped> {
  await requireConfirmed(core.background.database);
  return reap(core, { id: 'command', signal: new AbortController().signal, fence: async () => {} });
}

export async function reapUploads(options: ReaperOptions, context: JobContext): Promise<Reaped> {
  const reaped: Reaped = { finished: 0, ended: 0, failed: 0 };
  const seen = new Set<string>();
  for (;;) {
    const found = await options.uploads.abandoned(BATCH + seen.size);
    const batch = found.filter(({ id }) => !seen.has(id));
    if (batch.length === 0) return reaped;
    for (const { id } of batch) seen.add(id);
    const work = batch.values();
    await Promise.all(
      Array.from({ length: AT_ONCE }, async () => {
        for (const upload of work) {
          context.signal.throwIfAborted();
          reaped[await settle(options, upload, context)] += 1;
        }
      }),
    );
  }
}

async function settle(
  { uploads, store, finished, onError }: ReaperOptions,
  { id, isReplacing, objectKey, stored }: AbandonedUpload,
  { id: jobId, signal, fence }: JobContext,
): Promise<keyof Reaped> {
  const actor = systemActor('reaper', jobId);
  try {
    if (stored && (await objectMatches(store, objectKey, stored, { signal }))) {
      const inTransaction = async (transaction: Executor, settled: Asset) => {
        await fence(transaction);
        await finished?.(transaction, id, settled);
      };
      const asset = await uploads
        .settle({ id, isReplacing }, stored, actor, inTransaction)
        // It may not take the place of other bytes any more, and ends like any other.
        .catch((error) => {
          if (error instanceof ReplacementRefused) return undefined;
          throw error;
        });
      if (asset) return 'finished';
    }
    // Whoever held it may have died, or been frozen, while it sent something.
    const outcome = { action: 'upload.aborted' as const, reason: 'abandoned', actor, inDoubt: true };
    await uploads.markForDeletion(id, outcome, { onlyAbandoned: true, inTransaction: fence });
    return 'ended';
  } catch (error) {
    signal.throwIfAborted();
    onError('an abandoned upload could not be settled yet', error);
    return 'failed';
  }
}
