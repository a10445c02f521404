import { sql } from 'drizzle-orm';
import { bigint, pgSchema, text } from 'drizzle-orm/pg-core';

/** drizzle-orm's own: which migrations were applied. */
export const migrationsSchema = pgSchema('drizzle');
export const appliedMigrations = migrationsSchema.table('__drizzle_migrations', {
  hash: text('hash').notNull(),
  /** Of the migration: when it was generated, as its journal says. */
  createdAt: bigint('created_at', { mode: 'number' }).notNull(),
});

/** As drizzle-orm makes it. */
export const createAppliedMigrations = sql`create table if not exists ${appliedMigrations} (id serial primary key, hash text not null, created_at bigint)`;
