/**
 * Deletes for good what has been in the trash for TRASH_RETENTION_DAYS. In small batches, each one short transaction with an
 * audit row and a job per asset. What rules of the life cycle delete is deleted in retention/.
 */
import { systemActor } from '../../database/audit.ts';
import type { JobContext } from '../../jobs/job.ts';
import type { AssetDeletions } from '../deletions.ts';

const BATCH = 500;
const DAY = 24 * 3600 * 1000;

export interface PurgeOptions {
  deletions: AssetDeletions;
  /** Days in the trash. */
  trashRetention: number;
  now?: () => Date;
}

/** @returns how many were deleted */
export async function purgeAssets(
  { deletions, trashRetention, now = () => new Date() }: PurgeOptions,
  { id, signal, fence }: JobContext,
): Promise<number> {
  const actor = systemActor('purge', id);
  const cutoff = new Date(now().getTime() - trashRetention * DAY);
  let total = 0;
  for (let purged = BATCH; purged === BATCH; total += purged) {
    signal.throwIfAborted();
    purged = await deletions.purgeTrash(cutoff, BATCH, actor, fence);
  }
  return total;
}
