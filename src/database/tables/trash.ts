import { sql } from 'drizzle-orm';
import { bigint, check, pgTable, text, uuid } from 'drizzle-orm/pg-core';
import { moment } from './columns.ts';

/**
 * How the trash of an owner or a project is being emptied, or was the last time: one row for each, so there is one at a time.
 */
export const trashEmptyings = pgTable(
  'trash_emptyings',
  {
    /** Whose trash: an account, as quotas have them. */
    account: text('account').primaryKey(),
    /** Of this time; another has another. */
    id: uuid('id').notNull(),
    /** Of the trash outside projects. */
    ownerId: text('owner_id'),
    projectId: text('project_id'),
    state: text('state', { enum: ['running', 'done'] }).notNull(),
    /** What was in the trash before is deleted. */
    cutoff: moment('cutoff').notNull(),
    /** Who has asked for it, for the audit rows of what is deleted. */
    requestedBy: text('requested_by').notNull(),
    requestId: text('request_id').notNull(),
    via: text('via'),
    reason: text('reason'),
    /** How many are to be deleted; absent until they were counted. */
    found: bigint('found', { mode: 'number' }),
    deleted: bigint('deleted', { mode: 'number' }).notNull().default(0),
    /** How many of them stay because something holds them; counted with `found`. */
    held: bigint('held', { mode: 'number' }),
    createdAt: moment('created_at').notNull().default(sql`now()`),
    finishedAt: moment('finished_at'),
  },
  () => [check('trash_emptyings_state', sql`state in ('running', 'done')`)],
);
