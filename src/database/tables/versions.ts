import { sql } from 'drizzle-orm';
import { bigint, index, integer, jsonb, pgTable, primaryKey, text, uuid } from 'drizzle-orm/pg-core';
import { assets } from './assets.ts';
import { bytea, moment } from './columns.ts';
import type { Facts, Original, ProcessingRecord, Scan } from './processing-record.ts';

/**
 * Uploads whose bytes are to take the place of those of an asset. The upload has a record of its own (`assets`, `uploading`)
 * until it is settled; then that record goes, and this row tells what became of it. It is kept a while for whoever asks again.
 */
export const replacements = pgTable(
  'replacements',
  {
    uploadId: uuid('upload_id').primaryKey(),
    assetId: uuid('asset_id').notNull(),
    /** Who uploads. */
    uploaderId: text('uploader_id').notNull(),
    /** Version of the record that If-Match named; absent for any. */
    expectedVersion: integer('expected_version'),
    /** The name that the asset is to have; absent where it keeps its own. */
    name: text('name'),
    begunAt: moment('begun_at').notNull(),
    /** When all its bytes were there and checked. Of two that wait for steps of processing, the later one stays. */
    acceptedAt: moment('accepted_at'),
    settledAt: moment('settled_at'),
    /** The content that it has become. */
    contentVersion: integer('content_version'),
  },
  () => [
    index('replacements_of_asset').using('btree', sql`asset_id`),
    index('replacements_by_age').using('btree', sql`begun_at`),
  ],
);

/** Former bytes of assets that are kept, a row each: what the record said of them. They count toward the quota. */
export const assetVersions = pgTable(
  'asset_versions',
  {
    assetId: uuid('asset_id')
      .notNull()
      .references(() => assets.id, { onDelete: 'cascade' }),
    /** `content_version` of the asset when it had these bytes. */
    number: integer('number').notNull(),
    name: text('name').notNull(),
    mediaType: text('media_type').notNull(),
    size: bigint('size', { mode: 'number' }).notNull(),
    sha256: bytea('sha256'),
    objectKey: text('object_key').notNull(),
    cacheControl: text('cache_control'),
    scan: jsonb('scan').$type<Scan>(),
    facts: jsonb('facts').$type<Facts>(),
    original: jsonb('original').$type<Original>(),
    thumbHash: text('thumb_hash'),
    processing: jsonb('processing').$type<ProcessingRecord>(),
    /** When the asset was given these bytes. */
    storedAt: moment('stored_at').notNull(),
    /** When other bytes took their place. */
    replacedAt: moment('replaced_at').notNull(),
  },
  (table) => [primaryKey({ columns: [table.assetId, table.number] })],
);
