/** Erasures in SQL: what was asked for, how far it is, and the receipt. What is deleted is in owned.ts, records.ts and store.ts. */
import { and, count, desc, eq, type SQL, sql } from 'drizzle-orm';
import { v7 as uuidv7 } from 'uuid';
import { type Actor, auditFrom } from '../database/audit.ts';
import type { DatabaseHandle, Executor } from '../database/client.ts';
import type { JobReference, Outbox } from '../database/outbox.ts';
import { build, compile, jsonObject, type Parameter, typed, writtenOut } from '../database/statements.ts';
import { pgActivity } from '../database/tables/catalogs.ts';
import { type ErasureCounts, type ErasureStep, erasures, type projectAssetFates } from '../database/tables/erasures.ts';

export const eraseOwnerJob: JobReference<{ erasureId: string }> = { name: 'erase-owner' };

export type ErasureRow = typeof erasures.$inferSelect;
/** One that is not done yet. */
export type RunningErasure = ErasureRow & { ownerId: string };
export type ProjectAssetFate = (typeof projectAssetFates)[number];

const seldom = { named: false };
const isThis = (p: Parameter<'id'>) => and(eq(erasures.id, p('id')), sql`${erasures.state} = 'running'`);
/** The audit row is of no asset, and names nobody but the pseudonym. */
const audited = {
  ownerId: sql<string>`${erasures.pseudonym}`.as('erased_owner'),
  id: sql<null>`null::uuid`.as('asset'),
  erasureId: sql<string>`${erasures.id}`.as('erasure'),
};

const insertErasure = compile(
  'insert-erasure',
  (p: Parameter<'id' | 'ownerId' | 'pseudonym' | 'projectAssets' | keyof Actor>) => {
    const started = build.$with('started').as(
      build
        .insert(erasures)
        .values({
          id: p('id'),
          ownerId: p('ownerId'),
          pseudonym: p('pseudonym'),
          projectAssets: p('projectAssets'),
          state: 'running',
          step: 'credentials',
          requestedBy: p('callerId'),
          requestId: p('requestId'),
          via: p('via'),
          reason: p('because'),
        })
        .onConflictDoNothing({ target: erasures.ownerId, where: sql`state = 'running'` })
        .returning({ ...audited, projectAssets: erasures.projectAssets }),
    );
    const detail = jsonObject({ erasureId: started.erasureId, projectAssets: started.projectAssets });
    return build
      .with(started, auditFrom(p, started, { action: 'erasure.started', detail }))
      .select({ erasureId: started.erasureId })
      .from(started);
  },
  seldom,
);
const findErasure = compile(
  'find-erasure',
  (p: Parameter<'id'>) =>
    build
      .select()
      .from(erasures)
      .where(eq(erasures.id, p('id'))),
  seldom,
);
const findRunning = compile(
  'find-running-erasure',
  (p: Parameter<'ownerId'>) =>
    build
      .select()
      .from(erasures)
      .where(and(eq(erasures.ownerId, p('ownerId')), sql`${erasures.state} = 'running'`)),
  seldom,
);
const listErasures = (name: string, isMeant: (p: Parameter<'pseudonym'>) => SQL | undefined) =>
  compile(
    name,
    (p: Parameter<'pseudonym' | 'beforeTime' | 'beforeId' | 'limit'>) =>
      build
        .select()
        .from(erasures)
        .where(
          and(
            isMeant(p),
            sql`(${erasures.createdAt}, ${erasures.id})
              < (coalesce(${p('beforeTime')}::timestamptz, 'infinity'), ${p('beforeId')}::uuid)`,
          ),
        )
        .orderBy(desc(erasures.createdAt), desc(erasures.id))
        .limit(p('limit')),
    seldom,
  );
const listAll = listErasures('list-erasures', () => undefined);
const listOfOwner = listErasures('list-erasures-of-owner', (p) => eq(erasures.pseudonym, p('pseudonym')));

const moveOn = compile(
  'move-erasure-on',
  (p: Parameter<'id' | 'step'>) =>
    build
      .update(erasures)
      .set({ step: typed(p('step'), erasures.step) })
      .where(isThis(p)),
  seldom,
);
/** What is counted is added up, so that a batch counts in the transaction that does it. */
const addCounts = compile(
  'add-erasure-counts',
  (p: Parameter<'id' | 'counts'>) =>
    build
      .update(erasures)
      .set({
        counts: sql`${erasures.counts} || (select coalesce(jsonb_object_agg(key,
          coalesce((${erasures.counts} ->> key)::bigint, 0) + value::bigint), '{}') from jsonb_each_text(${p('counts')}::jsonb))`,
      })
      .where(isThis(p))
      .returning({ id: erasures.id }),
  seldom,
);
const setAuditDay = compile(
  'set-erasure-audit-day',
  (p: Parameter<'id' | 'day'>) =>
    build
      .update(erasures)
      .set({ auditDay: typed(p('day'), erasures.auditDay) })
      .where(isThis(p)),
  seldom,
);
const endErasure = compile(
  'end-erasure',
  (p: Parameter<'id' | 'receipt' | 'finishedAt' | keyof Actor>) => {
    const ended = build.$with('ended').as(
      build
        .update(erasures)
        .set({
          state: 'done',
          ownerId: null,
          // Who has asked may have been he, and may have named him.
          requestedBy: sql`case ${erasures.requestedBy} when ${erasures.ownerId} then ${erasures.pseudonym} else ${erasures.requestedBy} end`,
          via: sql`case ${erasures.via} when 'token:' || ${erasures.ownerId} then 'token:' || ${erasures.pseudonym} else ${erasures.via} end`,
          reason: sql`replace(${erasures.reason}, ${erasures.ownerId}, ${erasures.pseudonym})`,
          receipt: typed(p('receipt'), erasures.receipt),
          finishedAt: typed(p('finishedAt'), erasures.finishedAt),
        })
        .where(isThis(p))
        .returning({ ...audited, counts: erasures.counts }),
    );
    const detail = jsonObject({ erasureId: ended.erasureId, counts: ended.counts });
    return build
      .with(ended, auditFrom(p, ended, { action: 'erasure.ended', detail }))
      .select({ erasureId: ended.erasureId })
      .from(ended);
  },
  seldom,
);
/** Transactions of instances of this service that were begun before a time, and have not ended. */
const countEarlier = compile(
  'count-earlier-transactions',
  (p: Parameter<'since'>) =>
    build
      .select({ earlier: count() })
      .from(pgActivity)
      .where(
        and(
          eq(pgActivity.application, 'stowage'),
          sql`${pgActivity.database} = current_database()`,
          sql`${pgActivity.pid} <> pg_backend_pid()`,
          sql`${pgActivity.transactionStart} < ${p('since')}::timestamptz`,
        ),
      ),
  seldom,
);
const readClock = compile(
  'read-clock',
  () =>
    build
      .select({ time: sql<string>`clock_timestamp()::text`.as('time') })
      .from(sql`(select) as nowhere`)
      .limit(writtenOut(1)),
  seldom,
);

export type Fence = (transaction: Executor) => Promise<void>;

export interface Position {
  createdAt: Date;
  id: string;
}

export class ErasuresRepository {
  readonly #handle: DatabaseHandle;
  readonly #outbox: Outbox;

  constructor(handle: DatabaseHandle, outbox: Outbox) {
    this.#handle = handle;
    this.#outbox = outbox;
  }

  /**
   * Begins to erase an owner, with its job; or finds the one that is running, whatever was asked then.
   * @param inTransaction what belongs into the same transaction
   */
  async begin(
    wanted: { ownerId: string; pseudonym: string; projectAssets: ProjectAssetFate },
    actor: Actor,
    inTransaction: (transaction: Executor, erasure: ErasureRow) => Promise<void>,
  ): Promise<ErasureRow> {
    const id = uuidv7();
    return this.#handle.transact(async (transaction) => {
      const { rows } = await transaction.run(insertErasure, { id, ...wanted, ...actor });
      if (rows.length > 0) await this.#outbox.send(transaction, eraseOwnerJob, { erasureId: id });
      const [erasure] = (await transaction.run(findRunning, { ownerId: wanted.ownerId })).rows;
      if (!erasure) throw new Error('the erasure is not there');
      await inTransaction(transaction, erasure);
      return erasure;
    });
  }

  async find(id: string): Promise<ErasureRow | undefined> {
    return (await this.#handle.database.run(findErasure, { id })).rows[0];
  }

  /** @returns undefined when it has ended */
  async running(id: string): Promise<RunningErasure | undefined> {
    const erasure = await this.find(id);
    return erasure?.state === 'running' && erasure.ownerId !== null
      ? { ...erasure, ownerId: erasure.ownerId }
      : undefined;
  }

  /** The latest first. @param pseudonym of those that are meant; absent: all */
  async list(options: { pseudonym?: string; before?: Position | undefined; limit: number }): Promise<ErasureRow[]> {
    const { pseudonym = null, before, limit } = options;
    const last = 'ffffffff-ffff-ffff-ffff-ffffffffffff';
    const values = { pseudonym, beforeTime: before?.createdAt ?? null, beforeId: before?.id ?? last, limit };
    return (await this.#handle.database.run(pseudonym === null ? listAll : listOfOwner, values)).rows;
  }

  /** In the transaction of what was counted. @returns false when it has ended */
  async add(transaction: Executor, id: string, counts: ErasureCounts): Promise<boolean> {
    return (await transaction.run(addCounts, { id, counts })).rows.length > 0;
  }

  async moveOn(id: string, step: ErasureStep, fence: Fence): Promise<void> {
    await this.#handle.transact(async (transaction) => {
      await fence(transaction);
      await transaction.run(moveOn, { id, step });
    });
  }

  async setAuditDay(transaction: Executor, id: string, day: string): Promise<void> {
    await transaction.run(setAuditDay, { id, day });
  }

  /** In the transaction in which the name goes. */
  async end(transaction: Executor, id: string, receipt: string, finishedAt: Date, actor: Actor): Promise<void> {
    await transaction.run(endErasure, { id, receipt, finishedAt, ...actor });
  }

  /** By the clock of the database. */
  async now(): Promise<string> {
    const [row] = (await this.#handle.database.run(readClock, {})).rows;
    if (!row) throw new Error('Postgres told no time');
    return row.time;
  }

  /**
   * Whether some instance is in a transaction that was begun before this time. What such a transaction has read may be older
   * than the erasure: it may still begin an upload.
   */
  async hasEarlier(since: string): Promise<boolean> {
    const [row] = (await this.#handle.database.run(countEarlier, { since })).rows;
    return (row?.earlier ?? 0) > 0;
  }

  /** Has the job go on later. @param pause seconds */
  async goOnLater(id: string, pause: number, fence: Fence): Promise<void> {
    await this.#handle.transact(async (transaction) => {
      await fence(transaction);
      await this.#outbox.send(transaction, eraseOwnerJob, { erasureId: id }, { startAfter: pause });
    });
  }
}

/** What is done is done by who has asked for it. */
export function actorOfErasure({ requestedBy, requestId, via, reason }: ErasureRow): Actor {
  return { callerId: requestedBy, requestId, via, because: reason };
}
