/**
 * Uploads: how bytes become an asset, whatever route they came by. Beside the routes there is the reaper, which settles
 * what a dead process has left, and the job that verifies what could not be checked on its way.
 */
import { z } from 'zod';
import type { Core } from '../core.ts';
import type { Feature } from '../feature.ts';
import type { App } from '../http/openapi.ts';
import { defineJob, HOUR, nothing } from '../jobs/job.ts';
import { QuotasRepository } from '../quotas/repository.ts';
import { DiskObjectStore } from '../storage/disk/disk-object-store.ts';
import { uploadActions } from './audit.ts';
import { DirectIntake } from './direct-intake.ts';
import { DirectUploadsRepository } from './direct-uploads-repository.ts';
import { Intake } from './intake.ts';
import { reap, uploadsRepository } from './jobs/reap-uploads.ts';
import { verifyAsset, verifyAssetJob } from './jobs/verify-asset.ts';
import { ResumableIntake } from './resumable-intake.ts';
import { ResumableUploadsRepository } from './resumable-uploads-repository.ts';
import { directDoor, diskPartRoute } from './routes/direct.ts';
import { formDoors } from './routes/form.ts';
import { rawDoor } from './routes/raw.ts';
import { resumableDoor } from './routes/resumable.ts';

/** Signs of life of an upload within its lease. */
const LEASE_RENEWALS = 4;
/** A disk gains nothing from more, and memory is saved. */
const DISK_PARTS_IN_FLIGHT = 2;

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
      run: (data, context, { background, store }: Core) =>
        verifyAsset({ agreements: new DirectUploadsRepository(background), store }, data, context),
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
  const { config, database, outbox, store, buffers, admission, policies, metrics, onError, tasks } = core;
  const { uploadLimit, idempotency, toPublicUrl, stopping } = core;
  const records = uploadsRepository(core, database);
  const partsInFlight =
    store.kind === 'disk' ? Math.min(DISK_PARTS_IN_FLIGHT, config.PARTS_IN_FLIGHT) : config.PARTS_IN_FLIGHT;
  const shared = {
    uploads: records,
    quotas: new QuotasRepository(database, config.DEFAULT_QUOTA),
    store,
    outbox,
    buffers,
    admission,
    policies,
    keyPrefix: config.S3_KEY_PREFIX,
    partsInFlight,
    partSize: config.PART_SIZE,
    lease: config.UPLOAD_LEASE / 1000,
    wait: config.UPLOAD_WAIT,
    minimumRate: config.MIN_UPLOAD_RATE,
    rateWindow: config.BODY_TIMEOUT,
    onError,
    onOutcome: (outcome: string, bytes: number) => metrics.upload(outcome, bytes),
  };
  const renewal = config.UPLOAD_LEASE / LEASE_RENEWALS;
  const intake = new Intake({ ...shared, database: database.database, tasks, leaseRenewal: renewal });
  const direct = new DirectIntake({ ...shared, agreements: new DirectUploadsRepository(database) });
  const resumable = new ResumableIntake({
    ...shared,
    agreements: new ResumableUploadsRepository(database),
    expiry: config.RESUMABLE_EXPIRY,
    renewal,
  });
  const door = { intake, uploads: records, uploadLimit, idempotency, stopping };
  await app.register(async (scope) => formDoors(scope as App, door));
  await app.register(async (scope) => rawDoor(scope as App, door));
  await app.register(async (scope) => resumableDoor(scope as App, { ...door, resumable, largest: policies.largest }));
  directDoor(app, { ...door, toPublicUrl, direct, database: database.database });
  if (store instanceof DiskObjectStore)
    await app.register(async (scope) => diskPartRoute(scope as App, { ...shared, store, stopping }));
}
