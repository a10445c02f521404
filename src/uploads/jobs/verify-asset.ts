/**
 * Reads back what could not be validated on its way: large direct uploads whose digest was declared, and resumable uploads
 * that came in several requests. Until then the asset is `processing`; afterwards it is `ready`, where no other step holds
 * it back, or `rejected` with the reason, and its owner may delete it. The record tells meanwhile how far the reading is.
 */
import { systemActor } from '../../database/audit.ts';
import type { JobReference } from '../../database/outbox.ts';
import type { JobContext } from '../../jobs/job.ts';
import { Problem } from '../../problems.ts';
import type { EndedStep, ProcessingRepository } from '../../processing/repository.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import type { UploadsRepository } from '../repository.ts';
import { verifyBytes } from '../verify.ts';

/** Milliseconds between two times that the record is told how far the reading is. */
const BETWEEN_NOTES = 1000;

export const verifyAssetJob: JobReference<{ assetId: string }> = { name: 'verify-asset' };

export async function verifyAsset(
  { uploads, processing, store }: { uploads: UploadsRepository; processing: ProcessingRepository; store: ObjectStore },
  { assetId }: { assetId: string },
  { id: jobId, signal, fence }: JobContext,
): Promise<void> {
  const asset = await uploads.findProcessing(assetId);
  if (!asset) return;
  const actor = systemActor('verifier', jobId);
  let notedAt = performance.now();
  const onProgress = async (bytes: number) => {
    if (performance.now() - notedAt < BETWEEN_NOTES) return;
    await uploads.noteVerified(assetId, bytes);
    notedAt = performance.now();
  };
  const end = (outcome: EndedStep['outcome']) =>
    processing.end(assetId, { name: 'verify', outcome, objectKey: asset.objectKey }, actor, fence);
  let sha256: Buffer;
  try {
    sha256 = await verifyBytes(store, asset.objectKey, asset, { signal, onProgress });
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    await end({ kind: 'rejected', reason: error.type, removesBytes: false });
    return;
  }
  await end({ kind: 'done', sha256 });
}
