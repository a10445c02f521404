/**
 * Removes the bytes of records in state `deleting`, and then the records. The record came first (the asset is gone for
 * everybody and its quota is free), the bytes come after; so a crash in between leaves a record to go on from.
 *
 * Many jobs are run as one: their records are read, their objects deleted and their records removed together. A job
 * fails by itself, for the objects that its own asset has left; then its record stays, and it is tried again.
 */
import type { JobReference } from '../../database/outbox.ts';
import { type BatchContext, type BatchedJob, LeaseLost } from '../../jobs/job.ts';
import { eraseAll } from '../../storage/erase.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import type { AssetsRepository } from '../repository.ts';

export const deleteObjectJob: JobReference<{ assetId: string }> = { name: 'delete-object' };

/** @returns what failed, by the id of its job */
export async function deleteObjects(
  { assets, store }: { assets: AssetsRepository; store: ObjectStore },
  jobs: readonly BatchedJob<{ assetId: string }>[],
  { signal, fence }: BatchContext,
): Promise<ReadonlyMap<string, unknown>> {
  // An asset has one job, but one that stood still was sent again; whoever is second finds nothing.
  const jobOf = new Map(jobs.map(({ id, data }) => [data.assetId, id]));
  const records = await assets.findDeleting([...jobOf.keys()]);
  const faults = await eraseAll(store, records, { signal });
  const erased = new Set<string>();
  const failed = new Map<string, unknown>();
  for (const { id, key } of records) {
    if (faults.has(key)) failed.set(jobOf.get(id) ?? '', faults.get(key));
    else erased.add(id);
  }
  if (erased.size === 0) return failed;
  const removed = new Set(
    await assets.forget([...erased], async (transaction, ids) => {
      const held = await fence(
        transaction,
        ids.flatMap((id) => jobOf.get(id) ?? []),
      );
      return ids.filter((id) => held.has(jobOf.get(id) ?? ''));
    }),
  );
  for (const id of erased) if (!removed.has(id)) failed.set(jobOf.get(id) ?? '', new LeaseLost());
  return failed;
}
