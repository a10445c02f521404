/** Removes everything an asset has in the object store: unfinished uploads, the original, and derivatives beside it. */
import { type CallOptions, type ObjectStore, ObjectStoreUnavailable } from './object-store.ts';

/**
 * What is not there is success, so it may be repeated.
 * @param key of the original
 * @throws ObjectStoreUnavailable when something may be left
 */
export async function erase(store: ObjectStore, key: string, options: CallOptions): Promise<void> {
  for (const uploadId of await store.listMultipartUploads(key, options))
    await store.abortMultipartUpload(key, uploadId, options);
  const folder = key.slice(0, key.lastIndexOf('/') + 1);
  const keys = [key];
  for await (const page of store.list(folder, options))
    keys.push(...page.map((object) => object.key).filter((each) => each !== key && each.startsWith(folder)));
  const left = await store.deleteAll(keys, options);
  if (left.length > 0) throw new ObjectStoreUnavailable(`${left.length} of ${keys.length} objects were not deleted`);
}
