/** Whether an object was made, where the store does not say so: its key is that of one upload alone, so it is looked for. */
import { NoSuchUpload, type ObjectStore, ObjectStoreUnavailable, type UploadedPart } from './object-store.ts';

/**
 * Makes parts one object. When the store does not confirm it, it is looked for: the key is ours alone.
 * @throws ObjectStoreUnavailable when the object was not made; OutcomeUnknown when nobody knows
 */
export async function completeObject(
  store: ObjectStore,
  { key, uploadId, parts, size }: { key: string; uploadId: string; parts: UploadedPart[]; size: number },
  signal?: AbortSignal,
): Promise<void> {
  try {
    await store.completeMultipartUpload(key, uploadId, parts, signal ? { signal } : {});
  } catch (error) {
    if (!(error instanceof NoSuchUpload || error instanceof ObjectStoreUnavailable)) throw error;
    await requireWhole(store, key, size, error);
  }
}

/**
 * Whether there is an object of this size. Its key is ours alone, so it is the one that was sent.
 * @throws ObjectStoreUnavailable
 */
export async function isWhole(store: ObjectStore, key: string, size: number): Promise<boolean> {
  return (await store.head(key, {}))?.size === size;
}

/**
 * Looks for an object of which nobody knows whether it was made.
 * @param cause why nobody knows
 * @throws ObjectStoreUnavailable when it is not there; OutcomeUnknown when the store does not answer
 */
export async function requireWhole(store: ObjectStore, key: string, size: number, cause: unknown): Promise<void> {
  let whole: boolean;
  try {
    whole = await isWhole(store, key, size);
  } catch {
    throw new OutcomeUnknown('nobody knows whether the object was made', { cause });
  }
  if (!whole) throw new ObjectStoreUnavailable('the object was not made', { cause });
}

/** The store may hold the whole object or not: nothing may be undone before somebody looked (promise 4). */
export class OutcomeUnknown extends ObjectStoreUnavailable {
  override name = 'OutcomeUnknown';
}
