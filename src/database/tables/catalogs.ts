/** What Postgres tells of itself (PostgreSQL documentation, System Catalogs and System Views). */
import { boolean, integer, pgSchema, text, timestamp } from 'drizzle-orm/pg-core';

const catalog = pgSchema('pg_catalog');

export const pgTables = catalog.table('pg_tables', { schema: text('schemaname'), name: text('tablename') });

export const pgClasses = catalog.table('pg_class', { oid: integer('oid'), name: text('relname') });
export const pgIndexes = catalog.table('pg_index', { index: integer('indexrelid'), isValid: boolean('indisvalid') });
export const availableExtensions = catalog.table('pg_available_extensions', {
  name: text('name'),
  installed: text('installed_version'),
});

export const pgDatabases = catalog.table('pg_database', { name: text('datname') });

export const pgActivity = catalog.table('pg_stat_activity', {
  pid: integer('pid'),
  database: text('datname'),
  application: text('application_name'),
  transactionStart: timestamp('xact_start', { withTimezone: true }),
});
