/**
 * Applies the migrations of ./migrations. Instances that start together take turns by an advisory lock, so each
 * migration runs once; the others find it done.
 */
import { readFileSync } from 'node:fs';
import { Client } from 'pg';
import { migrationsFolder, migrationsJournal } from '../paths.ts';

const MIGRATION_LOCK = 7_083_201_990;

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
    if (!(await isUpToDate(client))) await migrate(client);
    await alsoApply(url);
  } finally {
    await client.end();
  }
}

async function migrate(client: Client): Promise<void> {
  // Loaded when there is something to do: it takes 27 MiB.
  const [{ drizzle }, migrator] = await Promise.all([
    import('drizzle-orm/node-postgres'),
    import('drizzle-orm/node-postgres/migrator'),
  ]);
  await migrator.migrate(drizzle(client), { migrationsFolder });
}

/** Whether the newest migration is the last one that drizzle-orm wrote down. */
async function isUpToDate(client: Client): Promise<boolean> {
  const { entries } = JSON.parse(readFileSync(migrationsJournal, 'utf8')) as {
    entries: { when: number }[];
  };
  const newest = Math.max(...entries.map(({ when }) => when));
  const { rows: tables } = await client.query(
    `select from pg_tables where schemaname = 'drizzle' and tablename = '__drizzle_migrations'`,
  );
  if (tables.length === 0) return false;
  const { rows } = await client.query<{ last: string | null }>(
    'select max(created_at) as last from drizzle.__drizzle_migrations',
  );
  return Number(rows[0]?.last ?? 0) >= newest;
}
