/**
 * The audit trail is kept for a time that is set, in partitions by month. Rows are written by the statements that change
 * something; see database/audit.ts.
 */
import { count, setting } from '../config.ts';
import type { Core } from '../core.ts';
import { MIN_RETENTION, maintainAuditPartitions } from '../database/audit-partitions.ts';
import type { Feature } from '../feature.ts';
import { defineJob, nothing } from '../jobs/job.ts';

const settings = {
  AUDIT_RETENTION_DAYS: setting(
    'Lifecycle',
    count.refine((days) => days === 0 || days >= MIN_RETENTION, `must be 0 or at least ${MIN_RETENTION}`),
    '400',
    `Days after which audit rows go, by whole months; at least ${MIN_RETENTION}, 0 keeps them for ever.`,
  ),
};

export const audit: Feature<Core> = {
  name: 'audit',
  settings,
  jobs: [
    defineJob({
      name: 'maintain-audit',
      data: nothing,
      retries: 12,
      firstPause: 60,
      schedule: '23 2 * * *',
      run: async (_data, _context, core: Core) => {
        const days = core.settings(settings).AUDIT_RETENTION_DAYS;
        const dropped = await maintainAuditPartitions(core.background.database, days);
        if (dropped > 0) core.log.info({ dropped, days }, 'old months of the audit trail dropped');
      },
    }),
  ],
};
