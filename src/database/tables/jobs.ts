import { integer, jsonb, pgSchema, text, timestamp, uuid } from 'drizzle-orm/pg-core';

const states = ['created', 'retry', 'active', 'completed', 'cancelled', 'failed'] as const;

/** The jobs of pg-boss, which makes and changes this table itself; these columns are read here. */
export const jobs = pgSchema('pgboss').table('job', {
  id: uuid('id').notNull(),
  /** Of the queue. */
  name: text('name').notNull(),
  state: text('state', { enum: states }).notNull(),
  data: jsonb('data').$type<Record<string, unknown>>(),
  createdOn: timestamp('created_on', { withTimezone: true }).notNull(),
  priority: integer('priority').notNull(),
  startAfter: timestamp('start_after', { withTimezone: true }).notNull(),
  /** Of a dead letter: what the job it was said last. */
  sourceOutput: jsonb('source_output'),
});
