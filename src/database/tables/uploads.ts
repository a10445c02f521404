import { sql } from 'drizzle-orm';
import { bigint, check, integer, jsonb, pgTable, primaryKey, text, uuid } from 'drizzle-orm/pg-core';
import { assets } from './assets.ts';
import { bytea, moment } from './columns.ts';

/** `direct`: the bytes go straight to the store. `resumable`: they come through the service, in any number of requests. */
export const sessionKinds = ['direct', 'resumable'] as const;

/** Uploads whose bytes come in several requests: what was agreed on with the client, and how far they are. Gone with the record. */
export const uploadSessions = pgTable(
  'upload_sessions',
  {
    assetId: uuid('asset_id')
      .primaryKey()
      .references(() => assets.id, { onDelete: 'cascade' }),
    kind: text('kind', { enum: sessionKinds }).notNull(),
    /** Of the object store; absent until the upload has begun there. */
    storeUploadId: text('store_upload_id'),
    partSize: bigint('part_size', { mode: 'number' }).notNull(),
    /** Bytes of the file; absent until the client says so. */
    size: bigint('size', { mode: 'number' }),
    declaredType: text('declared_type'),
    assetType: text('asset_type'),
    /** Declared by the client. */
    sha256: bytea('sha256'),
    expiresAt: moment('expires_at').notNull(),
    /** Of a resumable upload: bytes that are safe, in parts and in the tail. */
    position: bigint('position', { mode: 'number' }).notNull().default(0),
    /** Where the tail begins, of which `upload_tails` has the bytes; absent where there is none. */
    tailBegin: bigint('tail_begin', { mode: 'number' }),
    /** The tail as version 0.1 keeps it, rewritten with every request. Whoever takes the upload over moves it. */
    tail: bytea('tail'),
    /** Counts who took the upload over, so that nobody does who has seen an older state. */
    takes: integer('takes').notNull().default(0),
    /** The header field, to be told as it was sent. */
    uploadMetadata: text('upload_metadata'),
    /** The one request that may write; a newer one takes over. */
    holder: uuid('holder'),
    /** Told by the bytes when the first part was sent: media type, and the asset type whose policy allows it. */
    validatedType: text('validated_type'),
    validatedPolicy: text('validated_policy'),
    /** The upload policies in question, as they were: settings that change meanwhile do not change what was agreed on. */
    policies: jsonb('policies'),
  },
  () => [
    check('upload_sessions_kind', sql`kind in ('direct', 'resumable')`),
    check(
      'upload_sessions_direct',
      sql`kind <> 'direct' or (size is not null and declared_type is not null and asset_type is not null)`,
    ),
    // Version 0.1 knows no rows of the tail: beside this one it fails where it would go on behind bytes that it has not seen.
    check(
      'upload_sessions_tail',
      sql`tail_begin is null or (tail is null and position > tail_begin and position <= tail_begin + part_size)`,
    ),
  ],
);

/**
 * What resumable uploads have brought that fills no part yet: rows in order, without a gap, one of them begins where the
 * parts end. They are added to, and gone when a part has them.
 */
export const uploadTails = pgTable(
  'upload_tails',
  {
    assetId: uuid('asset_id')
      .notNull()
      .references(() => uploadSessions.assetId, { onDelete: 'cascade' }),
    /** Bytes of the file before these. */
    begin: bigint('begin', { mode: 'number' }).notNull(),
    bytes: bytea('bytes').notNull(),
  },
  (table) => [primaryKey({ columns: [table.assetId, table.begin] })],
);

/** Parts of resumable uploads that the store has and that count. */
export const uploadParts = pgTable(
  'upload_parts',
  {
    assetId: uuid('asset_id')
      .notNull()
      .references(() => uploadSessions.assetId, { onDelete: 'cascade' }),
    partNumber: integer('part_number').notNull(),
    etag: text('etag').notNull(),
    size: bigint('size', { mode: 'number' }).notNull(),
  },
  (table) => [primaryKey({ columns: [table.assetId, table.partNumber] })],
);
