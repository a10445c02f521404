import { sql } from 'drizzle-orm';
import { bigint, index, integer, jsonb, pgTable, primaryKey, text, uuid } from 'drizzle-orm/pg-core';
import { bytea, moment } from './columns.ts';

/** What was answered to requests that carry an Idempotency-Key, or that such a request is running. */
export const idempotencyKeys = pgTable(
  'idempotency_keys',
  {
    callerId: text('caller_id').notNull(),
    key: text('key').notNull(),
    /** `operationId` of the request; absent in rows of an earlier version. */
    operation: text('operation'),
    /** SHA-256 over operation and parameters: another request under the same key is refused. */
    fingerprint: bytea('fingerprint').notNull(),
    /** Bytes of the file, where the request said so: as it was framed, so no part of the fingerprint. */
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
