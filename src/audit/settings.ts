/** Settings of the audit trail. */
import { count, setting } from '../config.ts';
import { MIN_RETENTION } from '../database/audit-partitions.ts';

export const auditSettings = {
  AUDIT_RETENTION_DAYS: setting(
    'Lifecycle',
    count.refine((days) => days === 0 || days >= MIN_RETENTION, `must be 0 or at least ${MIN_RETENTION}`),
    '0',
    `Days after which audit rows go, by whole months; at least ${MIN_RETENTION}, 0 keeps them for ever.`,
  ),
};
