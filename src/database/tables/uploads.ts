import { bigint, integer, pgTable, primaryKey, text, uuid } from 'drizzle-orm/pg-core';
import { assets } from './assets.ts';
import { bytea, moment } from './columns.ts';

/** Uploads whose bytes come in several requests: what was agreed on with the client, for the life of the asset. */
export const multipartUploads = pgTable('multipart_uploads', {
  assetId: uuid('asset_id')
    .primaryKey()
    .references(() => assets.id, { onDelete: 'cascade' }),
  /** Of the object store; absent until it has been created there. */
  storeUploadId: text('store_upload_id'),
  partSize: bigint('part_size', { mode: 'number' }).notNull(),
  /** Bytes of the file. */
  size: bigint('size', { mode: 'number' }).notNull(),
  declaredType: text('declared_type').notNull(),
  assetType: text('asset_type').notNull(),
  /** Declared by the client. */
  sha256: bytea('sha256'),
  expiresAt: moment('expires_at').notNull(),
});

/** Uploads by tus: how far they are, and the bytes that do not fill a part yet. Gone with the record. */
export const resumableUploads = pgTable('resumable_uploads', {
  assetId: uuid('asset_id')
    .primaryKey()
    .references(() => assets.id, { onDelete: 'cascade' }),
  /** Absent until the first part is sent. */
  storeUploadId: text('store_upload_id'),
  partSize: bigint('part_size', { mode: 'number' }).notNull(),
  /** Bytes of the file; absent until the client says so. */
  size: bigint('size', { mode: 'number' }),
  /** Bytes that are safe: all parts and the tail. */
  position: bigint('position', { mode: 'number' }).notNull().default(0),
  /** What came after the last whole part. */
  tail: bytea('tail'),
  /** The one request that may write; a newer one takes over. */
  holder: uuid('holder'),
  declaredType: text('declared_type'),
  assetType: text('asset_type'),
  /** Told by the bytes when the first part was sent. */
  mediaType: text('media_type'),
  policy: text('policy'),
  expiresAt: moment('expires_at').notNull(),
});

export const resumableParts = pgTable(
  'resumable_parts',
  {
    assetId: uuid('asset_id')
      .notNull()
      .references(() => resumableUploads.assetId, { onDelete: 'cascade' }),
    partNumber: integer('part_number').notNull(),
    etag: text('etag').notNull(),
    size: bigint('size', { mode: 'number' }).notNull(),
  },
  (table) => [primaryKey({ columns: [table.assetId, table.partNumber] })],
);
