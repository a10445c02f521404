/** Tables that are there for one connection: a restore compares the manifest of a backup with the object store by them. */
import { sql } from 'drizzle-orm';
import { bigint, boolean, pgTable, text, uuid } from 'drizzle-orm/pg-core';
import { bytea, moment } from './columns.ts';

export const manifestOfBackup = pgTable('manifest_of_backup', {
  key: text('key').notNull(),
  size: bigint('size', { mode: 'number' }).notNull(),
  sha256: bytea('sha256'),
  kind: text('kind', { enum: ['original', 'version', 'derivative'] }).notNull(),
  assetId: uuid('asset_id').notNull(),
  isExpected: boolean('is_expected').notNull(),
});
export const listingOfStore = pgTable('listing_of_store', {
  key: text('key').notNull(),
  size: bigint('size', { mode: 'number' }).notNull(),
  lastModified: moment('last_modified').notNull(),
});

export const createComparison = [
  sql`create temporary table ${manifestOfBackup} (key text not null, size bigint not null, sha256 bytea, kind text not null, asset_id uuid not null, is_expected boolean not null)`,
  sql`create temporary table ${listingOfStore} (key text not null, size bigint not null, last_modified timestamptz not null)`,
];
export const indexComparison = [
  sql`create index on ${manifestOfBackup} (key)`,
  sql`create index on ${listingOfStore} (key)`,
  sql`analyze ${manifestOfBackup}`,
  sql`analyze ${listingOfStore}`,
];
