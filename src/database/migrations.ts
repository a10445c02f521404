/**
 * Applies the migrations of ./migrations. Instances that start together take turns by an advisory lock, so each
 * migration runs once; the others find it done.
 */
import { drizzle } from 'drizzle-orm/node-postgres';
import { migrate } from 'drizzle-orm/node-postgres/migrator';
import { Client } from 'pg';

const MIGRATION_LOCK = 7_083_201_990;
const folder = new URL('../../migrations', import.meta.url).pathname;

/**
 * @param url of the database, whose user may create tables
 * @param alsoApply further preparations of the database, under the same lock: the tables of the job queue
 */
export async function applyMigrations(url: string, alsoApply: (url: string) => Promise<void>): Promise<void> {
  const client = new Client({
    connectionString: url,
    connectionTimeoutMillis: 10_000,
    application_name: 'stowage-migrate',
  });
  await client.connect();
  try {
    await client.query('select pg_advisory_lock($1)', [MIGRATION_LOCK]);
    await migrate(drizzle(client), { migrationsFolder: folder });
    await alsoApply(url);
  } finally {
    await client.end();
  }
}
