/**
 * The tables. drizzle-kit derives the migrations from this file (`npm run migrations:generate`); what it cannot express
 * (the append-only trigger, the unlogged counter) stands in hand-written migrations beside the generated ones.
 */
import { sql } from 'drizzle-orm';
import {
  bigint,
  boolean,
  check,
  customType,
  index,
  integer,
  jsonb,
  pgTable,
  primaryKey,
  text,
  timestamp,
  uuid,
} from 'drizzle-orm/pg-core';

const bytea = customType<{ data: Buffer }>({ dataType: () => 'bytea' });
/** Millisecond precision, so that a Date holds exactly what the column holds and keyset cursors are exact. */
const moment = (name: string) => timestamp(name, { withTimezone: true, precision: 3, mode: 'date' });

/** `ready` alone is served. `uploading` and `deleting` are never shown: such an upload is no asset yet, or none any more. */
export const assetStates = ['uploading', 'processing', 'ready', 'rejected', 'lost', 'deleting'] as const;
export const visibleStates = ['processing', 'ready', 'rejected', 'lost'] as const;
export type AssetState = (typeof assetStates)[number];

const visible = sql.raw(`state in ('processing', 'ready', 'rejected', 'lost')`);
const listed = sql`${visible} and trashed_at is null`;

/** One row per owner who ever uploaded or was given a limit. `used + reserved` never passes the limit by an upload. */
export const quotas = pgTable(
  'quotas',
  {
    ownerId: text('owner_id').primaryKey(),
    /** Absent: the configured default, whatever it is at the time. */
    limitBytes: bigint('limit_bytes', { mode: 'bigint' }),
    usedBytes: bigint('used_bytes', { mode: 'bigint' }).notNull().default(sql`0`),
    reservedBytes: bigint('reserved_bytes', { mode: 'bigint' }).notNull().default(sql`0`),
    fileCount: bigint('file_count', { mode: 'bigint' }).notNull().default(sql`0`),
  },
  () => [
    check('quotas_not_negative', sql`limit_bytes >= 0 and used_bytes >= 0 and reserved_bytes >= 0 and file_count >= 0`),
  ],
);

export const assets = pgTable(
  'assets',
  {
    id: uuid('id').primaryKey(),
    ownerId: text('owner_id').notNull(),
    projectId: text('project_id'),
    name: text('name').notNull(),
    state: text('state', { enum: assetStates }).notNull(),
    /** These are known from the moment the bytes are stored and checked; the digest only where the bytes were read. */
    assetType: text('asset_type'),
    mediaType: text('media_type'),
    size: bigint('size', { mode: 'number' }),
    sha256: bytea('sha256'),
    /** Why it was rejected; a problem type. */
    reason: text('reason'),
    metadata: jsonb('metadata').$type<Record<string, string>>().notNull().default({}),
    /** Opaque, fresh for every upload, written once. */
    objectKey: text('object_key').notNull(),
    cacheControl: text('cache_control'),
    /** Counts the changes of the record; the entity tag is made of it. */
    version: integer('version').notNull().default(1),
    createdAt: moment('created_at').notNull(),
    updatedAt: moment('updated_at').notNull(),
    trashedAt: moment('trashed_at'),
    /** Of an upload: bytes held in the owner's `reserved`, and when the upload counts as abandoned. */
    reservedBytes: bigint('reserved_bytes', { mode: 'number' }).notNull().default(0),
    leaseExpiresAt: moment('lease_expires_at'),
  },
  () => [
    check('assets_state', sql.raw(`state in ('uploading', 'processing', 'ready', 'rejected', 'lost', 'deleting')`)),
    check(
      'assets_complete',
      sql`state in ('uploading', 'deleting') or (size is not null and media_type is not null and asset_type is not null)`,
    ),
    check('assets_reservation', sql`reserved_bytes >= 0 and (state = 'uploading' or reserved_bytes = 0)`),
    // One index per order of the list, and per filter that narrows it; see the EXPLAIN tests in tests/integration/list-scale.test.ts.
    index('assets_by_created').using('btree', sql`owner_id`, sql`created_at`, sql`id`).where(listed),
    index('assets_by_name').using('btree', sql`owner_id`, sql`lower(name) collate "C"`, sql`id`).where(listed),
    index('assets_by_size').using('btree', sql`owner_id`, sql`size`, sql`id`).where(listed),
    index('assets_by_project').using('btree', sql`owner_id`, sql`project_id`, sql`created_at`, sql`id`).where(listed),
    index('assets_by_asset_type')
      .using('btree', sql`owner_id`, sql`asset_type`, sql`created_at`, sql`id`)
      .where(listed),
    index('assets_by_media_type')
      .using('btree', sql`owner_id`, sql`media_type`, sql`created_at`, sql`id`)
      .where(listed),
    index('assets_trashed')
      .using('btree', sql`owner_id`, sql`created_at`, sql`id`)
      .where(sql`${visible} and trashed_at is not null`),
    index('assets_trashed_since').using('btree', sql`trashed_at`).where(sql`${visible} and trashed_at is not null`),
    index('assets_uploading').using('btree', sql`lease_expires_at`).where(sql`state = 'uploading'`),
    index('assets_deleting').using('btree', sql`updated_at`).where(sql`state = 'deleting'`),
  ],
);

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

/** Append-only (a trigger refuses UPDATE and DELETE): who did what to which asset, one row per change of state. */
export const auditEvents = pgTable(
  'audit_events',
  {
    id: bigint('id', { mode: 'bigint' }).primaryKey().generatedAlwaysAsIdentity(),
    at: moment('at').notNull().defaultNow(),
    action: text('action').notNull(),
    actorId: text('actor_id').notNull(),
    ownerId: text('owner_id').notNull(),
    assetId: uuid('asset_id'),
    requestId: text('request_id'),
    detail: jsonb('detail').$type<Record<string, unknown>>().notNull().default({}),
  },
  () => [
    index('audit_events_by_asset').using('btree', sql`asset_id`, sql`id`),
    index('audit_events_by_owner').using('btree', sql`owner_id`, sql`id`),
  ],
);

/** Uploads begun per caller and window, shared by all instances. Unlogged: a crash of Postgres may forget it. */
export const uploadCounts = pgTable('upload_counts', {
  callerId: text('caller_id').primaryKey(),
  windowEndsAt: moment('window_ends_at').notNull(),
  uploads: integer('uploads').notNull(),
});

/** What was answered to requests that carry an Idempotency-Key, or that such a request is running. */
export const idempotencyKeys = pgTable(
  'idempotency_keys',
  {
    callerId: text('caller_id').notNull(),
    key: text('key').notNull(),
    /** SHA-256 over operation and parameters: another request under the same key is refused. */
    fingerprint: bytea('fingerprint').notNull(),
    /** Bytes of the file that was uploaded, where the request did not name its digest. */
    size: bigint('size', { mode: 'number' }),
    /** Names the one attempt that may answer. */
    claim: uuid('claim').notNull(),
    leaseExpiresAt: moment('lease_expires_at').notNull(),
    /** Of an upload, once its record exists: tells after a crash what became of it. */
    assetId: uuid('asset_id'),
    /** Absent while the request runs. */
    status: integer('status'),
    headers: jsonb('headers').$type<Record<string, string>>(),
    /** As text: what is sent again is the same to the byte. */
    body: text('body'),
    createdAt: moment('created_at').notNull().defaultNow(),
  },
  (table) => [
    primaryKey({ columns: [table.callerId, table.key] }),
    index('idempotency_keys_by_age').using('btree', sql`created_at`),
    index('idempotency_keys_by_asset').using('btree', sql`asset_id`).where(sql`asset_id is not null`),
  ],
);

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
