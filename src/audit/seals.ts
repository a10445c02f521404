/**
 * Proof that nobody has changed the audit trail. Triggers refuse changes, but whoever owns the database can switch them off.
 * So when a day is over, its rows are sealed: SHA-256 over the seal of the day before and all rows of the day in the order
 * of time and number. A row that is changed, removed or inserted afterwards makes its day come to another digest; who makes
 * a new seal for that day breaks all that follow. Against one who makes all of them anew helps only a digest that lies
 * elsewhere: each is written to the log, and `npm run audit -- --verify --expect` compares with it.
 */
import { createHash, type Hash } from 'node:crypto';
import { and, asc, desc, eq, gte, lt, sql } from 'drizzle-orm';
import type { DatabaseHandle, Executor } from '../database/client.ts';
import { build, compile, nowhere, type Parameter, typed } from '../database/statements.ts';
import { auditEvents, auditSeals } from '../database/tables/audit.ts';
import { auditFormerSeals, erasures } from '../database/tables/erasures.ts';

/** Rows in memory at once. */
const BATCH = 2000;
/** Of the first day there is no seal before. */
export const NOTHING = Buffer.alloc(32);
/** Hours after which nothing of a day can still be written: no transaction takes so long. */
const SETTLED = 1;

/** Run once a day, each over another amount. */
const seldom = { named: false };
/** `YYYY-MM-DD`, in UTC. */
export type Day = string;

export const startOf = (day: ReturnType<Parameter<'day'>>, days: number) =>
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
const findSeal = compile(
  'find-audit-seal',
  (p: Parameter<'day'>) =>
    build
      .select({ rows: auditSeals.rows, digest: auditSeals.digest })
      .from(auditSeals)
      .where(sql`${auditSeals.day} = ${p('day')}::date`),
  seldom,
);
/** What seals gave way to. An erasure that is running has not yet come to the days behind. */
const findFormerSeals = compile(
  'find-former-audit-seals',
  () =>
    build
      .select({
        day: sql<Day>`${auditFormerSeals.day}::text`.as('former_day'),
        erasureId: auditFormerSeals.erasureId,
        digest: auditFormerSeals.digest,
        replacedAt: auditFormerSeals.replacedAt,
        wasIntact: auditFormerSeals.wasIntact,
        isRunning: sql<boolean>`coalesce(${erasures.state} = 'running', false)`.as('is_running'),
      })
      .from(auditFormerSeals)
      .leftJoin(erasures, eq(erasures.id, auditFormerSeals.erasureId))
      .orderBy(asc(auditFormerSeals.day), asc(auditFormerSeals.replacedAt)),
  seldom,
);
const findRecentErasure = compile(
  'find-recent-erasure',
  () =>
    build
      .select({ id: erasures.id })
      .from(erasures)
      .where(sql`(${erasures.state} = 'running' or ${erasures.finishedAt} > now() - interval '1 day')`)
      .limit(1),
  seldom,
);
/** Whoever makes a seal, new or anew, has the turn until his transaction ends. */
const takeTurn = compile(
  'take-turn-of-seals',
  () => build.select({ taken: sql`pg_advisory_xact_lock(7083201993)`.as('taken') }).from(nowhere),
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
        today: sql<Day>`(now() at time zone 'UTC')::date::text`,
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
  const rows = await hashRows(database, day, { hash, signal });
  return { day, rows, digest: hash.digest() };
}

/** Positions of rows, both inclusive. */
export interface RowRange {
  firstAt: Date;
  firstId: string;
  lastAt: Date;
  lastId: string;
}

/**
 * Adds the rows of a day to a digest, in batches.
 * @param change called with the range of each batch, which it may change; says how many rows of it are others now
 * @param changed a digest of the rows as they are then
 * @returns how many there are
 */
export async function hashRows(
  database: Executor,
  day: Day,
  options: {
    hash: Hash;
    signal?: AbortSignal | undefined;
    change?: (range: RowRange) => Promise<number>;
    changed?: Hash;
  },
): Promise<number> {
  const { hash, signal, change, changed } = options;
  let rows = 0;
  let last: { time: Date; id: string } | undefined;
  do {
    signal?.throwIfAborted();
    const values = { day, afterAt: last?.time ?? null, afterId: last?.id ?? '0' };
    const batch = (await database.run(findRows, values)).rows;
    addTo(hash, batch);
    const range = rangeOf(batch);
    const count = range && change ? await change(range) : 0;
    if (changed) addTo(changed, count > 0 ? (await database.run(findRows, values)).rows : batch);
    rows += batch.length;
    last = batch.length === BATCH ? batch.at(-1) : undefined;
  } while (last);
  return rows;
}

function addTo(hash: Hash, batch: readonly { time: Date }[]): void {
  for (const { time: _, ...row } of batch) hash.update(`${JSON.stringify(Object.values(row))}\n`);
}

function rangeOf(batch: readonly { time: Date; id: string }[]): RowRange | undefined {
  const [first, last] = [batch[0], batch.at(-1)];
  return first && last && { firstAt: first.time, firstId: first.id, lastAt: last.time, lastId: last.id };
}

/** So that no day is sealed by a seal before it that is about to change. */
export async function takeSealTurn(transaction: Executor): Promise<void> {
  await transaction.run(takeTurn, {});
}

/** Of one day, if it has one. */
export async function findSealOf(executor: Executor, day: Day): Promise<{ rows: number; digest: Buffer } | undefined> {
  return (await executor.run(findSeal, { day })).rows[0];
}

/** The last day that has a seal. */
export async function lastSealedDay(executor: Executor): Promise<Day | undefined> {
  return (await executor.run(findLastSeal, {})).rows[0]?.day;
}

/** Seals each day that is over and has no seal. @returns the new seals */
export async function sealPastDays(handle: DatabaseHandle, signal?: AbortSignal): Promise<Seal[]> {
  const { database } = handle;
  const { first, lastOver } = await daysOf(database);
  const { rows } = await database.run(findLastSeal, {});
  let [previous] = rows;
  const sealed: Seal[] = [];
  for (let day = previous ? nextDay(previous.day) : first; day !== null && day <= lastOver; day = nextDay(day)) {
    const seal = await sealOf(database, day, previous?.digest ?? NOTHING, signal);
    // Somebody else was faster, or has sealed the day before anew: he goes on, or the next run does.
    if (!(await keepSeal(handle, seal, previous))) break;
    sealed.push(seal);
    previous = seal;
  }
  return sealed;
}

async function keepSeal(
  handle: DatabaseHandle,
  seal: Seal,
  previous: { day: Day; digest: Buffer } | undefined,
): Promise<boolean> {
  return handle.transact(async (transaction) => {
    await takeSealTurn(transaction);
    const [last] = (await transaction.run(findLastSeal, {})).rows;
    const isSame = previous ? last?.day === previous.day && last.digest.equals(previous.digest) : last === undefined;
    if (!isSame) return false;
    // A name may have been replaced while the rows were read.
    const [recent] = (await transaction.run(findRecentErasure, {})).rows;
    if (recent && !(await sealOf(transaction, seal.day, previous?.digest ?? NOTHING)).digest.equals(seal.digest))
      return false;
    return (await transaction.run(insertSeal, { ...seal })).rows.length > 0;
  });
}

export interface Verification {
  /** Days whose rows are as they were sealed. */
  intact: number;
  /** Days whose rows are kept no more. */
  dropped: number;
  rows: number;
  /** The last seal. */
  last: Seal | undefined;
  /** Days that were sealed anew, because an erasure has replaced a name in them or before them. */
  resealed: number;
  /** What is not as it was, in words. */
  faults: string[];
}

type FormerSeal = Awaited<ReturnType<typeof formerSeals>>[number];

async function formerSeals(database: Executor) {
  return (await database.run(findFormerSeals, {})).rows;
}

/**
 * Compares all rows with the seals.
 * @param retention days for which rows are kept; 0 for ever
 */
export async function verifyAudit(database: Executor, retention: number): Promise<Verification> {
  const { keptSince, lastOver } = await daysOf(database);
  const { rows: seals } = await database.run(findSeals, {});
  const formers = await formerSeals(database);
  const resealed = new Set(formers.map(({ day }) => day)).size;
  const found: Verification = { intact: 0, dropped: 0, rows: 0, last: seals.at(-1), resealed, faults: [] };
  for (const { day, erasureId } of formers.filter(({ wasIntact }) => !wasIntact))
    found.faults.push(`${day}: it was not as it had been sealed before the erasure ${erasureId} replaced a name`);
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
      const fault = await faultOf(database, seal, previousDigests(seal, previous, formers));
      found.rows += seal.rows;
      if (fault === undefined) found.intact++;
      else found.faults.push(`${seal.day}: ${fault}`);
    }
    previous = seal;
  }
  return found;
}

/** Whether a day has this seal, or had it until an erasure replaced a name. */
export async function hasSeal(database: Executor, digest: Buffer): Promise<'has' | 'had' | undefined> {
  const { rows: seals } = await database.run(findSeals, {});
  if (seals.some((seal) => seal.digest.equals(digest))) return 'has';
  return (await formerSeals(database)).some((seal) => seal.digest.equals(digest)) ? 'had' : undefined;
}

/** What the seal of a day may be made on: an erasure that is running may not have come to it yet. */
function previousDigests(seal: Seal, previous: Seal | undefined, formers: readonly FormerSeal[]): Buffer[] {
  const isDone = (erasureId: string) =>
    formers.some((former) => former.day === seal.day && former.erasureId === erasureId);
  const waiting = formers.filter(
    ({ day, isRunning, erasureId }) => isRunning && day === previous?.day && !isDone(erasureId),
  );
  return [previous?.digest ?? NOTHING, ...waiting.map(({ digest }) => digest)];
}

/** @param previous any of these may be the seal of the day before */
async function faultOf(database: Executor, sealed: Seal, previous: readonly Buffer[]): Promise<string | undefined> {
  let rows = sealed.rows;
  for (const digest of previous) {
    const now = await sealOf(database, sealed.day, digest);
    if (now.digest.equals(sealed.digest) && now.rows === sealed.rows) return undefined;
    rows = now.rows;
  }
  if (rows < sealed.rows) return `${sealed.rows - rows} of ${sealed.rows} rows were removed`;
  if (rows > sealed.rows) return `${rows - sealed.rows} rows were inserted`;
  return 'a row, or its seal or the one before, was changed';
}

export async function daysOf(database: Executor) {
  const { rows } = await database.run(findDays, {});
  const [days] = rows;
  if (!days) throw new Error('Postgres told no days');
  return days;
}

export function nextDay(day: Day): Day {
  return daysBefore(day, -1);
}

export function daysBefore(day: Day, days: number): Day {
  return new Date(Date.parse(`${day}T00:00:00Z`) - days * 86_400_000).toISOString().slice(0, 10);
}
