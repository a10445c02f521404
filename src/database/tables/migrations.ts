/** Tables of others that tell which migrations were applied. */
import { bigint, pgSchema, text } from 'drizzle-orm/pg-core';

/** drizzle-orm's own. */
export const migrationsSchema = pgSchema('drizzle');
export const appliedMigrations = migrationsSchema.table('__drizzle_migrations', {
  /** Of the migration: when it was generated, as its journal says. */
  createdAt: bigint('created_at', { mode: 'number' }).notNull(),
});

/** PostgreSQL documentation, pg_tables. */
export const pgTables = pgSchema('pg_catalog').table('pg_tables', {
  schema: text('schemaname'),
  name: text('tablename'),
});
