import { sql } from 'drizzle-orm';
import { bigint, pgTable, primaryKey, text } from 'drizzle-orm/pg-core';
import { assets } from './assets.ts';

/** By what the assets of an owner are counted. Of `metadata` the bytes are those of the JSON that is kept with them. */
export const dimensions = ['assetType', 'mediaType', 'project', 'day', 'metadata'] as const;

/**
 * Counts and bytes of the visible assets of each owner, by each dimension. Nobody writes it but the triggers of the table
 * `assets` (`count_assets` in the migrations), which count in the statement that changes an asset, whoever sends it; and the
 * reconciler, which adds what is missing. Rows of owner, dimension and value are locked in that order, after the row of
 * the quota.
 */
export const assetStatistics = pgTable(
  'asset_statistics',
  {
    ownerId: text('owner_id').notNull(),
    dimension: text('dimension', { enum: dimensions }).notNull(),
    /** Empty for assets without a project, and for metadata. A day is `YYYY-MM-DD` in UTC; see STATISTICS_DAYS. */
    value: text('value').notNull(),
    files: bigint('files', { mode: 'number' }).notNull(),
    bytes: bigint('bytes', { mode: 'number' }).notNull(),
  },
  (table) => [primaryKey({ columns: [table.ownerId, table.dimension, table.value] })],
);

/** Days for which assets are counted by day of upload; the trigger has the same number. */
export const STATISTICS_DAYS = 30;

/** What one asset adds to the statistics, one row per dimension: the function that the triggers use, and its columns. */
export const assetCounters = sql`asset_counters(${assets.ownerId}, ${assets.state}, ${assets.assetType}, ${assets.mediaType},
  ${assets.projectId}, ${assets.createdAt}, 1, ${assets.size}, ${assets.metadata}) as counter`;
export const assetCounter = {
  ownerId: sql<string>`counter.owner_id`,
  dimension: sql<string>`counter.dimension`,
  value: sql<string>`counter.value`,
  files: sql`counter.files`,
  bytes: sql`counter.bytes`,
};
