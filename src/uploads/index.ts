/**
 * Uploads: how bytes become an asset, whatever route they came by. Beside the routes there is the reaper, which settles
 * what a dead process has left, and the job that verifies what could not be checked on its way.
 */
import { z } from 'zod';
import type { Core } from '../core.ts';
import type { Feature } from '../feature.ts';
import type { App } from '../http/openapi.ts';
import { defineJob, HOUR, nothing } from '../jobs/job.ts';
import { DiskObjectStore } from '../storage/disk/disk-object-store.ts';
import { uploadActions } from './audit.ts';
import { uploadContext, uploadsRepository } from './context.ts';
import { DirectUploads } from './direct-uploads.ts';
import { Intake } from './intake.ts';
import { reap } from './jobs/reap-uploads.ts';
import { verifyAsset, verifyAssetJob } from './jobs/verify-asset.ts';
import { ResumableUploads } from './resumable-uploads.ts';
import { directUploadRoutes } from './routes/direct.ts';
import { diskPartRoute } from './routes/disk-parts.ts';
import { formUploadRoutes } from './routes/form.ts';
import { rawUploadRoute } from './routes/raw.ts';
import { resumableUploadRoutes } from './routes/resumable.ts';

export const uploads: Feature<Core> = {
  name: 'uploads',
  tags: [{ name: 'Uploads', description: 'Upload files: by form, raw body, direct or resumable' }],
  auditActions: uploadActions,
  routes,
  jobs: [
    defineJob({
      ...verifyAssetJob,
      data: z.object({ assetId: z.string() }),
      retries: 16,
      firstPause: 2,
      // Reads a large file back.
      limit: 6 * HOUR,
      concurrency: 2,
      run: (data, context, core: Core) =>
        verifyAsset({ uploads: uploadsRepository(core, core.background), store: core.store }, data, context),
    }),
    defineJob({
      name: 'reap-uploads',
      data: nothing,
      retries: 3,
      longestPause: 60,
      schedule: '* * * * *',
      run: async (_data, context, core: Core) => {
        const reaped = await reap(core, context);
        if (reaped.finished + reaped.ended + reaped.failed > 0) core.log.info(reaped, 'abandoned uploads settled');
      },
    }),
  ],
  gauges: ({ admission, buffers }) => [
    { name: 'stowage_active_uploads', help: 'Uploads that have a place', read: () => admission.active },
    { name: 'stowage_part_buffer_bytes', help: 'Bytes of part buffers in use', read: () => buffers.inUse },
  ],
};

/** Raw, resumable and disk parts parse no body, so each has a scope of its own. */
async function routes(app: App, core: Core): Promise<void> {
  const { store, stopping, uploadLimit, idempotency, toPublicUrl } = core;
  const context = uploadContext(core);
  const options = { context, intake: new Intake(context), uploadLimit, idempotency, stopping };
  const direct = new DirectUploads(context);
  const resumable = new ResumableUploads(context);
  await app.register(async (scope) => formUploadRoutes(scope as App, options));
  await app.register(async (scope) => rawUploadRoute(scope as App, options));
  await app.register(async (scope) => resumableUploadRoutes(scope as App, { ...options, resumable }));
  directUploadRoutes(app, { ...options, toPublicUrl, direct });
  if (store instanceof DiskObjectStore)
    await app.register(async (scope) => diskPartRoute(scope as App, { context, store, stopping }));
}
