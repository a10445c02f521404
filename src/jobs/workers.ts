/** Which job does what: reading this tells all work that happens after the answer. */

import { deleteObject } from '../assets/jobs/delete-object.ts';
import { purgeAssets } from '../assets/jobs/purge-assets.ts';
import type { AssetsRepository } from '../assets/repository.ts';
import type { Idempotency } from '../idempotency/idempotency.ts';
import { type ReconcilerOptions, reconcile } from '../reconciliation/reconciler.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { type Reaped, reapUploads } from '../uploads/jobs/reap-uploads.ts';
import { verifyAsset } from '../uploads/jobs/verify-asset.ts';
import type { UploadsRepository } from '../uploads/repository.ts';
import { uploadAnswer } from '../uploads/routes/upload-request.ts';
import type { UploadPolicies } from '../validation/upload-policies.ts';
import type { JobContext, JobQueue } from './queue.ts';

export interface WorkersOptions {
  jobs: JobQueue;
  assets: AssetsRepository;
  uploads: UploadsRepository;
  store: ObjectStore;
  policies: UploadPolicies;
  idempotency: Idempotency;
  reconciler: ReconcilerOptions;
  trashRetention: number;
  onEvent: (message: string, detail: object) => void;
  onError: (message: string, error: unknown) => void;
}

/** The reaper with what it needs; the command `npm run reconcile` runs it too. */
export function reap(
  { uploads, store, idempotency, onError }: Pick<WorkersOptions, 'uploads' | 'store' | 'idempotency' | 'onError'>,
  context: JobContext,
): Promise<Reaped> {
  return reapUploads(
    {
      uploads,
      store,
      onError,
      finished: (transaction, asset) => idempotency.completeUpload(transaction, asset.id, uploadAnswer(asset)),
    },
    context,
  );
}

export async function startWorkers(options: WorkersOptions): Promise<void> {
  const { jobs, assets, uploads, store, policies, trashRetention, idempotency, reconciler, onEvent } = options;
  await jobs.work('delete-object', (data, context) => deleteObject({ assets, store }, data, context));
  await jobs.work('verify-asset', (data, context) => verifyAsset({ uploads, store }, data, context));
  await jobs.work('reap-uploads', async (_data, context) => {
    const reaped = await reap(options, context);
    if (reaped.finished + reaped.ended + reaped.failed > 0) onEvent('abandoned uploads were settled', reaped);
  });
  await jobs.work('purge-assets', async (_data, context) => {
    const purged = await purgeAssets({ assets, policies, trashRetention }, context);
    if (purged.purged + purged.expired > 0) onEvent('assets whose time has come were deleted', purged);
    await idempotency.forgetOld();
  });
  await jobs.work('reconcile', async (_data, { signal }) => {
    const { outcome, report } = await reconcile(reconciler, { signal });
    onEvent('the object store was compared with the records', { outcome, ...report });
  });
}
