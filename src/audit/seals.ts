/**
 * Proof that nobody has changed the audit trail. Triggers refuse changes, but whoever owns the database can switch them off.
 * So when a day is over, its rows are sealed: SHA-256 over the seal of the day before and all rows of the day in the order
 * of time and number. A row that is changed, removed or inserted afterwards makes its day come to another digest; who makes
 * a new seal for that day breaks all that follow. Against one who makes all of them anew helps only a digest that lies
 * elsewhere: each is written to the log, and `npm run audit -- --verify --expect` compares with it.
 */
import { createHash } from 'node:crypto';
import { and, asc, desc, gte, lt, sql } from 'drizzle-orm';
import type { Executor } from '../database/client.ts';
import { build, compile, nowhere, type Parameter, typed } from '../database/statements.ts';
import { auditEvents, auditSeals } from '../database/tables/audit.ts';

/** Rows in memory at once. */
const BATCH = 2000;
/** Of the first day there is no seal before. */
const NOTHING = Buffer.alloc(32);
/** Hours after which nothing of a day can still be written: no transaction takes so long. */
const SETTLED = 1;

/** Run once a day, each over another amount. */
const seldom = { named: false };
type Day = string;

const startOf = (day: ReturnType<Parameter<'day'>>, days: number) =>
  sql`((${day}::date + ${sql.raw(String(days))})::timestamp at time zone 'UTC')`;

const findSeals = compile(
  'find-audit-seals',
  () =>
    build
      .select({
        day: sql<Day>`${auditSeals.day}::text`.as('sealed_day'),
        rows: auditSeals.rows,
        digest: auditSeals.digest,
      })
      .from(auditSeals)
      .orderBy(asc(auditSeals.day)),
  seldom,
);
const findLastSeal = compile(
  'find-last-audit-seal',
  () =>
    build
      .select({ day: sql<Day>`${auditSeals.day}::text`.as('sealed_day'), digest: auditSeals.digest })
      .from(auditSeals)
      .orderBy(desc(auditSeals.day))
      .limit(1),
  seldom,
);
const findDays = compile(
  'find-days-of-audit',
  () =>
    build
      .select({
        first: sql<Day | null>`(select (min(${auditEvents.at}) at time zone 'UTC')::date::text from ${auditEvents})`,
        lastOver: sql<Day>`((now() - make_interval(hours => ${sql.raw(String(SETTLED))})) at time zone 'UTC')::date - 1`,
        keptSince: sql<Day | null>`(select nullif(min(since), '-infinity')::date::text from audit_events_partitions())`,
      })
      .from(nowhere),
  seldom,
);
/** Everything of a row, as Postgres writes it: the same text for the same row, always. */
const findRows = compile(
  'find-audit-rows-of-day',
  (p: Parameter<'day' | 'afterAt' | 'afterId'>) =>
    build
      .select({
        id: sql<string>`${auditEvents.id}::text`,
        at: sql<string>`(extract(epoch from ${auditEvents.at}) * 1000)::bigint::text`,
        time: auditEvents.at,
        action: auditEvents.action,
        actorId: auditEvents.actorId,
        ownerId: auditEvents.ownerId,
        assetId: auditEvents.assetId,
        requestId: auditEvents.requestId,
        detail: sql<string>`${auditEvents.detail}::text`,
        via: auditEvents.via,
        projectId: auditEvents.projectId,
        reason: auditEvents.reason,
      })
      .from(auditEvents)
      .where(
        and(
          gte(auditEvents.at, startOf(p('day'), 0)),
          lt(auditEvents.at, startOf(p('day'), 1)),
          sql`(${auditEvents.at}, ${auditEvents.id}) > (coalesce(${p('afterAt')}::timestamptz, '-infinity'), ${p('afterId')}::bigint)`,
        ),
      )
      .orderBy(asc(auditEvents.at), asc(auditEvents.id))
      .limit(BATCH),
  seldom,
);
const findEarlier = compile(
  'find-audit-rows-before-day',
  (p: Parameter<'day'>) =>
    build
      .select({ id: auditEvents.id })
      .from(auditEvents)
      .where(lt(auditEvents.at, startOf(p('day'), 0)))
      .limit(1),
  seldom,
);
const insertSeal = compile(
  'insert-audit-seal',
  (p: Parameter<'day' | 'rows' | 'digest'>) =>
    build
      .insert(auditSeals)
      .values({ day: p('day'), rows: p('rows'), digest: typed(p('digest'), auditSeals.digest) })
      .onConflictDoNothing()
      .returning({ rows: auditSeals.rows }),
  seldom,
);

export interface Seal {
  day: Day;
  rows: number;
  digest: Buffer;
}

async function sealOf(database: Executor, day: Day, previous: Buffer, signal?: AbortSignal): Promise<Seal> {
  const hash = createHash('sha256').update(previous).update(day);
  let rows = 0;
  let last: { time: Date; id: string } | undefined;
  do {
    signal?.throwIfAborted();
    const values = { day, afterAt: last?.time ?? null, afterId: last?.id ?? '0' };
    const batch = await database.run(findRows, values);
    for (const { time: _, ...row } of batch.rows) hash.update(`${JSON.stringify(Object.values(row))}\n`);
    rows += batch.rows.length;
    last = batch.rows.length === BATCH ? batch.rows.at(-1) : undefined;
  } while (last);
  return { day, rows, digest: hash.digest() };
}

/** Seals each day that is over and has no seal. @returns the new seals */
export async function sealPastDays(database: Executor, signal?: AbortSignal): Promise<Seal[]> {
  const { first, lastOver } = await daysOf(database);
  const { rows } = await database.run(findLastSeal, {});
  let [previous] = rows;
  const sealed: Seal[] = [];
  for (let day = previous ? nextDay(previous.day) : first; day !== null && day <= lastOver; day = nextDay(day)) {
    const seal = await sealOf(database, day, previous?.digest ?? NOTHING, signal);
    // Somebody else was faster; he goes on.
    if ((await database.run(insertSeal, { ...seal })).rows.length === 0) break;
    sealed.push(seal);
    previous = seal;
  }
  return sealed;
}

export interface Verification {
  /** Days whose rows are as they were sealed. */
  intact: number;
  /** Days whose rows are kept no more. */
  dropped: number;
  rows: number;
  /** The last seal. */
  last: Seal | undefined;
  /** What is not as it was, in words. */
  faults: string[];
}

/**
 * Compares all rows with the seals.
 * @param retention days for which rows are kept; 0 for ever
 */
export async function verifyAudit(database: Executor, retention: number): Promise<Verification> {
  const { keptSince, lastOver } = await daysOf(database);
  const { rows: seals } = await database.run(findSeals, {});
  const found: Verification = { intact: 0, dropped: 0, rows: 0, last: seals.at(-1), faults: [] };
  const [first] = seals;
  if (first && (keptSince === null || keptSince <= first.day)) {
    const { rows } = await database.run(findEarlier, { day: first.day });
    if (rows.length > 0) found.faults.push(`rows were inserted before ${first.day}, the first day that was sealed`);
  }
  let previous: Seal | undefined;
  for (const seal of seals) {
    if (previous && nextDay(previous.day) !== seal.day)
      found.faults.push(`the seals between ${previous.day} and ${seal.day} were removed`);
    if (keptSince !== null && seal.day < keptSince) {
      found.dropped++;
      if (retention === 0 || seal.day > daysBefore(lastOver, retention))
        found.faults.push(`${seal.day}: its rows were removed, and are to be kept`);
    } else {
      const fault = await faultOf(database, seal, previous?.digest ?? NOTHING);
      found.rows += seal.rows;
      if (fault === undefined) found.intact++;
      else found.faults.push(`${seal.day}: ${fault}`);
    }
    previous = seal;
  }
  return found;
}

/** Whether a day has this seal. */
export async function hasSeal(database: Executor, digest: Buffer): Promise<boolean> {
  const { rows } = await database.run(findSeals, {});
  return rows.some((seal) => seal.digest.equals(digest));
}

async function faultOf(database: Executor, sealed: Seal, previous: Buffer): Promise<string | undefined> {
  const now = await sealOf(database, sealed.day, previous);
  if (now.digest.equals(sealed.digest) && now.rows === sealed.rows) return undefined;
  if (now.rows < sealed.rows) return `${sealed.rows - now.rows} of ${sealed.rows} rows were removed`;
  if (now.rows > sealed.rows) return `${now.rows - sealed.rows} rows were inserted`;
  return 'a row, or its seal or the one before, was changed';
}

async function daysOf(database: Executor) {
  const { rows } = await database.run(findDays, {});
  const [days] = rows;
  if (!days) throw new Error('Postgres told no days');
  return days;
}

function nextDay(day: Day): Day {
  return daysBefore(day, -1);
}

function daysBefore(day: Day, days: number): Day {
  return new Date(Date.parse(`${day}T00:00:00Z`) - days * 86_400_000).toISOString().slice(0, 10);
}
