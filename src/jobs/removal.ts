/** Jobs that each remove something from the object store, and then its record; many are done together. */
import type { Executor } from '../database/client.ts';
import { type BatchContext, type BatchedJob, LeaseLost } from './job.ts';

/** What is removed, and how. */
export interface Removal<Data extends object, Found extends { id: string; key: string }> {
  /** Of the record that a job is about. */
  idOf(data: Data): string;
  /** The records that are still there. */
  find(ids: string[]): Promise<Found[]>;
  /** Removes what is stored for them. @returns the keys of which something may be left, each with what it failed of */
  erase(found: readonly Found[]): Promise<ReadonlyMap<string, unknown>>;
  /**
   * Removes the records in one transaction.
   * @param held called first in it, with all ids; tells whose records may be removed
   * @returns those
   */
  forget(ids: string[], held: (transaction: Executor, ids: string[]) => Promise<string[]>): Promise<string[]>;
}

/**
 * A crash in between leaves a record to go on from. A job fails by itself, for what is left of its own record; then that
 * stays, and the job is tried again.
 * @returns what failed, by the id of its job
 */
export async function remove<Data extends object, Found extends { id: string; key: string }>(
  { idOf, find, erase, forget }: Removal<Data, Found>,
  jobs: readonly BatchedJob<Data>[],
  { fence }: Pick<BatchContext, 'fence'>,
): Promise<ReadonlyMap<string, unknown>> {
  // A record has one job, but one that stood still was sent again; whoever is second finds nothing.
  const jobOf = new Map(jobs.map(({ id, data }) => [idOf(data), id]));
  const found = await find([...jobOf.keys()]);
  const faults = await erase(found);
  const failed = new Map<string, unknown>();
  const erased: string[] = [];
  for (const { id, key } of found) {
    if (faults.has(key)) failed.set(jobOf.get(id) ?? '', faults.get(key));
    else erased.push(id);
  }
  if (erased.length === 0) return failed;
  const forgotten = new Set(
    await forget(erased, async (transaction, ids) => {
      const held = await fence(
        transaction,
        ids.flatMap((id) => jobOf.get(id) ?? []),
      );
      return ids.filter((id) => held.has(jobOf.get(id) ?? ''));
    }),
  );
  for (const id of erased) if (!forgotten.has(id)) failed.set(jobOf.get(id) ?? '', new LeaseLost());
  return failed;
}
