/** What Postgres tells of itself (PostgreSQL documentation, System Catalogs and System Views). */
import { pgSchema, text } from 'drizzle-orm/pg-core';

const catalog = pgSchema('pg_catalog');

export const pgTables = catalog.table('pg_tables', { schema: text('schemaname'), name: text('tablename') });

export const pgDatabases = catalog.table('pg_database', { name: text('datname') });
