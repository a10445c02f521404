import { bigint, pgSchema } from 'drizzle-orm/pg-core';

/** drizzle-orm's own: which migrations were applied. */
export const migrationsSchema = pgSchema('drizzle');
export const appliedMigrations = migrationsSchema.table('__drizzle_migrations', {
  /** Of the migration: when it was generated, as its journal says. */
  createdAt: bigint('created_at', { mode: 'number' }).notNull(),
});
