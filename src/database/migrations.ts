/**
 * Applies the migrations of ./migrations. Instances that start together take turns by an advisory lock, so each
 * migration runs once; the others find it done.
 */
import { readFileSync } from 'node:fs';
import { and, count, eq, getTableName, max, sql } from 'drizzle-orm';
import { Client } from 'pg';
import { migrationsFolder, migrationsJournal } from '../paths.ts';
import { maintainAuditPartitions } from './audit-partitions.ts';
import { buildIndexes, FEW_ROWS } from './built-indexes.ts';
import { type Executor, executorOn } from './client.ts';
import { requireVersion } from './probes.ts';
import { build, compile, nowhere, type Parameter } from './statements.ts';
import { pgTables } from './tables/catalogs.ts';
import { appliedMigrations, createAppliedMigrations, migrationsSchema } from './tables/migrations.ts';

const MIGRATION_LOCK = 7_083_201_990;

const takeLock = compile(
  'take-migration-lock',
  (p: Parameter<'lock'>) => build.select({ taken: sql`pg_advisory_lock(${p('lock')}::bigint)` }).from(nowhere),
  { named: false },
);
const giveLock = compile(
  'give-migration-lock',
  (p: Parameter<'lock'>) => build.select({ given: sql`pg_advisory_unlock(${p('lock')}::bigint)` }).from(nowhere),
  { named: false },
);
const findTable = compile(
  'find-migrations-table',
  () =>
    build
      .select()
      .from(pgTables)
      .where(and(eq(pgTables.schema, migrationsSchema.schemaName), eq(pgTables.name, getTableName(appliedMigrations)))),
  { named: false },
);
const countApplied = compile(
  'count-applied-migrations',
  () => build.select({ count: count(), newest: max(appliedMigrations.createdAt) }).from(appliedMigrations),
  { named: false },
);

const holdLock = compile(
  'hold-migration-lock',
  (p: Parameter<'lock'>) => build.select({ taken: sql`pg_advisory_xact_lock(${p('lock')}::bigint)` }).from(nowhere),
  { named: false },
);
const makeSchema = compile(
  'make-migrations-schema',
  () => sql`create schema if not exists ${sql.identifier(migrationsSchema.schemaName)}`,
  { named: false },
);
const makeTable = compile('make-migrations-table', () => createAppliedMigrations, { named: false });
const noteApplied = compile(
  'note-applied-migration',
  (p: Parameter<'hash' | 'createdAt'>) =>
    build.insert(appliedMigrations).values({ hash: p('hash'), createdAt: p('createdAt') }),
  { named: false },
);

/**
 * @param url of the database, whose user may create tables
 * @param alsoApply further preparations of the database, under the same lock: the tables of the job queue
 * @param indexedRows of the assets, with which missing indexes are built at once; see built-indexes.ts
 */
export async function applyMigrations(
  url: string,
  alsoApply: (url: string) => Promise<void>,
  indexedRows = FEW_ROWS,
): Promise<void> {
  const client = new Client({
    connectionString: url,
    connectionTimeoutMillis: 10_000,
    application_name: 'stowage-migrate',
  });
  await client.connect();
  try {
    const executor = executorOn(client);
    // Before anything is changed: an older server would stop in the middle.
    await requireVersion(executor);
    await executor.run(takeLock, { lock: MIGRATION_LOCK });
    const { newest } = await applied(executor);
    if (newest < journal().newest) await migrate(client);
    // Months that passed while nothing ran. A role that may not, or a lock that is held, must not keep the service from
    // starting: a job does it again.
    await maintainAuditPartitions(executor, 0).catch(() => {});
    await alsoApply(url);
    // An index waits for the statements that run, and one that waits for this lock would wait for it for ever.
    await executor.run(giveLock, { lock: MIGRATION_LOCK });
    // Without them lists and searches read more: nobody has to wait for them, and a job tries again.
    await buildIndexes(executor, { atMost: indexedRows }).catch(() => []);
  } finally {
    await client.end();
  }
}

async function migrate(client: Client): Promise<void> {
  // Loaded when there is something to do, which is once per version.
  const [{ drizzle }, migrator] = await Promise.all([
    import('drizzle-orm/node-postgres'),
    import('drizzle-orm/node-postgres/migrator'),
  ]);
  await migrator.migrate(drizzle(client), { migrationsFolder });
}

/**
 * Applies those migrations that were generated after `after`, `upTo` the last at most, in the transaction of whoever calls,
 * and writes them down as drizzle-orm does. For a restore, which is whole or not at all.
 */
export async function applyMigrationsWithin(
  executor: Executor,
  { after, upTo }: { after: number; upTo: number },
): Promise<void> {
  const { readMigrationFiles } = await import('drizzle-orm/migrator');
  await executor.run(makeSchema, {});
  await executor.run(makeTable, {});
  for (const { sql: statements, folderMillis, hash } of readMigrationFiles({ migrationsFolder })) {
    if (folderMillis <= after || folderMillis > upTo) continue;
    for (const statement of statements) await executor.executeSql(statement);
    await executor.run(noteApplied, { hash, createdAt: folderMillis });
  }
}

/** Until the transaction ends, nobody else applies migrations: a service that starts meanwhile waits. */
export async function holdMigrations(executor: Executor): Promise<void> {
  await executor.run(holdLock, { lock: MIGRATION_LOCK });
}

/** How many migrations there are, and when the newest was generated; by that drizzle-orm tells which are applied. */
export interface Migrations {
  count: number;
  newest: number;
}

/** Whether this version of the service brings the migration that was generated then. */
export function knowsMigration(when: number): boolean {
  return readJournal().some((entry) => entry.when === when);
}

/** The migrations that this version of the service brings. */
export function journal(): Migrations {
  const entries = readJournal();
  return { count: entries.length, newest: Math.max(...entries.map(({ when }) => when)) };
}

function readJournal(): { when: number }[] {
  const { entries } = JSON.parse(readFileSync(migrationsJournal, 'utf8')) as { entries: { when: number }[] };
  return entries;
}

/** The migrations that the database has. */
export async function applied(executor: Executor): Promise<Migrations> {
  const { rows: tables } = await executor.run(findTable, {});
  if (tables.length === 0) return { count: 0, newest: 0 };
  const { rows } = await executor.run(countApplied, {});
  return { count: rows[0]?.count ?? 0, newest: rows[0]?.newest ?? 0 };
}
