import { sql } from 'drizzle-orm';
import { bigint, check, pgTable, text, uniqueIndex, uuid } from 'drizzle-orm/pg-core';
import { moment } from './columns.ts';

export const scanStates = ['running', 'done', 'cancelled'] as const;

/** Scans of what is stored, over all owners, that administrators have asked for, and how far they are. */
export const scans = pgTable(
  'scans',
  {
    id: uuid('id').primaryKey(),
    state: text('state', { enum: scanStates }).notNull(),
    /** Only what was scanned before this time, or never. */
    before: moment('before').notNull(),
    /** Only assets of this type; absent: of all types. */
    assetType: text('asset_type'),
    requestedBy: text('requested_by').notNull(),
    /** How many are to be scanned; absent until they were counted. */
    found: bigint('found', { mode: 'number' }),
    scanned: bigint('scanned', { mode: 'number' }).notNull().default(0),
    infected: bigint('infected', { mode: 'number' }).notNull().default(0),
    notScanned: bigint('not_scanned', { mode: 'number' }).notNull().default(0),
    /** Id of the asset up to which all were looked at. */
    cursor: uuid('cursor'),
    createdAt: moment('created_at').notNull().default(sql`now()`),
    finishedAt: moment('finished_at'),
  },
  () => [
    check('scans_state', sql`state in ('running', 'done', 'cancelled')`),
    // One at a time.
    uniqueIndex('scans_running').using('btree', sql`state`).where(sql`state = 'running'`),
  ],
);
