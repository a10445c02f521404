/** What Postgres tells of itself (PostgreSQL documentation, System Catalogs and System Views). */
import { bigint, boolean, char, integer, pgSchema, text, timestamp } from 'drizzle-orm/pg-core';

const catalog = pgSchema('pg_catalog');

export const pgTables = catalog.table('pg_tables', { schema: text('schemaname'), name: text('tablename') });

export const pgClasses = catalog.table('pg_class', {
  oid: integer('oid'),
  name: text('relname'),
  namespace: integer('relnamespace'),
  /** `r`: table. `p`: partitioned table. */
  kind: char('relkind'),
  /** `p`: what is in it outlives a crash. */
  persistence: char('relpersistence'),
  isPartition: boolean('relispartition'),
});
export const pgNamespaces = catalog.table('pg_namespace', { oid: integer('oid'), name: text('nspname') });
export const pgAttributes = catalog.table('pg_attribute', {
  relation: integer('attrelid'),
  name: text('attname'),
  number: integer('attnum'),
  isDropped: boolean('attisdropped'),
  /** Empty where it is not computed of other columns. */
  generated: char('attgenerated'),
});
export const pgConstraints = catalog.table('pg_constraint', {
  kind: char('contype'),
  relation: integer('conrelid'),
  references: integer('confrelid'),
});
export const pgDepend = catalog.table('pg_depend', { object: integer('objid'), kind: char('deptype') });
export const pgSequences = catalog.table('pg_sequences', {
  schema: text('schemaname'),
  name: text('sequencename'),
  /** Absent while it was never asked. */
  lastValue: bigint('last_value', { mode: 'bigint' }),
});
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
