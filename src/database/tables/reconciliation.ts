import { bigint, boolean, jsonb, pgTable, primaryKey, text, uuid } from 'drizzle-orm/pg-core';
import { moment } from './columns.ts';

/** What a reconciliation found in the object store, to be compared with the records. Unlogged: of use during the run only. */
export const reconcileObjects = pgTable(
  'reconcile_objects',
  {
    runId: uuid('run_id').notNull(),
    key: text('key').notNull(),
    /** Of keys that are made like ours. */
    assetId: uuid('asset_id'),
    size: bigint('size', { mode: 'number' }).notNull(),
    lastModified: moment('last_modified').notNull(),
  },
  (table) => [primaryKey({ columns: [table.runId, table.key] })],
);

/** The outcome of each reconciliation; metrics tell the last one. */
export const reconcileRuns = pgTable('reconcile_runs', {
  id: uuid('id').primaryKey(),
  startedAt: moment('started_at').notNull(),
  finishedAt: moment('finished_at'),
  dryRun: boolean('dry_run').notNull(),
  outcome: text('outcome').notNull(),
  report: jsonb('report').$type<Record<string, number>>().notNull().default({}),
});
