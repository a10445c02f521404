import { integer, pgTable, text } from 'drizzle-orm/pg-core';
import { moment } from './columns.ts';

/** Uploads begun per caller and window, shared by all instances. Unlogged: a crash of Postgres may forget it. */
export const uploadCounts = pgTable('upload_counts', {
  callerId: text('caller_id').primaryKey(),
  windowEndsAt: moment('window_ends_at').notNull(),
  uploads: integer('uploads').notNull(),
});
