/**
 * The name of an erased owner in the audit trail gives way to his pseudonym. A day that was sealed then comes to another
 * digest, and so do all after it; so each of them is sealed anew, one transaction a day, and the seal that it had is kept in
 * `audit_former_seals` with the erasure that it gave way to. Before a day is changed, its rows are compared with the seal
 * that it has: what was not as it was sealed is told by that row for ever, so no erasure hides what somebody has changed.
 *
 * In between, `npm run audit -- --verify` knows from the former seals how far it is. Seals of new days wait; see `takeSealTurn`.
 */
import { createHash } from 'node:crypto';
import { and, gte, lt, sql } from 'drizzle-orm';
import type { DatabaseHandle, Executor } from '../database/client.ts';
import { build, compile, nowhere, type Parameter, typed } from '../database/statements.ts';
import { auditEvents, auditSeals } from '../database/tables/audit.ts';
import { auditFormerSeals } from '../database/tables/erasures.ts';
import {
  type Day,
  daysBefore,
  daysOf,
  findSealOf,
  hashRows,
  NOTHING,
  type RowRange,
  startOf,
  takeSealTurn,
} from './seals.ts';

const seldom = { named: false };

const pseudonymise = compile(
  'pseudonymise-audit-rows',
  (p: Parameter<'erasureId' | 'firstAt' | 'firstId' | 'lastAt' | 'lastId'>) =>
    build
      .select({
        changed:
          sql<number>`audit_events_pseudonymise(${p('erasureId')}::uuid, ${p('firstAt')}::timestamptz, ${p('firstId')}::bigint,
          ${p('lastAt')}::timestamptz, ${p('lastId')}::bigint)`.as('changed'),
      })
      .from(nowhere),
  seldom,
);
const reseal = compile(
  'reseal-audit-day',
  (p: Parameter<'erasureId' | 'day' | 'former' | 'renewed' | 'intact'>) =>
    build
      .select({
        isDone:
          sql<boolean>`audit_reseal(${p('erasureId')}::uuid, ${p('day')}::date, ${typed(p('former'), auditSeals.digest)},
          ${typed(p('renewed'), auditSeals.digest)}, ${p('intact')}::boolean)`.as('is_done'),
      })
      .from(nowhere),
  seldom,
);
/** Former digest of a day that this erasure has sealed anew. */
const findFormer = compile(
  'find-former-audit-seal',
  (p: Parameter<'erasureId' | 'day'>) =>
    build
      .select({ digest: auditFormerSeals.digest })
      .from(auditFormerSeals)
      .where(
        and(
          sql`${auditFormerSeals.day} = ${p('day')}::date`,
          sql`${auditFormerSeals.erasureId} = ${p('erasureId')}::uuid`,
        ),
      ),
  seldom,
);
/** Whether a day has rows that name somebody; as the function of the migrations finds them. */
const findNaming = compile(
  'find-audit-rows-naming',
  (p: Parameter<'day' | 'ownerId'>) =>
    build
      .select({ id: auditEvents.id })
      .from(auditEvents)
      .where(
        and(
          gte(auditEvents.at, startOf(p('day'), 0)),
          lt(auditEvents.at, startOf(p('day'), 1)),
          sql`(${auditEvents.actorId} = ${p('ownerId')} or ${auditEvents.ownerId} = ${p('ownerId')} or ${auditEvents.via} = 'token:' || ${p('ownerId')}
            or position(${p('ownerId')} in ${auditEvents.reason}) > 0
            or position(to_json(${p('ownerId')}::text)::text in ${auditEvents.detail}::text) > 0)`,
        ),
      )
      .limit(1),
  seldom,
);
interface WhichDay {
  erasureId: string;
  ownerId: string;
  day: Day;
}

export interface PseudonymisedDay {
  day: Day;
  /** Rows that named him. */
  rows: number;
  /** It was sealed, and its seal is another one now. */
  resealed?: { former: Buffer; renewed: Buffer; wasIntact: boolean };
}

/**
 * Replaces the name in the rows of one day, and seals the day anew where that changes its seal: because of its rows, or
 * because the seal of the day before has changed. One transaction; rows are in memory in batches.
 * @param also first in the transaction
 * @param done last in the transaction
 */
export async function pseudonymiseDay(
  handle: DatabaseHandle,
  which: WhichDay,
  also: (transaction: Executor) => Promise<void>,
  done: (transaction: Executor, outcome: PseudonymisedDay) => Promise<void>,
): Promise<PseudonymisedDay> {
  return handle.transact(async (transaction) => {
    await also(transaction);
    await takeSealTurn(transaction);
    const outcome = await renewDay(transaction, which);
    await done(transaction, outcome);
    return outcome;
  });
}

async function renewDay(transaction: Executor, which: WhichDay): Promise<PseudonymisedDay> {
  const { erasureId, ownerId, day } = which;
  const outcome: PseudonymisedDay = { day, rows: 0 };
  const dayBefore = daysBefore(day, 1);
  const formerOf = async (of: Day) => (await transaction.run(findFormer, { erasureId, day: of })).rows[0]?.digest;
  // It was done before, and only the answer was lost.
  if (await formerOf(day)) return outcome;
  const seal = await findSealOf(transaction, day);
  const formerBefore = await formerOf(dayBefore);
  const isNamed = (await transaction.run(findNaming, { day, ownerId })).rows.length > 0;
  if (!isNamed && !(seal && formerBefore)) return outcome;
  const previous = (await findSealOf(transaction, dayBefore))?.digest ?? NOTHING;
  const hash = createHash('sha256')
    .update(formerBefore ?? previous)
    .update(day);
  const changed = createHash('sha256').update(previous).update(day);
  const change = async (range: RowRange) => {
    const { rows } = await transaction.run(pseudonymise, { erasureId, ...range });
    const count = rows[0]?.changed ?? 0;
    outcome.rows += count;
    return count;
  };
  const rows = await hashRows(transaction, day, { hash, change, changed });
  if (!seal) return outcome;
  const renewed = changed.digest();
  // Rows of what is held are found, and stay.
  if (renewed.equals(seal.digest)) return outcome;
  const wasIntact = rows === seal.rows && hash.digest().equals(seal.digest);
  const values = { erasureId, day, former: seal.digest, renewed, intact: wasIntact };
  const { rows: told } = await transaction.run(reseal, values);
  if (!told[0]?.isDone) throw new Error(`the seal of ${day} has changed meanwhile`);
  return { ...outcome, resealed: { former: seal.digest, renewed, wasIntact } };
}

/** The rows that he has written or that are about him, wherever they are: those that came since their day was done. */
export async function pseudonymiseLate(transaction: Executor, erasureId: string): Promise<number> {
  const nowhereAt = { firstAt: null, firstId: null, lastAt: null, lastId: null };
  const { rows } = await transaction.run(pseudonymise, { erasureId, ...nowhereAt });
  return rows[0]?.changed ?? 0;
}

/** The first day of the audit trail that is kept, and today. */
export async function auditDays(executor: Executor): Promise<{ first: Day | undefined; today: Day }> {
  const { first, today } = await daysOf(executor);
  return { first: first ?? undefined, today };
}
