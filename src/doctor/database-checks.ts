/** What the service needs of its database. The first check runs at every start as well. */
import { readFileSync } from 'node:fs';
import type { Pool } from 'pg';
import { migrationsJournal } from '../paths.ts';
import { type Check, Fault } from './check.ts';

const OLDEST_POSTGRES = 15;
const SKEW_SECONDS = 60;

export function databaseChecks(pool: Pool): Check[] {
  return [
    { name: 'database version', needed: true, run: () => version(pool) },
    { name: 'database migrations', needed: true, run: () => migrations(pool) },
    { name: 'clock against the database', needed: false, run: () => clock(pool) },
  ];
}

async function version(pool: Pool): Promise<string> {
  const { rows } = await pool.query<{ version: string }>("select current_setting('server_version_num') as version");
  const major = Math.floor(Number(rows[0]?.version) / 10_000);
  if (major >= OLDEST_POSTGRES) return `Postgres ${major}`;
  throw new Fault(`Postgres ${major} is too old: ${OLDEST_POSTGRES} or newer is needed`);
}

async function migrations(pool: Pool): Promise<string> {
  const journal = JSON.parse(readFileSync(migrationsJournal, 'utf8')) as {
    entries: { when: number }[];
  };
  const newest = Math.max(...journal.entries.map(({ when }) => when));
  const { rows } = await pool
    .query<{ applied: string; newest: string }>(
      'select count(*) as applied, max(created_at) as newest from drizzle.__drizzle_migrations',
    )
    .catch(() => ({ rows: [] }));
  const applied = Number(rows[0]?.applied ?? 0);
  if (applied === 0) throw new Fault('there are none yet: run npm run migrate, or start the service');
  if (Number(rows[0]?.newest) < newest)
    throw new Fault(`${applied} of ${journal.entries.length} are applied: run npm run migrate, or start the service`);
  return Number(rows[0]?.newest) > newest
    ? `all ${journal.entries.length}, and some of a newer version`
    : `all ${journal.entries.length}`;
}

async function clock(pool: Pool): Promise<string> {
  const before = Date.now();
  const { rows } = await pool.query<{ now: string }>('select extract(epoch from clock_timestamp()) * 1000 as now');
  return skewOf(Number(rows[0]?.now), before, SKEW_SECONDS);
}

/** @throws Fault when the clocks are further apart than `limit` seconds */
export function skewOf(theirs: number, before: number, limit: number): string {
  const seconds = Math.abs(theirs - (before + Date.now()) / 2) / 1000;
  if (seconds > limit) throw new Fault(`the clocks are ${Math.round(seconds)} s apart: set them by NTP`);
  return `${seconds < 1 ? 'less than a second' : `${Math.round(seconds)} s`} apart`;
}
