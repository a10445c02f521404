/** What follows of public assets. Both tables are written by a trigger of `assets`, so no statement forgets them. */
import { sql } from 'drizzle-orm';
import { index, pgTable, primaryKey, text, timestamp, uuid } from 'drizzle-orm/pg-core';
import { moment } from './columns.ts';

/** The public assets of each project that are served, in the order of its gallery. */
export const galleryEntries = pgTable(
  'gallery_entries',
  {
    assetId: uuid('asset_id').primaryKey(),
    projectId: text('project_id').notNull(),
    publishedAt: moment('published_at').notNull(),
  },
  () => [index('gallery_entries_in_order').using('btree', sql`project_id`, sql`published_at`, sql`asset_id`)],
);

/** Public addresses under which there is something else now, or nothing: caches are to forget them. */
export const stalePublicAddresses = pgTable(
  'stale_public_addresses',
  {
    assetId: uuid('asset_id').notNull(),
    /** The file name in the address. */
    name: text('name').notNull(),
    /** To the microsecond, so that a later change of the same address is told from the one that was read. */
    since: timestamp('since', { withTimezone: true, precision: 6, mode: 'string' }).notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.assetId, table.name] }),
    index('stale_public_addresses_since').using('btree', sql`since`),
  ],
);
