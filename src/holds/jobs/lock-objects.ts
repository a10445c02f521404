/**
 * Tells the object store what it is to keep, after the answer: the service keeps the asset by itself, with the store or
 * without. What is told is what the record says then, so of two jobs at once the last word is that of the record.
 */
import { isDeepStrictEqual } from 'node:util';
import type { JobReference } from '../../database/outbox.ts';
import type { JobContext } from '../../jobs/job.ts';
import type { ObjectLock, ObjectLocks } from '../../storage/object-store.ts';
import type { LockedObjects } from '../locked-objects.ts';

interface LockObjectsData {
  assetId: string;
  /** Of the asset when its hold was changed: the objects may be those of nobody by now, and must not stay locked. */
  keys: string[];
}
export const lockObjectsJob: JobReference<LockObjectsData> = { name: 'lock-objects' };

const nothing: ObjectLock = { isHeld: false };

export async function lockObjects(
  { records, locks }: { records: Pick<LockedObjects, 'find'>; locks: ObjectLocks | undefined },
  { assetId, keys }: LockObjectsData,
  { signal }: Pick<JobContext, 'signal'>,
): Promise<void> {
  if (!locks || !(await locks.areAvailable({ signal }))) return;
  for (let record = await records.find(assetId); ; ) {
    const named = new Set(record?.keys);
    for (const key of named) await locks.apply(key, record?.lock ?? nothing, { signal });
    for (const key of keys) if (!named.has(key)) await locks.apply(key, nothing, { signal });
    const now = await records.find(assetId);
    if (isDeepStrictEqual(now, record)) return;
    record = now;
  }
}
