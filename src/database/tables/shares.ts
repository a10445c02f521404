import { sql } from 'drizzle-orm';
import {
  bigint,
  boolean,
  check,
  index,
  integer,
  jsonb,
  pgTable,
  primaryKey,
  text,
  uniqueIndex,
  uuid,
} from 'drizzle-orm/pg-core';
import { assets } from './assets.ts';
import { bytea, moment } from './columns.ts';
import { projects } from './projects.ts';

/** What a share leads to: one asset, several that were named, or all that are in a project. */
export const shareTargets = ['asset', 'assets', 'project'] as const;
export type ShareTarget = (typeof shareTargets)[number];
/** `view`: shown and played. `download`: the files as they are too. */
export const shareAllowances = ['view', 'download'] as const;
export type ShareAllowance = (typeof shareAllowances)[number];

/** Addresses for strangers. */
export const shares = pgTable(
  'shares',
  {
    id: uuid('id').primaryKey(),
    /** Who shared: it reaches what he may read. */
    createdBy: text('created_by').notNull(),
    /** SHA-256 of the token, which is nowhere else. */
    digest: bytea('digest').notNull(),
    /** Which key the token was derived with; see shares/keys.ts. */
    keySince: bigint('key_since', { mode: 'number' }).notNull(),
    target: text('target', { enum: shareTargets }).notNull(),
    /** Of a whole project. */
    projectId: text('project_id').references(() => projects.id, { onDelete: 'cascade' }),
    /** Ranks that the token of who shared gave him in the projects concerned: no row tells of them. */
    claims: jsonb('claims').$type<Record<string, number>>(),
    /** Of a key that is for some projects: the share reaches no others. */
    onlyProjects: text('only_projects').array(),
    allow: text('allow', { enum: shareAllowances }).notNull(),
    /** Strangers see the label, nobody but who shared sees the note. */
    label: text('label'),
    note: text('note'),
    /** Salt and scrypt of the password; see shares/passwords.ts. */
    password: bytea('password'),
    maxDownloads: integer('max_downloads'),
    /** Exact at every moment where there is a limit; else without what share_marks has. */
    downloads: bigint('downloads', { mode: 'number' }).notNull().default(0),
    lastUsedAt: moment('last_used_at'),
    permanent: boolean('permanent').notNull().default(false),
    createdAt: moment('created_at').notNull().defaultNow(),
    updatedAt: moment('updated_at').notNull().defaultNow(),
    expiresAt: moment('expires_at'),
    revokedAt: moment('revoked_at'),
  },
  () => [
    uniqueIndex('shares_by_digest').using('btree', sql`digest`),
    index('shares_by_maker').using('btree', sql`created_by`, sql`created_at`, sql`id`),
    index('shares_by_project').using('btree', sql`project_id`).where(sql`project_id is not null`),
    index('shares_by_expiry').using('btree', sql`expires_at`).where(sql`expires_at is not null`),
    index('shares_by_revocation').using('btree', sql`revoked_at`).where(sql`revoked_at is not null`),
    check('shares_target', sql`target in ('asset', 'assets', 'project')`),
    check('shares_allow', sql`allow in ('view', 'download')`),
    check('shares_project', sql`(target = 'project') = (project_id is not null)`),
    check('shares_downloads', sql`downloads >= 0 and (max_downloads is null or max_downloads > 0)`),
    check(
      'shares_permanent',
      sql`not permanent or (target = 'asset' and expires_at is null and max_downloads is null and password is null)`,
    ),
  ],
);

/** The assets that a share names, in their order. */
export const shareAssets = pgTable(
  'share_assets',
  {
    shareId: uuid('share_id')
      .notNull()
      .references(() => shares.id, { onDelete: 'cascade' }),
    position: integer('position').notNull(),
    assetId: uuid('asset_id')
      .notNull()
      .references(() => assets.id, { onDelete: 'cascade' }),
  },
  (table) => [
    primaryKey({ columns: [table.shareId, table.position] }),
    uniqueIndex('share_assets_by_asset').using('btree', sql`asset_id`, sql`share_id`),
  ],
);

/** A download of a share without a limit that was not added up yet: many at once change no row that another one changes. */
export const shareMarks = pgTable(
  'share_marks',
  {
    shareId: uuid('share_id').notNull(),
    at: moment('at').notNull().defaultNow(),
  },
  () => [index('share_marks_by_share').using('btree', sql`share_id`)],
);

/** Downloads that may go on by further ranges, which count no more. Unlogged: a crash of Postgres may forget it. */
export const shareVisits = pgTable(
  'share_visits',
  {
    shareId: uuid('share_id').notNull(),
    /** Of what; of all files in one, the id of the share. */
    assetId: uuid('asset_id').notNull(),
    /** Digest of who downloads; see shares/visitor.ts. */
    client: bytea('client').notNull(),
    endsAt: moment('ends_at').notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.shareId, table.assetId, table.client] }),
    index('share_visits_by_end').using('btree', sql`ends_at`),
  ],
);

/** Passwords that were tried, of a share by one address, or by all (empty). Unlogged, as above. */
export const shareTries = pgTable(
  'share_tries',
  {
    shareId: uuid('share_id').notNull(),
    client: bytea('client').notNull(),
    tries: integer('tries').notNull(),
    endsAt: moment('ends_at').notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.shareId, table.client] }),
    index('share_tries_by_end').using('btree', sql`ends_at`),
  ],
);
