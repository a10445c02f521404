import { integer, pgTable, primaryKey, text } from 'drizzle-orm/pg-core';
import { moment } from './columns.ts';

/** Uploads begun per caller and window, shared by all instances. Unlogged: a crash of Postgres may forget it. */
export const uploadCounts = pgTable('upload_counts', {
  callerId: text('caller_id').primaryKey(),
  windowEndsAt: moment('window_ends_at').notNull(),
  uploads: integer('uploads').notNull(),
});

/** What is counted of a caller, beside uploads. */
export const countedKinds = ['idempotency-key', 'refusal', 'ticket'] as const;

/** What else a caller made the service write in a window, shared by all instances. Unlogged, as above. */
export const callerCounts = pgTable(
  'caller_counts',
  {
    callerId: text('caller_id').notNull(),
    kind: text('kind', { enum: countedKinds }).notNull(),
    windowEndsAt: moment('window_ends_at').notNull(),
    count: integer('count').notNull(),
  },
  (table) => [primaryKey({ columns: [table.callerId, table.kind] })],
);
