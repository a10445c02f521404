/**
 * Indexes that are built beside the service, and not by a migration: one of these on a table of millions takes minutes, for
 * which a migration would keep everybody from writing. What they serve works without them, in smaller steps; see
 * assets/search.ts. While the table is small they are built at the start; later a job does it, or `npm run migrate`.
 */
import { and, eq, sql } from 'drizzle-orm';
import type { Executor } from './client.ts';
import { build, compile, nowhere, type Parameter } from './statements.ts';
import { assets } from './tables/assets.ts';
import { builtIndexes } from './tables/built-indexes.ts';
import { availableExtensions, pgClasses, pgIndexes } from './tables/catalogs.ts';

/** Rows with which an index is built in less than about ten seconds. */
export const FEW_ROWS = 100_000;
const BUILD_LOCK = 7_083_201_991;
const once = { named: false };

const takeLock = compile(
  'try-build-lock',
  (p: Parameter<'lock'>) =>
    build.select({ taken: sql<boolean>`pg_try_advisory_lock(${p('lock')}::bigint)`.as('taken') }).from(nowhere),
  once,
);
const giveLock = compile(
  'leave-build-lock',
  (p: Parameter<'lock'>) => build.select({ left: sql`pg_advisory_unlock(${p('lock')}::bigint)` }).from(nowhere),
  once,
);
const findIndex = compile(
  'find-index',
  (p: Parameter<'name'>) =>
    build
      .select({ isValid: pgIndexes.isValid })
      .from(pgIndexes)
      .innerJoin(pgClasses, eq(pgClasses.oid, pgIndexes.index))
      .where(and(eq(pgClasses.name, p('name')), sql`pg_table_is_visible(${pgClasses.oid})`)),
  once,
);
const countRows = compile(
  'count-some-assets',
  (p: Parameter<'atMost'>) =>
    build
      .select({ count: sql<number>`count(*)`.mapWith(Number) })
      .from(sql`(select from ${assets} limit ${p('atMost')}) as counted`),
  once,
);
const findExtension = compile(
  'find-extension',
  (p: Parameter<'name'>) =>
    build
      .select({ isInstalled: sql<boolean>`${availableExtensions.installed} is not null`.as('is_installed') })
      .from(availableExtensions)
      .where(eq(availableExtensions.name, p('name'))),
  once,
);
const builders = builtIndexes.map(({ name, extension, definition }) => ({
  name,
  extension,
  create: compile(
    `create ${name}`,
    () => sql`create index concurrently ${sql.identifier(name)} on ${assets} ${definition}`,
    once,
  ),
  drop: compile(`drop ${name}`, () => sql`drop index concurrently if exists ${sql.identifier(name)}`, once),
  extend:
    extension === undefined
      ? undefined
      : compile(`create ${extension}`, () => sql`create extension if not exists ${sql.identifier(extension)}`, once),
}));
type Builder = (typeof builders)[number];

/** Which of them are not there, or not ready. */
export async function missingIndexes(executor: Executor): Promise<string[]> {
  const missing: string[] = [];
  for (const { name } of builders) if ((await stateOf(executor, name)) !== 'ready') missing.push(name);
  return missing;
}

/**
 * Builds those that are missing, where nobody else does.
 * @param executor on a connection of its own, whose statements may take as long as they need
 * @param atMost rows of the table; with more of them nothing is built
 * @returns those that it has built
 * @throws what Postgres says, such as that the role does not own the table
 */
export async function buildIndexes(executor: Executor, { atMost }: { atMost: number }): Promise<string[]> {
  const missing = await missingIndexes(executor);
  if (missing.length === 0 || !(await isSmall(executor, atMost))) return [];
  const { rows } = await executor.run(takeLock, { lock: BUILD_LOCK });
  if (rows[0]?.taken !== true) return [];
  try {
    const built: string[] = [];
    for (const each of builders)
      if (missing.includes(each.name) && (await buildOne(executor, each))) built.push(each.name);
    return built;
  } finally {
    await executor.run(giveLock, { lock: BUILD_LOCK });
  }
}

/** @returns false when the server lacks what it needs */
async function buildOne(executor: Executor, { name, extension, create, drop, extend }: Builder): Promise<boolean> {
  if (extension !== undefined && extend) {
    const { rows } = await executor.run(findExtension, { name: extension });
    if (!rows[0]) return false;
    if (!rows[0].isInstalled) await executor.run(extend, {});
  }
  // One that was broken off is there and serves nothing.
  if ((await stateOf(executor, name)) === 'broken') await executor.run(drop, {});
  await executor.run(create, {});
  return true;
}

async function stateOf(executor: Executor, name: string): Promise<'ready' | 'broken' | 'missing'> {
  const { rows } = await executor.run(findIndex, { name });
  return rows[0] ? (rows[0].isValid ? 'ready' : 'broken') : 'missing';
}

async function isSmall(executor: Executor, atMost: number): Promise<boolean> {
  if (atMost === Number.POSITIVE_INFINITY) return true;
  const { rows } = await executor.run(countRows, { atMost: atMost + 1 });
  return (rows[0]?.count ?? 0) <= atMost;
}
