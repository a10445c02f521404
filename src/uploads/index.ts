/**
 * Uploads: how bytes become an asset, whatever route they came by. Beside the routes there is the reaper, which settles
 * what a dead process has left, and the job that verifies what could not be checked on its way.
 */
import { z } from 'zod';
import type { Core } from '../core.ts';
import { type Feature, subscribe } from '../feature.ts';
import type { App } from '../http/openapi.ts';
import { defineJob, HOUR, MINUTE, nothing } from '../jobs/job.ts';
import { replacementProcessed } from '../processing/events.ts';
import { processingRepository } from '../processing/run-step.ts';
import { diskIn } from '../storage/archive/archiving-store.ts';
import { uploadActions } from './audit.ts';
import { uploadContext, uploadsRepository } from './context.ts';
import { DirectUploads } from './direct-uploads.ts';
import { Intake } from './intake.ts';
import { lookAgain, lookAgainJob } from './jobs/look-again.ts';
import { reap } from './jobs/reap-uploads.ts';
import { verifyAsset, verifyAssetJob } from './jobs/verify-asset.ts';
import { OpenUploads } from './open-uploads.ts';
import { ResumableUploads } from './resumable-uploads.ts';
import { directUploadRoutes } from './routes/direct.ts';
import { diskPartRoute } from './routes/disk-parts.ts';
import { formUploadRoutes } from './routes/form.ts';
import { openUploadRoutes } from './routes/open-uploads.ts';
import { honourPreferWait } from './routes/prefer-wait.ts';
import { rawUploadRoute } from './routes/raw.ts';
import { replaceRoute } from './routes/replace.ts';
import { RESUMABLE_PATH, resumableUploadRoutes } from './routes/resumable.ts';
import { refuseContentRange } from './routes/upload-request.ts';
import { UploadSessionsRepository } from './session-repository.ts';
import { ShortRequests } from './short-requests.ts';

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
        verifyAsset(
          {
            uploads: uploadsRepository(core, core.background),
            processing: processingRepository(core),
            store: core.store,
          },
          data,
          context,
        ),
    }),
    defineJob({
      ...lookAgainJob,
      data: z.object({
        assetId: z.string(),
        objectKey: z.string(),
        keep: z.string().exactOptional(),
        look: z.number().int(),
      }),
      retries: 100,
      firstPause: 2,
      longestPause: 5 * MINUTE,
      limit: 10 * MINUTE,
      concurrency: 8,
      run: async (data, context, core: Core) => {
        const repository = uploadsRepository(core, core.background);
        const sessions = new UploadSessionsRepository(core.background);
        const next = await lookAgain({ uploads: repository, sessions, store: core.store }, data, context);
        if (next) await repository.lookAgain(next, context.fence);
      },
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
  on: [
    subscribe(replacementProcessed, (transaction, { uploadId, actor, refused }, core: Core) =>
      uploadsRepository(core, core.background).finishReplacing(transaction, uploadId, actor, refused),
    ),
  ],
  gauges: ({ admission, buffers }) => [
    { name: 'stowage_active_uploads', help: 'Uploads that have a place', read: () => admission.active },
    { name: 'stowage_part_buffer_bytes', help: 'Bytes of part buffers in use', read: () => buffers.inUse },
  ],
};

/** Raw, resumable and disk parts parse no body, so each has a scope of its own. */
async function routes(app: App, core: Core): Promise<void> {
  const { store, stopping, uploadLimit, idempotency, toPublicUrl } = core;
  honourPreferWait(app, core);
  const context = uploadContext(core);
  const options = { context, intake: new Intake(context), uploadLimit, idempotency, stopping };
  const direct = new DirectUploads(context);
  const resumable = new ResumableUploads(context);
  const shortRequests = new ShortRequests(core.config.REQUESTS_PER_MINUTE);
  const register = (addRoutes: (scope: App) => void | Promise<void>, prefix = '') =>
    app.register(
      async (scope) => {
        scope.addHook('onRequest', refuseContentRange);
        await addRoutes(scope as App);
      },
      { prefix },
    );
  await register((scope) => formUploadRoutes(scope, options));
  await register((scope) => rawUploadRoute(scope, options));
  await register((scope) => replaceRoute(scope, options));
  await register((scope) => resumableUploadRoutes(scope, { ...options, resumable, shortRequests }), RESUMABLE_PATH);
  openUploadRoutes(
    app,
    new OpenUploads(context, {
      direct: (...upload) => direct.cancel(...upload),
      resumable: (...upload) => resumable.terminate(...upload),
    }),
  );
  directUploadRoutes(app, { ...options, toPublicUrl, direct });
  const disk = diskIn(store);
  if (disk) await register((scope) => diskPartRoute(scope, { context, store: disk, stopping }));
}
