/**
 * Removes the bytes of records in state `deleting`, and then the records. The record came first (the asset is gone for
 * everybody and its quota is free), the bytes come after.
 */
import type { JobReference } from '../../database/outbox.ts';
import type { BatchContext, BatchedJob } from '../../jobs/job.ts';
import { remove } from '../../jobs/removal.ts';
import { eraseAll } from '../../storage/erase.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import type { AssetDeletions } from '../deletions.ts';

export const deleteObjectJob: JobReference<{ assetId: string }> = { name: 'delete-object' };

/** @returns what failed, by the id of its job */
export async function deleteObjects(
  { deletions, store }: { deletions: AssetDeletions; store: ObjectStore },
  jobs: readonly BatchedJob<{ assetId: string }>[],
  { signal, fence }: BatchContext,
): Promise<ReadonlyMap<string, unknown>> {
  return remove(
    {
      idOf: ({ assetId }: { assetId: string }) => assetId,
      find: (ids) => deletions.findDeleting(ids),
      erase: (records) => eraseAll(store, records, { signal }),
      forget: (ids, held) => deletions.forget(ids, held),
    },
    jobs,
    { fence },
  );
}
