/** Settings of the audit trail. */
import { z } from 'zod';
import { count, optional, type SettingValues, setting } from '../config.ts';
import { MIN_RETENTION } from '../database/audit-partitions.ts';

/** Days; 0 is for ever. */
const retention = z
  .string()
  .regex(/^(forever|0|\d{1,9}d)$/, 'must be forever, or days such as 400d')
  .transform((text) => (text === 'forever' ? 0 : Number.parseInt(text, 10)))
  .refine((days) => days === 0 || days >= MIN_RETENTION, `must be forever or at least ${MIN_RETENTION}d`);

export const auditSettings = {
  AUDIT_RETENTION: setting(
    'Lifecycle',
    optional(retention),
    undefined,
    `How long audit rows are kept, by whole months: forever, or days such as 400d, at least ${MIN_RETENTION}d; as AUDIT_RETENTION_DAYS says when absent.`,
  ),
  AUDIT_RETENTION_DAYS: setting(
    'Lifecycle',
    count.refine((days) => days === 0 || days >= MIN_RETENTION, `must be 0 or at least ${MIN_RETENTION}`),
    '0',
    `The earlier name of AUDIT_RETENTION, a number of days; at least ${MIN_RETENTION}, 0 keeps them for ever.`,
  ),
};

/** Days for which audit rows are kept; 0 is for ever. */
export function retentionOf(values: SettingValues<typeof auditSettings>): number {
  return values.AUDIT_RETENTION ?? values.AUDIT_RETENTION_DAYS;
}
