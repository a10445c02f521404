/** Emptyings of the trash in SQL. A row is written anew each time; its id tells one time from another. */
import { and, eq, isNull, lte, or, type SQL, sql } from 'drizzle-orm';
import { v7 as uuidv7 } from 'uuid';
import { type Actor, auditFrom } from '../database/audit.ts';
import type { DatabaseHandle, Executor } from '../database/client.ts';
import type { JobReference, Outbox } from '../database/outbox.ts';
import { build, compile, excluded, jsonObject, now, type Parameter } from '../database/statements.ts';
import { assets, isFree, isHeld, isVisible } from '../database/tables/assets.ts';
import { trashEmptyings } from '../database/tables/trash.ts';
import { ownerAccount, projectAccount } from '../quotas/accounts.ts';

export const emptyTrashJob: JobReference<{ account: string; id: string }> = { name: 'empty-trash' };

/** Whose trash: that of somebody outside projects, or that of a project. */
export type TrashPlace = { ownerId: string } | { projectId: string };
export type Emptying = typeof trashEmptyings.$inferSelect;

const seldom = { named: false };
const isRunning = sql`${trashEmptyings.state} = 'running'`;
const isThis = (p: Parameter<'account' | 'id'>) =>
  and(eq(trashEmptyings.account, p('account')), eq(trashEmptyings.id, p('id')), isRunning);
/** The audit row is of no asset; that of a project is who acts. */
const ofAudit = {
  id: sql<null>`null::uuid`.as('asset'),
  ownerId: sql<string>`coalesce(${trashEmptyings.ownerId}, ${trashEmptyings.requestedBy})`.as('audited_owner'),
  projectId: trashEmptyings.projectId,
};

const findEmptying = compile(
  'find-trash-emptying',
  (p: Parameter<'account'>) =>
    build
      .select()
      .from(trashEmptyings)
      .where(eq(trashEmptyings.account, p('account'))),
  seldom,
);
/** One that is running goes on, with what came into the trash since. */
const joinEmptying = compile(
  'join-trash-emptying',
  (p: Parameter<'account'>) =>
    build
      .update(trashEmptyings)
      .set({ cutoff: now, found: null, held: null })
      .where(and(eq(trashEmptyings.account, p('account')), isRunning))
      .returning(),
  seldom,
);
const insertEmptying = compile(
  'insert-trash-emptying',
  (p: Parameter<'account' | 'id' | 'ownerId' | 'projectId' | keyof Actor>) => {
    const started = build.$with('started').as(
      build
        .insert(trashEmptyings)
        .values({
          account: p('account'),
          id: p('id'),
          ownerId: p('ownerId'),
          projectId: p('projectId'),
          state: 'running',
          cutoff: now,
          requestedBy: p('callerId'),
          requestId: p('requestId'),
          via: p('via'),
          reason: p('because'),
        })
        .onConflictDoUpdate({
          target: trashEmptyings.account,
          set: {
            ...Object.fromEntries(
              (
                [
                  'id',
                  'state',
                  'cutoff',
                  'requestedBy',
                  'requestId',
                  'via',
                  'reason',
                  'found',
                  'held',
                  'deleted',
                  'createdAt',
                  'finishedAt',
                ] as const
              ).map((name): [string, SQL] => [name, excluded(trashEmptyings[name])]),
            ),
          },
          setWhere: sql`not ${isRunning}`,
        })
        .returning(ofAudit),
    );
    return build
      .with(started, auditFrom(p, started, { action: 'trash.emptying-started' }))
      .select({ ownerId: started.ownerId })
      .from(started);
  },
  seldom,
);
const countTrash = compile(
  'count-trash',
  (p: Parameter<'account' | 'id'>) => {
    const ofPlace = or(
      and(eq(assets.ownerId, trashEmptyings.ownerId), isNull(assets.projectId)),
      eq(assets.projectId, trashEmptyings.projectId),
    );
    const counted = (which: SQL) =>
      build
        .select({ count: sql`count(*)` })
        .from(assets)
        .where(and(isVisible, which, lte(assets.trashedAt, trashEmptyings.cutoff), ofPlace));
    return build
      .update(trashEmptyings)
      .set({ found: sql`${trashEmptyings.deleted} + (${counted(isFree)})`, held: sql`(${counted(isHeld)})` })
      .where(and(isThis(p), isNull(trashEmptyings.found)));
  },
  seldom,
);
const addDeleted = compile(
  'add-trash-deleted',
  (p: Parameter<'account' | 'id' | 'deleted'>) =>
    build
      .update(trashEmptyings)
      .set({ deleted: sql`${trashEmptyings.deleted} + ${p('deleted')}::bigint` })
      .where(isThis(p)),
  seldom,
);
/** Not when somebody has asked meanwhile for what came into the trash since. */
const endEmptying = compile(
  'end-trash-emptying',
  (p: Parameter<'account' | 'id' | 'cutoff' | keyof Actor>) => {
    const ended = build.$with('ended').as(
      build
        .update(trashEmptyings)
        .set({ state: 'done', finishedAt: now })
        .where(and(isThis(p), sql`${trashEmptyings.cutoff} <= ${p('cutoff')}::timestamptz`))
        .returning({ ...ofAudit, deleted: trashEmptyings.deleted }),
    );
    const detail = jsonObject({ deleted: ended.deleted });
    return build
      .with(ended, auditFrom(p, ended, { action: 'trash.emptied', detail }))
      .select({ deleted: ended.deleted })
      .from(ended);
  },
  seldom,
);

type Fence = (transaction: Executor) => Promise<void>;

export class TrashRepository {
  readonly #handle: DatabaseHandle;
  readonly #outbox: Outbox;

  constructor(handle: DatabaseHandle, outbox: Outbox) {
    this.#handle = handle;
    this.#outbox = outbox;
  }

  /**
   * Begins to empty the trash, with its job; one that is running takes what came into it since.
   * @param inTransaction what belongs into the same transaction
   */
  async begin(
    place: TrashPlace,
    actor: Actor,
    inTransaction: (transaction: Executor, emptying: Emptying) => Promise<void>,
  ): Promise<Emptying> {
    const account = accountOf(place);
    return this.#handle.transact(async (transaction) => {
      const { rows: joined } = await transaction.run(joinEmptying, { account });
      const emptying = joined[0] ?? (await this.#insert(transaction, account, place, actor));
      await inTransaction(transaction, emptying);
      return emptying;
    });
  }

  async #insert(transaction: Executor, account: string, place: TrashPlace, actor: Actor): Promise<Emptying> {
    const id = uuidv7();
    const whose = { ownerId: null, projectId: null, ...place };
    const { rows } = await transaction.run(insertEmptying, { account, id, ...whose, ...actor });
    // Without a row, another request was faster by a moment: its job does this one's work.
    if (rows.length > 0) await this.#outbox.send(transaction, emptyTrashJob, { account, id });
    const emptying = await findIn(transaction, account);
    if (!emptying) throw new Error('the emptying of the trash is not there');
    return emptying;
  }

  /** The one that is running, or the last one. */
  async find(place: TrashPlace): Promise<Emptying | undefined> {
    return findIn(this.#handle.database, accountOf(place));
  }

  /** @returns undefined when it has ended */
  async running({ account, id }: Pick<Emptying, 'account' | 'id'>): Promise<Emptying | undefined> {
    const emptying = await findIn(this.#handle.database, account);
    return emptying?.id === id && emptying.state === 'running' ? emptying : undefined;
  }

  /** Counts what is to be deleted, where that is not known. */
  async count({ account, id }: Emptying): Promise<void> {
    await this.#handle.database.run(countTrash, { account, id });
  }

  /** In the transaction that deletes them. */
  async add(transaction: Executor, { account, id }: Emptying, deleted: number): Promise<void> {
    await transaction.run(addDeleted, { account, id, deleted });
  }

  /** @returns false when there is more to do since */
  async end({ account, id, cutoff }: Emptying, actor: Actor, fence: Fence): Promise<boolean> {
    return this.#handle.transact(async (transaction) => {
      await fence(transaction);
      return (await transaction.run(endEmptying, { account, id, cutoff, ...actor })).rows.length > 0;
    });
  }
}

async function findIn(executor: Executor, account: string): Promise<Emptying | undefined> {
  return (await executor.run(findEmptying, { account })).rows[0];
}

function accountOf(place: TrashPlace): string {
  return 'ownerId' in place ? ownerAccount(place.ownerId) : projectAccount(place.projectId);
}
