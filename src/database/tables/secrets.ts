import { pgTable, text } from 'drizzle-orm/pg-core';
import { bytea } from './columns.ts';

/** What all instances must agree on and nobody else may know: made by the migration, read when the service starts. */
export const serviceSecrets = pgTable('service_secrets', {
  name: text('name').primaryKey(),
  /** 32 random bytes. */
  value: bytea('value').notNull(),
});
