/**
 * Removes the bytes of a record in state `deleting`, and then the record. The record came first (the asset is gone for
 * everybody and its quota is free), the bytes come after; so a crash in between leaves a record to go on from.
 */

import type { JobReference } from '../../database/outbox.ts';
import type { JobContext } from '../../jobs/job.ts';
import { erase } from '../../storage/erase.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import type { AssetsRepository } from '../repository.ts';

export const deleteObjectJob: JobReference<{ assetId: string }> = { name: 'delete-object' };

export async function deleteObject(
  { assets, store }: { assets: AssetsRepository; store: ObjectStore },
  { assetId }: { assetId: string },
  { signal, fence }: JobContext,
): Promise<void> {
  const record = await assets.findDeleting(assetId);
  if (!record) return;
  await erase(store, record.objectKey, { signal });
  await assets.forget(assetId, fence);
}
