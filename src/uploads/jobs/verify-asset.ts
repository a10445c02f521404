/**
 * Reads back what could not be judged on its way: large direct uploads whose digest was declared, and resumable uploads
 * that came in several requests. Until then the asset is `processing`; afterwards it is `ready`, or `rejected` with the reason, and its owner may delete it.
 */
import { systemActor } from '../../database/audit.ts';
import type { JobReference } from '../../database/outbox.ts';
import type { JobContext } from '../../jobs/job.ts';
import { Problem } from '../../problems.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import { verifyBytes } from '../direct-intake.ts';
import type { DirectUploadsRepository } from '../direct-uploads-repository.ts';

export const verifyAssetJob: JobReference<{ assetId: string }> = { name: 'verify-asset' };

export async function verifyAsset(
  { agreements, store }: { agreements: DirectUploadsRepository; store: ObjectStore },
  { assetId }: { assetId: string },
  { id: jobId, signal, fence }: JobContext,
): Promise<void> {
  const asset = await agreements.findProcessing(assetId);
  if (!asset) return;
  const actor = systemActor('verifier', jobId);
  let sha256: Buffer;
  try {
    sha256 = await verifyBytes(store, asset.objectKey, asset, signal);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    await agreements.judge(assetId, { state: 'rejected', reason: error.type }, actor, fence);
    return;
  }
  await agreements.judge(assetId, { state: 'ready', sha256 }, actor, fence);
}
