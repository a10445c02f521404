import { sql } from 'drizzle-orm';
import { bigint, index, jsonb, pgTable, text, uuid } from 'drizzle-orm/pg-core';
import { moment } from './columns.ts';

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
  ],
);

/** The same table as it is written. `insert ... select` of drizzle-orm names every column, and Postgres gives the others. */
export const auditRows = pgTable('audit_events', given);
