/** Removes everything that assets have in the object store: unfinished uploads, the originals, and derivatives beside them. */
import { inParallel } from './in-parallel.ts';
import { type CallOptions, type ObjectStore, ObjectStoreUnavailable } from './object-store.ts';

/** What an asset has left in the store. */
export interface Remains {
  /** Of the original. */
  key: string;
  /** There can be nothing but the original and `others`: nothing else is looked for in its folder. */
  storedWhole: boolean;
  /** Keys of objects that are known, in its folder or in others. */
  others?: readonly string[];
}

/** Assets that are looked at, one by one, at the same time. */
const AT_ONCE = 8;

/**
 * What is not there is success, so it may be repeated.
 * @param key of the original
 * @throws ObjectStoreUnavailable when something may be left
 */
export async function erase(store: ObjectStore, key: string, options: CallOptions): Promise<void> {
  const [fault] = (await eraseAll(store, [{ key, storedWhole: false }], options)).values();
  if (fault !== undefined) throw fault;
}

/**
 * The same for many at once, whose objects are deleted together.
 * @returns the keys of the originals of which something may be left, each with what it failed of
 * @throws the signal's reason; and what makes it certain that nothing was deleted
 */
export async function eraseAll(
  store: ObjectStore,
  remains: readonly Remains[],
  options: CallOptions,
): Promise<Map<string, unknown>> {
  const faults = new Map<string, unknown>();
  /** Keys of objects, with the original that each belongs to. */
  const owners = new Map<string, string>();
  for (const { key, others = [] } of remains) for (const each of [key, ...others]) owners.set(each, key);
  const inDoubt = remains.filter(({ storedWhole }) => !storedWhole);
  await inParallel(inDoubt, AT_ONCE, async ({ key }) => {
    try {
      for (const each of await lookFor(store, key, options)) owners.set(each, key);
    } catch (error) {
      options.signal?.throwIfAborted();
      faults.set(key, error);
    }
  });
  for (const key of await store.deleteAll([...owners.keys()], options))
    faults.set(owners.get(key) ?? key, new ObjectStoreUnavailable('an object was not deleted'));
  return faults;
}

/**
 * Removes single objects, and nothing beside them. What is not there is success.
 * @param isWhole it was stored, so there is no unfinished upload to look for
 * @returns the keys of which something may be left, each with what it failed of
 */
export async function eraseObjects(
  store: ObjectStore,
  objects: readonly { key: string; isWhole: boolean }[],
  options: CallOptions,
): Promise<Map<string, unknown>> {
  const faults = new Map<string, unknown>();
  const inDoubt = objects.filter(({ isWhole }) => !isWhole);
  await inParallel(inDoubt, AT_ONCE, async ({ key }) => {
    try {
      for (const uploadId of await store.listMultipartUploads(key, options))
        await store.abortMultipartUpload(key, uploadId, options);
    } catch (error) {
      options.signal?.throwIfAborted();
      faults.set(key, error);
    }
  });
  const keys = objects.map(({ key }) => key).filter((key) => !faults.has(key));
  for (const key of await store.deleteAll(keys, options))
    faults.set(key, new ObjectStoreUnavailable('an object was not deleted'));
  return faults;
}

/** Ends the unfinished uploads of an original. @returns the keys of all its objects */
async function lookFor(store: ObjectStore, key: string, options: CallOptions): Promise<string[]> {
  for (const uploadId of await store.listMultipartUploads(key, options))
    await store.abortMultipartUpload(key, uploadId, options);
  const folder = key.slice(0, key.lastIndexOf('/') + 1);
  const keys = [key];
  for await (const page of store.list(folder, options))
    keys.push(...page.map((object) => object.key).filter((each) => each !== key && each.startsWith(folder)));
  return keys;
}
