/**
 * The audit trail: read by people, sealed day by day, and kept for a time that is set, in partitions by month. Rows are
 * written by the statements that change something; see database/audit.ts.
 */
import { AssetsRepository } from '../assets/repository.ts';
import type { Core } from '../core.ts';
import { maintainAuditPartitions } from '../database/audit-partitions.ts';
import type { Feature } from '../feature.ts';
import { defineJob, HOUR, nothing } from '../jobs/job.ts';
import { AuditRepository } from './repository.ts';
import { auditRoutes } from './routes.ts';
import { sealPastDays } from './seals.ts';
import { auditSettings, retentionOf } from './settings.ts';

export const audit: Feature<Core> = {
  name: 'audit',
  settings: auditSettings,
  tags: [{ name: 'Audit', description: 'What happened, and who did it' }],
  routes: (app, { database, downloads }) =>
    auditRoutes(app, {
      audit: new AuditRepository(database.database),
      assets: new AssetsRepository(database),
      database: database.database,
      places: downloads,
    }),
  jobs: [
    defineJob({
      name: 'seal-audit',
      keepsObjects: true,
      data: nothing,
      retries: 12,
      firstPause: 60,
      limit: 12 * HOUR,
      // Each hour, so that a service that does not run at night seals as well.
      schedule: '41 * * * *',
      run: async (_data, { signal }, core: Core) => {
        // The log lies elsewhere than the database: what it tells can be compared with.
        for (const { day, rows, digest } of await sealPastDays(core.background, signal))
          core.log.info({ day, rows, digest: digest.toString('hex') }, 'a day of the audit trail was sealed');
      },
    }),
    defineJob({
      name: 'maintain-audit',
      data: nothing,
      retries: 12,
      firstPause: 60,
      schedule: '23 2 * * *',
      run: async (_data, _context, core: Core) => {
        const days = retentionOf(core.settings(auditSettings));
        const dropped = await maintainAuditPartitions(core.background.database, days);
        if (dropped > 0) core.log.info({ dropped, days }, 'old months of the audit trail dropped');
      },
    }),
  ],
};
