/** What the service needs of its database. The first check runs at every start as well. */
import type { Executor } from '../database/client.ts';
import { applied, journal } from '../database/migrations.ts';
import { clockOf, majorVersion } from '../database/probes.ts';
import { type Check, Fault } from './check.ts';

const OLDEST_POSTGRES = 15;
const SKEW_SECONDS = 60;

export function databaseChecks(database: Executor): Check[] {
  return [
    { name: 'database version', needed: true, run: () => version(database) },
    { name: 'database migrations', needed: true, run: () => migrations(database) },
    { name: 'clock against the database', needed: false, run: () => clock(database) },
  ];
}

async function version(database: Executor): Promise<string> {
  const major = await majorVersion(database);
  if (major >= OLDEST_POSTGRES) return `Postgres ${major}`;
  throw new Fault(`Postgres ${major} is too old: ${OLDEST_POSTGRES} or newer is needed`);
}

async function migrations(database: Executor): Promise<string> {
  const ours = journal();
  const theirs = await applied(database);
  if (theirs.count === 0) throw new Fault('there are none yet: run npm run migrate, or start the service');
  if (theirs.newest < ours.newest)
    throw new Fault(`${theirs.count} of ${ours.count} are applied: run npm run migrate, or start the service`);
  return theirs.newest > ours.newest ? `all ${ours.count}, and some of a newer version` : `all ${ours.count}`;
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
