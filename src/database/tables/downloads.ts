import { sql } from 'drizzle-orm';
import { bigint, index, pgTable, uuid } from 'drizzle-orm/pg-core';
import { moment } from './columns.ts';

/**
 * One row per download that was not added up yet: many downloads of one file at once wait for nobody, as none changes a row
 * that another one changes. A job adds them up and takes them away.
 */
export const downloadMarks = pgTable(
  'download_marks',
  {
    assetId: uuid('asset_id').notNull(),
    at: moment('at').notNull().defaultNow(),
  },
  () => [index('download_marks_by_asset').using('btree', sql`asset_id`)],
);

/** Downloads that were added up. Gone with the asset; without a foreign key, so that adding up locks no asset. */
export const downloadCounts = pgTable('download_counts', {
  assetId: uuid('asset_id').primaryKey(),
  downloads: bigint('downloads', { mode: 'number' }).notNull(),
  lastAt: moment('last_at').notNull(),
});
