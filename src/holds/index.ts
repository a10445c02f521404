/**
 * Holds and retention: what nobody may delete, for a reason or until a time. The rule itself is `isFree` in
 * database/tables/assets.ts, which every statement that takes bytes away asks; here holds are set and taken off, and an
 * object store that can keep objects by itself (S3 Object Lock) is told of them.
 */
import { z } from 'zod';
import { AssetsRepository } from '../assets/repository.ts';
import type { Core } from '../core.ts';
import { Fault } from '../doctor/check.ts';
import type { Feature } from '../feature.ts';
import { gaugesOf } from '../http/metrics.ts';
import { defineJob, HOUR } from '../jobs/job.ts';
import { holdActions } from './audit.ts';
import { countHeld } from './counting.ts';
import { lockObjects, lockObjectsJob } from './jobs/lock-objects.ts';
import { LockedObjects } from './locked-objects.ts';
import { tooManyHolds } from './problems.ts';
import { HoldsRepository } from './repository.ts';
import { holdRoutes } from './routes.ts';
import { holdSettings } from './settings.ts';

export const holds: Feature<Core> = {
  name: 'holds',
  tags: [{ name: 'Holds', description: 'Keep assets from being deleted, for a reason or until a time' }],
  settings: holdSettings,
  problems: [tooManyHolds],
  auditActions: holdActions,
  routes: (app, core) =>
    holdRoutes(app, {
      holds: new HoldsRepository(core.database, {
        outbox: core.outbox,
        locksObjects: core.store.locks !== undefined,
        longest: core.settings(holdSettings).MAX_RETENTION_DAYS,
      }),
      assets: new AssetsRepository(core.database),
    }),
  jobs: [
    defineJob({
      ...lockObjectsJob,
      data: z.object({ assetId: z.string(), keys: z.array(z.string()) }),
      // The service keeps the asset in any case; the store is told as soon as it answers, or its rights are mended.
      retries: 200,
      longestPause: HOUR,
      run: (data, context, { background, store }: Core) =>
        lockObjects({ records: new LockedObjects(background), locks: store.locks }, data, context),
    }),
  ],
  gauges: ({ background }) =>
    gaugesOf(
      () => countHeld(background.database),
      [
        { name: 'stowage_held_assets', help: 'Assets that a hold keeps', of: ({ holds: count }) => count },
        { name: 'stowage_retained_assets', help: 'Assets whose retention stands', of: ({ retained }) => retained },
      ],
    ),
  checks: ({ store }) => [
    {
      name: 'Object Lock',
      needed: false,
      run: async () => {
        if (!store.locks) return { skipped: 'the disk keeps nothing by itself; holds are those of the service' };
        if (await store.locks.areAvailable({})) return 'the bucket has it: holds and retention are set on objects, too';
        throw new Fault(
          'the bucket does not have it, so holds are those of the service alone: whoever has keys to the bucket may delete what is held. Object Lock is chosen when a bucket is made',
        );
      },
    },
  ],
};
