/** What the service needs of its database. The first check runs at every start as well. */
import { missingIndexes } from '../database/built-indexes.ts';
import type { Executor } from '../database/client.ts';
import { explainDatabaseFault } from '../database/faults.ts';
import { applied, journal } from '../database/migrations.ts';
import { clockOf, requireVersion, rightsToMigrate } from '../database/probes.ts';
import { type Check, Fault } from './check.ts';

const SKEW_SECONDS = 60;

export function databaseChecks(database: Executor): Check[] {
  const explained = (look: (database: Executor) => Promise<string>) => async () => {
    try {
      return await look(database);
    } catch (error) {
      throw error instanceof Fault ? error : new Fault(explainDatabaseFault(error));
    }
  };
  return [
    { name: 'database version', needed: true, run: explained(version) },
    { name: 'database migrations', needed: true, run: explained(migrations) },
    { name: 'indexes', needed: false, run: explained(indexes) },
    { name: 'clock against the database', needed: false, run: explained(clock) },
  ];
}

async function version(database: Executor): Promise<string> {
  return `Postgres ${await requireVersion(database)}`;
}

async function migrations(database: Executor): Promise<string> {
  const ours = journal();
  const theirs = await applied(database);
  if (theirs.newest >= ours.newest)
    return theirs.newest > ours.newest ? `all ${ours.count}, and some of a newer version` : `all ${ours.count}`;
  const state = theirs.count === 0 ? 'there are none yet' : `${theirs.count} of ${ours.count} are applied`;
  const { user, mayCreate } = await rightsToMigrate(database);
  if (mayCreate) throw new Fault(`${state}: run npm run migrate, or start the service`);
  throw new Fault(
    `${state}, and the user ${user} of DATABASE_URL may not apply them: run npm run migrate as the owner of the database, or let the owner GRANT CREATE ON DATABASE and ON SCHEMA public to ${user}`,
  );
}

async function indexes(database: Executor): Promise<string> {
  const missing = await missingIndexes(database);
  if (missing.length === 0) return 'all';
  throw new Fault(
    `missing: ${missing.join(', ')}; searches and folders take more pages. A job builds them where the service may, else run npm run migrate; they need pg_trgm (postgresql-contrib)`,
  );
}

async function clock(database: Executor): Promise<string> {
  const before = Date.now();
  return skewOf(await clockOf(database), before, SKEW_SECONDS);
}

/** @throws Fault when the clocks are further apart than `limit` seconds */
export function skewOf(theirs: number, before: number, limit: number): string {
  const seconds = Math.abs(theirs - (before + Date.now()) / 2) / 1000;
  if (seconds > limit) throw new Fault(`the clocks are ${Math.round(seconds)} s apart: set them by NTP`);
  return `${seconds < 1 ? 'less than a second' : `${Math.round(seconds)} s`} apart`;
}
