/** Removes the objects of discarded derivatives, and then their rows; many at once, like those of deleted assets. */
import type { BatchContext, BatchedJob } from '../jobs/job.ts';
import { remove } from '../jobs/removal.ts';
import { eraseObjects } from '../storage/erase.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { DerivativesRepository } from './derivatives.ts';

/** @returns what failed, by the id of its job */
export async function discardObjects(
  { derivatives, store }: { derivatives: DerivativesRepository; store: ObjectStore },
  jobs: readonly BatchedJob<{ derivativeId: string }>[],
  { signal, fence }: BatchContext,
): Promise<ReadonlyMap<string, unknown>> {
  return remove(
    {
      idOf: ({ derivativeId }: { derivativeId: string }) => derivativeId,
      find: async (ids) =>
        (await derivatives.findDiscarded(ids)).map(({ id, objectKey, size }) => ({
          id,
          key: objectKey,
          isWhole: size !== null,
        })),
      erase: (objects) => eraseObjects(store, objects, { signal }),
      forget: (ids, held) => derivatives.forget(ids, held),
    },
    jobs,
    { fence },
  );
}
