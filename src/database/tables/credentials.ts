import { sql } from 'drizzle-orm';
import { bigint, boolean, check, index, integer, jsonb, pgTable, text, uniqueIndex, uuid } from 'drizzle-orm/pg-core';
import { bytea, moment } from './columns.ts';

/** API keys of servers. The secret is shown once; only its digest is here. */
export const apiKeys = pgTable(
  'api_keys',
  {
    id: uuid('id').primaryKey(),
    /** For whom it speaks unless it acts for others, and who may see and revoke it. */
    ownerId: text('owner_id').notNull(),
    name: text('name').notNull(),
    /** SHA-256 of the secret. */
    digest: bytea('digest').notNull(),
    scopes: text('scopes').array().notNull(),
    /** The only projects for which it is good; absent: all that its owner reaches. */
    projects: text('projects').array(),
    createdAt: moment('created_at').notNull().defaultNow(),
    expiresAt: moment('expires_at'),
    /** To the hour. */
    lastUsedAt: moment('last_used_at'),
    revokedAt: moment('revoked_at'),
  },
  () => [
    uniqueIndex('api_keys_by_digest').using('btree', sql`digest`),
    index('api_keys_by_owner').using('btree', sql`owner_id`, sql`created_at`, sql`id`),
  ],
);

/** Upload tickets for browsers of end users: the right to upload, within limits that are counted here. */
export const tickets = pgTable(
  'tickets',
  {
    id: uuid('id').primaryKey(),
    /** Who gave it out, and may revoke it. */
    issuedBy: text('issued_by').notNull(),
    /** Who uploads. */
    subject: text('subject').notNull(),
    /** SHA-256 of the token. */
    digest: bytea('digest').notNull(),
    projectId: text('project_id'),
    /** The issuer may upload there by what his token said; no row tells whether he still may. */
    byClaim: boolean('by_claim').notNull().default(false),
    assetType: text('asset_type'),
    mediaTypes: text('media_types').array(),
    /** Bytes of one file. */
    maxFileSize: bigint('max_file_size', { mode: 'number' }),
    maxFiles: integer('max_files'),
    /** Bytes of all files. */
    maxBytes: bigint('max_bytes', { mode: 'number' }),
    /** Given to each asset, whatever the page says. */
    metadata: jsonb('metadata').$type<Record<string, string>>().notNull().default({}),
    /** Files that were uploaded or are being uploaded, and their bytes. */
    files: integer('files').notNull().default(0),
    bytes: bigint('bytes', { mode: 'number' }).notNull().default(0),
    createdAt: moment('created_at').notNull().defaultNow(),
    expiresAt: moment('expires_at').notNull(),
    revokedAt: moment('revoked_at'),
  },
  () => [
    uniqueIndex('tickets_by_digest').using('btree', sql`digest`),
    index('tickets_by_issuer').using('btree', sql`issued_by`, sql`created_at`, sql`id`),
    index('tickets_by_expiry').using('btree', sql`expires_at`),
    // Of the count of those that are good.
    index('tickets_good_by_issuer').using('btree', sql`issued_by`, sql`expires_at`).where(sql`revoked_at is null`),
    check('tickets_counts', sql`files >= 0 and bytes >= 0`),
  ],
);
