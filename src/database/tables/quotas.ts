import { sql } from 'drizzle-orm';
import { bigint, check, index, pgTable, text } from 'drizzle-orm/pg-core';

/** One row per account that ever took bytes or was given a limit: an owner, or a project that has a quota of its own; see quotas/accounts.ts. `used + reserved` never passes the limit by an upload. */
export const quotas = pgTable(
  'quotas',
  {
    account: text('owner_id').primaryKey(),
    /** Absent: the configured default, whatever it is at the time. */
    limitBytes: bigint('limit_bytes', { mode: 'bigint' }),
    usedBytes: bigint('used_bytes', { mode: 'bigint' }).notNull().default(sql`0`),
    reservedBytes: bigint('reserved_bytes', { mode: 'bigint' }).notNull().default(sql`0`),
    fileCount: bigint('file_count', { mode: 'bigint' }).notNull().default(sql`0`),
    /** That an administrator has given an owner; it counts for more than what his tokens say. */
    tier: text('tier'),
  },
  () => [
    // Of pages of owners: by usage, and those of a tier.
    index('quotas_by_usage').using('btree', sql`used_bytes`, sql`owner_id`),
    index('quotas_by_tier').using('btree', sql`coalesce(tier, '')`, sql`owner_id`),
    check('quotas_not_negative', sql`limit_bytes >= 0 and used_bytes >= 0 and reserved_bytes >= 0 and file_count >= 0`),
  ],
);
