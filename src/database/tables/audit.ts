import { sql } from 'drizzle-orm';
import { bigint, check, date, index, jsonb, pgTable, text, uuid } from 'drizzle-orm/pg-core';
import { bytea, moment } from './columns.ts';

const given = {
  action: text('action').notNull(),
  actorId: text('actor_id').notNull(),
  ownerId: text('owner_id').notNull(),
  assetId: uuid('asset_id'),
  requestId: text('request_id'),
  detail: jsonb('detail').$type<Record<string, unknown>>().notNull().default({}),
  /** The credential by which the actor was spoken for: `key:{id}` or `ticket:{id}`. */
  via: text('via'),
  projectId: text('project_id'),
  /** Why, in the words of whoever acted. */
  reason: text('reason'),
};

/**
 * Append-only (triggers refuse UPDATE, DELETE and TRUNCATE): who did what to which asset, one row per change of state.
 * Partitioned by month; `audit_events_maintain` in the migrations makes the partitions and drops old ones, see
 * database/audit-partitions.ts. No primary key: it would have to hold the time too, and the sequence keeps ids apart.
 */
export const auditEvents = pgTable(
  'audit_events',
  {
    id: bigint('id', { mode: 'bigint' }).notNull().default(sql`nextval('audit_events_number')`),
    at: moment('at').notNull().defaultNow(),
    ...given,
  },
  () => [
    index('audit_events_by_asset').using('btree', sql`asset_id`, sql`id`),
    index('audit_events_by_owner').using('btree', sql`owner_id`, sql`id`),
    index('audit_events_by_actor').using('btree', sql`actor_id`, sql`id`),
    index('audit_events_by_project').using('btree', sql`project_id`, sql`id`).where(sql`project_id is not null`),
    // A day in its order, for its seal; and all rows, the latest first.
    index('audit_events_by_time').using('btree', sql`at`, sql`id`),
  ],
);

/** The same table as it is written. `insert ... select` of drizzle-orm names every column, and Postgres gives the others. */
export const auditRows = pgTable('audit_events', given);

/**
 * Append-only: what the rows of each past day came to, in a chain. See audit/seals.ts.
 */
export const auditSeals = pgTable(
  'audit_seals',
  {
    /** In UTC. */
    day: date('day').primaryKey(),
    rows: bigint('rows', { mode: 'number' }).notNull(),
    /** SHA-256 over the digest of the day before and the rows of this one. */
    digest: bytea('digest').notNull(),
    sealedAt: moment('sealed_at').notNull().defaultNow(),
  },
  () => [check('audit_seals_digest', sql`octet_length(digest) = 32`)],
);
