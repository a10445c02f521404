/** Removes the objects of discarded derivatives, and then their rows; many at once, like those of deleted assets. */
import type { BatchContext, BatchedJob } from '../jobs/job.ts';
import { LeaseLost } from '../jobs/job.ts';
import { eraseObjects } from '../storage/erase.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { DerivativesRepository } from './derivatives.ts';

/** @returns what failed, by the id of its job */
export async function discardObjects(
  { derivatives, store }: { derivatives: DerivativesRepository; store: ObjectStore },
  jobs: readonly BatchedJob<{ derivativeId: string }>[],
  { signal, fence }: BatchContext,
): Promise<ReadonlyMap<string, unknown>> {
  const jobOf = new Map(jobs.map(({ id, data }) => [data.derivativeId, id]));
  const rows = await derivatives.findDiscarded([...jobOf.keys()]);
  const objects = rows.map(({ objectKey, size }) => ({ key: objectKey, isWhole: size !== null }));
  const faults = await eraseObjects(store, objects, { signal });
  const failed = new Map<string, unknown>();
  const erased: string[] = [];
  for (const { id, objectKey } of rows) {
    if (faults.has(objectKey)) failed.set(jobOf.get(id) ?? '', faults.get(objectKey));
    else erased.push(id);
  }
  if (erased.length === 0) return failed;
  const removed = new Set(
    await derivatives.forget(erased, async (transaction, ids) => {
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
