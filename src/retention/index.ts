/**
 * Life cycle: what becomes of assets with time. Temporary assets are deleted unless somebody keeps them; upload policies and
 * projects say after how many days others are archived or deleted.
 */
import { z } from 'zod';
import { AssetDeletions } from '../assets/deletions.ts';
import { lifeCycleSettings } from '../assets/life-cycle-settings.ts';
import { stepValues } from '../assets/life-cycle-step.ts';
import { publicityOf } from '../assets/publicity.ts';
import { AssetsRepository } from '../assets/repository.ts';
import type { Core } from '../core.ts';
import { type Feature, subscribe } from '../feature.ts';
import { defineJob, HOUR, MINUTE, nothing } from '../jobs/job.ts';
import { lifeCycleChanged } from '../projects/events.ts';
import { archiveSettings } from '../storage/archive/settings.ts';
import { retentionActions } from './audit.ts';
import { dryRunRoutes } from './dry-run-routes.ts';
import { archiveAsset } from './jobs/archive-asset.ts';
import { lookThrough, lookThroughJob, noticePolicies, SETTLING } from './jobs/look-through.ts';
import { restoreAsset } from './jobs/restore-asset.ts';
import { archiveJob, runRules } from './jobs/run-rules.ts';
import { LooksRepository } from './looks.ts';
import { MovesRepository, restoreJob } from './moves.ts';
import { retentionProblems, retentionRoutes } from './routes.ts';

export const retention: Feature<Core> = {
  name: 'retention',
  settings: { ...lifeCycleSettings, ...archiveSettings },
  auditActions: retentionActions,
  problems: retentionProblems,
  routes: (app, core) => {
    const { database, outbox, store } = core;
    const hasArchive = store.archive !== undefined;
    retentionRoutes(app, {
      assets: new AssetsRepository(database),
      moves: new MovesRepository(database, outbox),
      publicityOf: publicityOf(core),
      hasArchive,
    });
    const looks = new LooksRepository(core.background);
    dryRunRoutes(app, { looks, rules: stepValues(core), database: database.database });
  },
  on: [
    subscribe(lifeCycleChanged, (transaction, { projectId }, { outbox }: Core) =>
      outbox.send(transaction, lookThroughJob, { projectId }, { startAfter: SETTLING }),
    ),
  ],
  jobs: [
    defineJob({
      name: 'life-cycle',
      data: nothing,
      retries: 3,
      firstPause: 30,
      longestPause: 5 * MINUTE,
      limit: HOUR,
      schedule: '*/5 * * * *',
      run: async (_data, context, core: Core) => {
        const { background, outbox } = core;
        const looks = new LooksRepository(background);
        const rules = stepValues(core);
        await noticePolicies({ looks, outbox }, rules.policies, context);
        const deletions = new AssetDeletions(background, outbox);
        const report = await runRules({ looks, deletions, outbox, rules }, context);
        if (report.looked > 0) core.log.info(report, 'rules of the life cycle applied');
      },
    }),
    defineJob({
      ...archiveJob,
      data: z.object({ assetId: z.string() }),
      // The next look at the asset asks for it again.
      retries: 5,
      firstPause: 60,
      longestPause: HOUR,
      // Moves a large file.
      limit: 12 * HOUR,
      concurrency: 2,
      run: async (data, context, core: Core) => {
        await archiveAsset(core, stepValues(core), data, context);
      },
    }),
    defineJob({
      ...restoreJob,
      data: z.object({ assetId: z.string(), requestedAt: z.string() }),
      // Somebody waits for it; an archive may be away for a day.
      retries: 200,
      firstPause: 5,
      limit: 12 * HOUR,
      concurrency: 2,
      run: (data, context, core: Core) => restoreAsset(core, data, context),
    }),
    defineJob({
      ...lookThroughJob,
      data: z.strictObject({
        projectId: z.string().optional(),
        isTrash: z.boolean().optional(),
        assetTypes: z.array(z.string()).optional(),
        afterTime: z.string().optional(),
        afterId: z.string().optional(),
      }),
      retries: 20,
      limit: HOUR,
      run: (place, context, { background, outbox }: Core) =>
        lookThrough({ looks: new LooksRepository(background), outbox }, place, context),
    }),
  ],
};
