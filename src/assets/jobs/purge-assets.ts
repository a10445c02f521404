/**
 * Deletes for good what its time has come for: the trash after TRASH_RETENTION_DAYS, and assets whose upload policy has
 * `deleteAfterDays`. In small batches, each one short transaction with an audit row and a job per asset.
 */

import { NIL } from 'uuid';
import { systemActor } from '../../database/audit.ts';
import type { JobContext } from '../../jobs/job.ts';
import type { UploadPolicies } from '../../validation/upload-policies.ts';
import type { AssetDeletions } from '../deletions.ts';

const BATCH = 500;
const DAY = 24 * 3600 * 1000;

export interface PurgeOptions {
  deletions: AssetDeletions;
  policies: UploadPolicies;
  /** Days in the trash. */
  trashRetention: number;
  now?: () => Date;
}

export async function purgeAssets(
  { deletions, policies, trashRetention, now = () => new Date() }: PurgeOptions,
  { id, signal, fence }: JobContext,
): Promise<{ purged: number; expired: number }> {
  const actor = systemActor('purge', id);
  const before = (days: number) => new Date(now().getTime() - days * DAY);
  const done = { purged: 0, expired: 0 };
  for (let purged = BATCH; purged === BATCH; done.purged += purged) {
    signal.throwIfAborted();
    purged = await deletions.purgeTrash(before(trashRetention), BATCH, actor, fence);
  }
  for (const { assetType, lifeCycle: { deleteAfterDays, since = 'upload' } = {} } of policies.all) {
    if (deleteAfterDays === undefined || since !== 'upload') continue;
    const cutoff = before(deleteAfterDays);
    for (let after: string = NIL, looked = BATCH; looked === BATCH; ) {
      signal.throwIfAborted();
      const batch = await deletions.expire({ assetType, cutoff, after, limit: BATCH }, actor, fence);
      done.expired += batch.deleted;
      ({ looked, last: after } = batch);
    }
  }
  return done;
}
