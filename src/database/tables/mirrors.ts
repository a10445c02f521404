import { sql } from 'drizzle-orm';
import { bigint, check, index, integer, pgTable, primaryKey, text, uuid } from 'drizzle-orm/pg-core';
import { bytea, moment } from './columns.ts';

/**
 * `pending`: to be copied. `copied`: there, as its bytes were on the way. `verified`: there, as its bytes were read back.
 * `failed`: it could not be copied, or was found missing or damaged, and is tried again. `deleting`: to be removed.
 */
export const copyStates = ['pending', 'copied', 'failed', 'verified', 'deleting'] as const;
export type CopyState = (typeof copyStates)[number];

/** Why an object could not be copied, or a copy is none. */
export const copyReasons = [
  'mirror-unavailable',
  'mirror-refused',
  'mirror-full',
  'source-unavailable',
  'source-missing',
  'source-damaged',
  'copy-missing',
  'copy-damaged',
  'failed',
] as const;
export type CopyReason = (typeof copyReasons)[number];

const isWaiting = sql`state in ('pending', 'failed')`;
const isStored = sql`state in ('copied', 'verified')`;

/**
 * The mirrors that every stored object is copied to. Instances write down those of their configuration when they start; a
 * mirror stays until an administrator has it forgotten, so that no copy is left behind by a change of the configuration.
 */
export const mirrors = pgTable('mirrors', {
  name: text('name').primaryKey(),
  /** Bucket and prefix, or directory: another place must have another name. */
  place: text('place').notNull(),
  createdAt: moment('created_at').notNull().default(sql`now()`),
});

/**
 * Copies of objects, a row for each mirror. Triggers of `assets` and `derivatives` (`note_copies` in the migrations) write it
 * in the transaction by which an object becomes that of an asset, so no statement can forget it; there are none while there is
 * no mirror. The row goes last, when the copy is gone; no foreign key, because it may outlive its asset by that.
 */
export const copies = pgTable(
  'copies',
  {
    mirror: text('mirror').notNull(),
    /** Of the object in the first store. */
    objectKey: text('object_key').notNull(),
    assetId: uuid('asset_id').notNull(),
    state: text('state', { enum: copyStates }).notNull().default('pending'),
    size: bigint('size', { mode: 'number' }).notNull(),
    /** Absent until somebody has read the bytes. */
    sha256: bytea('sha256'),
    /** Tries to copy it, so far. */
    attempts: integer('attempts').notNull().default(0),
    /** Why the last try failed. */
    reason: text('reason', { enum: copyReasons }),
    /** Since when it is in this state; of `verified` and `failed`, the last time. */
    at: moment('at').notNull().default(sql`now()`),
    /** Since when the mirror is behind for it. */
    behindSince: moment('behind_since').notNull().default(sql`now()`),
    /** When it is its turn; while somebody is at work on it, when he counts as dead. Absent where there is nothing to do. */
    dueAt: moment('due_at').default(sql`now()`),
    /** Who is copying it, or was when he died. */
    claim: uuid('claim'),
  },
  (table) => [
    primaryKey({ columns: [table.mirror, table.objectKey] }),
    check('copies_state', sql`state in ('pending', 'copied', 'failed', 'verified', 'deleting')`),
    index('copies_by_asset').using('btree', sql`asset_id`),
    // All that is counted of what a mirror is behind by, so that counting reads the index alone.
    index('copies_waiting').using('btree', sql`mirror`, sql`due_at`, sql`behind_since`, sql`size`).where(isWaiting),
    index('copies_leaving').using('btree', sql`mirror`, sql`due_at`).where(sql`state = 'deleting'`),
    // In the order in which they are verified.
    index('copies_stored').using('btree', sql`mirror`, sql`at`).where(isStored),
  ],
);

/** What was copied to a mirror in a minute, for its rate; kept for an hour. */
export const mirrorMinutes = pgTable(
  'mirror_minutes',
  {
    mirror: text('mirror').notNull(),
    minute: moment('minute').notNull(),
    objects: bigint('objects', { mode: 'number' }).notNull(),
    bytes: bigint('bytes', { mode: 'number' }).notNull(),
  },
  (table) => [primaryKey({ columns: [table.mirror, table.minute] })],
);
