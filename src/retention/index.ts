/**
 * Life cycle: what becomes of assets with time. Temporary assets are deleted unless somebody keeps them; upload policies and
 * projects say after how many days others are archived or deleted.
 */
import { z } from 'zod';
import { AssetDeletions } from '../assets/deletions.ts';
import { lifeCycleSettings } from '../assets/life-cycle-settings.ts';
import { stepValues } from '../assets/life-cycle-step.ts';
import type { Core } from '../core.ts';
import type { Feature } from '../feature.ts';
import { defineJob, HOUR, MINUTE, nothing } from '../jobs/job.ts';
import { archiveSettings } from '../storage/archive/settings.ts';
import { retentionActions } from './audit.ts';
import { lookThrough, lookThroughJob, noticePolicies } from './jobs/look-through.ts';
import { runRules } from './jobs/run-rules.ts';
import { LooksRepository } from './looks.ts';

export const retention: Feature<Core> = {
  name: 'retention',
  settings: { ...lifeCycleSettings, ...archiveSettings },
  auditActions: retentionActions,
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
