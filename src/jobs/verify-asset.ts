/**
 * Compares the bytes of a large direct upload with the digest that was declared for it. Until then the asset is
 * `processing`; afterwards it is `ready`, or `rejected` with the reason, and its owner may delete it.
 */
import { systemActor } from '../database/audit.ts';
import { verifyBytes } from '../intake/direct-intake.ts';
import type { DirectUploadsRepository } from '../intake/direct-uploads-repository.ts';
import { Problem } from '../problems.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { JobContext, JobData } from './queue.ts';

export async function verifyAsset(
  { agreements, store }: { agreements: DirectUploadsRepository; store: ObjectStore },
  { assetId }: JobData['verify-asset'],
  { id: jobId, signal, fence }: JobContext,
): Promise<void> {
  const asset = await agreements.findProcessing(assetId);
  if (!asset?.sha256) return;
  const actor = systemActor('verifier', jobId);
  try {
    await verifyBytes(store, asset.objectKey, { sha256: asset.sha256, mediaType: asset.mediaType }, signal);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    await agreements.judge(assetId, { state: 'rejected', reason: error.type }, actor, fence);
    return;
  }
  await agreements.judge(assetId, { state: 'ready' }, actor, fence);
}
