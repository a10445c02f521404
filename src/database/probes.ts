/** What health and `npm run doctor` ask the database. */
import { sql } from 'drizzle-orm';
import type { Executor } from './client.ts';
import { build, compile, nowhere } from './statements.ts';

const one = compile('ping', () => build.select({ one: sql`1` }).from(nowhere), { named: false });
const serverVersion = compile(
  'server-version',
  () => build.select({ version: sql`current_setting('server_version_num')`.mapWith(Number) }).from(nowhere),
  { named: false },
);
const serverTime = compile(
  'server-time',
  () => build.select({ time: sql`extract(epoch from clock_timestamp()) * 1000`.mapWith(Number) }).from(nowhere),
  { named: false },
);

const rights = compile(
  'rights-to-migrate',
  () =>
    build
      .select({
        user: sql`current_user`.mapWith(String),
        mayCreate:
          sql`has_database_privilege(current_database(), 'CREATE') and has_schema_privilege('public', 'CREATE')`.mapWith(
            Boolean,
          ),
      })
      .from(nowhere),
  { named: false },
);

/** The oldest major version of Postgres that has what the statements use. */
const OLDEST_POSTGRES = 15;

/** @returns the major version @throws Error when the server is too old */
export async function requireVersion(executor: Executor): Promise<number> {
  const major = await majorVersion(executor);
  if (major >= OLDEST_POSTGRES) return major;
  throw new Error(
    `Postgres ${major} is too old: ${OLDEST_POSTGRES} or newer is needed; DATABASE_URL must lead to such a server`,
  );
}

/** Who is connected, and whether that user may apply migrations. */
export async function rightsToMigrate(executor: Executor): Promise<{ user: string; mayCreate: boolean }> {
  const { rows } = await executor.run(rights, {});
  return rows[0] ?? { user: '', mayCreate: false };
}

/** Resolves when the database answers. */
export async function ping(executor: Executor): Promise<void> {
  await executor.run(one, {});
}

/** The major version of Postgres. */
async function majorVersion(executor: Executor): Promise<number> {
  const { rows } = await executor.run(serverVersion, {});
  return Math.floor((rows[0]?.version ?? 0) / 10_000);
}

/** What the clock of the server says, in milliseconds since 1970. */
export async function clockOf(executor: Executor): Promise<number> {
  const { rows } = await executor.run(serverTime, {});
  return rows[0]?.time ?? Number.NaN;
}
