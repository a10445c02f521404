/**
 * What an owner has stored, counted by whatever an application shows: kinds, projects, days. Counters are kept by the
 * statements that change assets (see database/tables/statistics.ts), so asking costs the same however many assets there are.
 */
import type { Core } from '../core.ts';
import type { Feature } from '../feature.ts';
import { defineJob, nothing } from '../jobs/job.ts';
import { usageActions } from './audit.ts';
import { forgetEmptyStatistics } from './drift.ts';
import { UsageRepository } from './repository.ts';
import { usageRoutes } from './routes.ts';

export const usage: Feature<Core> = {
  name: 'usage',
  auditActions: usageActions,
  routes: (app, { database }) => usageRoutes(app, { usage: new UsageRepository(database.database) }),
  jobs: [
    defineJob({
      name: 'forget-statistics',
      data: nothing,
      schedule: '7 * * * *',
      run: (_data, _context, { background }: Core) => forgetEmptyStatistics(background.database),
    }),
  ],
};
