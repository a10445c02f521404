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

/** Resolves when the database answers. */
export async function ping(executor: Executor): Promise<void> {
  await executor.run(one, {});
}

/** The major version of Postgres. */
export async function majorVersion(executor: Executor): Promise<number> {
  const { rows } = await executor.run(serverVersion, {});
  return Math.floor((rows[0]?.version ?? 0) / 10_000);
}

/** What the clock of the server says, in milliseconds since 1970. */
export async function clockOf(executor: Executor): Promise<number> {
  const { rows } = await executor.run(serverTime, {});
  return rows[0]?.time ?? Number.NaN;
}
