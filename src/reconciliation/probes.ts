/** Removes what `npm run doctor` and storage tests have made to try a store out, and could not remove themselves. */

import type { CallOptions, ObjectStore } from '../storage/object-store.ts';
import { isProbeKey, probeFolders } from '../storage/probe-keys.ts';

/** A store, and what it puts before all its keys. */
export interface ProbedStore {
  store: ObjectStore;
  prefix: string;
}

/** @param before what is younger may still be tried. @throws ObjectStoreUnavailable */
export async function removeProbes({ store, prefix }: ProbedStore, before: Date, options: CallOptions): Promise<void> {
  for (const folder of probeFolders(prefix)) {
    for await (const page of store.allMultipartUploads(folder, options))
      for (const { key, uploadId, initiated } of page)
        if (isProbeKey(prefix, key) && initiated < before) await store.abortMultipartUpload(key, uploadId, options);
    for await (const page of store.list(folder, options))
      for (const { key, lastModified } of page)
        if (isProbeKey(prefix, key) && lastModified < before) await store.delete(key, options);
  }
}
