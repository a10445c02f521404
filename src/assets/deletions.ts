/**
 * Deleting for good. One transaction marks the record, frees its quota and enqueues the job that removes the bytes; from
 * here on nobody sees the asset. When its bytes are gone, the job removes the record.
 *
 * Deletions of one caller mostly change the row of one quota, and keep each other waiting from there to their commits. So those
 * that come while one is under way are made by one transaction, the next; see Batcher.
 */
import { NIL } from 'uuid';
import type { Caller } from '../access/caller.ts';
import { type AccessValues, accessOf } from '../access/conditions.ts';
import type { Actor } from '../database/audit.ts';
import { Batcher } from '../database/batcher.ts';
import type { DatabaseHandle, Executor } from '../database/client.ts';
import type { Outbox } from '../database/outbox.ts';
import { retryStatement } from '../database/retry.ts';
import type { Statement, Values } from '../database/statements.ts';
import { leaveCopiesOfAssets } from '../mirrors/leaving.ts';
import { discardDerivativeJob, MAKING_LEASE } from '../processing/derivatives.ts';
import type { Remains } from '../storage/erase.ts';
import { CHANGE_PATIENCE, findChangedBy, findReadable, MAX_CHANGES } from './bulk.ts';
import {
  deleteAssets,
  emptyTrash,
  expireAssets,
  findDeleting,
  findTrashOfOwner,
  findTrashOfProject,
  forgetAssets,
  purgeTrash,
} from './deletion.ts';
import { deleteObjectJob } from './jobs/delete-object.ts';
import type { StepValues } from './life-cycle-step.ts';

/** An asset of which only the bytes, and the record that names them, are left. */
export interface DeletedAsset extends Remains {
  id: string;
}

/** What somebody wants to be deleted. */
interface Wanted {
  access: AccessValues;
  id: string;
  /** That its record must have; null for any. */
  version: number | null;
  actor: Actor;
}

/** What came of each of many; `held`: something keeps it, whoever wants it to be deleted. */
export type Deleted = 'done' | 'forbidden' | 'held';

/** Called first in a transaction of a job; see JobContext. */
type Fence = (transaction: Executor) => Promise<void>;

export class AssetDeletions {
  readonly #handle: DatabaseHandle;
  readonly #outbox: Pick<Outbox, 'sendAll' | 'wake'>;
  readonly #batches = new Batcher<Wanted, boolean>((_right, wanted) => this.#deleteEach(wanted), MAX_CHANGES);

  constructor(handle: DatabaseHandle, outbox: Pick<Outbox, 'sendAll' | 'wake'>) {
    this.#handle = handle;
    this.#outbox = outbox;
  }

  /**
   * Deletes an asset, from the trash or not.
   * @param version only when the record still has this version
   * @param inTransaction what belongs into the same transaction
   * @returns false when there is no such asset (any more)
   */
  async delete(
    caller: Caller,
    id: string,
    version: number | undefined,
    actor: Actor,
    inTransaction?: (transaction: Executor) => Promise<void>,
  ): Promise<boolean> {
    // Postgres writes ids in lower case.
    const access = accessOf(caller);
    const wanted = { access, id: id.toLowerCase(), version: version ?? null, actor };
    // Those of one batch are asked for by the same right.
    if (!inTransaction) return this.#batches.submit(JSON.stringify(access), wanted);
    const deleted = await this.#delete(access, [wanted], async (transaction, ids) => {
      if (ids.has(wanted.id)) await inTransaction(transaction);
    });
    return deleted.has(wanted.id);
  }

  /**
   * Deletes many in one transaction.
   * @param ids each once
   * @param inTransaction what belongs into the same transaction
   * @returns which were deleted, and which there are that the caller may not delete, or nobody
   */
  async deleteMany(
    caller: Caller,
    ids: readonly string[],
    actor: Actor,
    inTransaction: (transaction: Executor, outcomes: ReadonlyMap<string, Deleted>) => Promise<void>,
  ): Promise<ReadonlyMap<string, Deleted>> {
    const access = accessOf(caller);
    const wanted = ids.map((id) => ({ access, id, version: null, actor }));
    let outcomes: ReadonlyMap<string, Deleted> = new Map();
    await this.#delete(access, wanted, async (transaction, deleted) => {
      const others = ids.filter((id) => !deleted.has(id));
      const { rows } =
        others.length === 0 ? { rows: [] } : await transaction.run(findReadable, { ids: others, ...access });
      outcomes = new Map([
        ...[...deleted].map((id): [string, Deleted] => [id, 'done']),
        ...rows.map(({ id, isKept }): [string, Deleted] => [id, isKept ? 'held' : 'forbidden']),
      ]);
      await inTransaction(transaction, outcomes);
    });
    return outcomes;
  }

  /** Deletes for requests that know nothing of each other; of those for one asset, the first deletes it. */
  async #deleteEach(wanted: readonly Wanted[]): Promise<boolean[]> {
    const [first] = wanted;
    if (!first) return [];
    const firsts = new Map(wanted.toReversed().map((each) => [each.id, each]));
    const deleted = await this.#delete(first.access, [...firsts.values()]);
    return wanted.map((each) => deleted.has(each.id) && firsts.get(each.id) === each);
  }

  async #delete(
    access: AccessValues,
    wanted: readonly Wanted[],
    inTransaction?: (transaction: Executor, deleted: ReadonlySet<string>) => Promise<void>,
  ): Promise<ReadonlySet<string>> {
    const ids = wanted.map(({ id }) => id);
    const requestIds = wanted.map(({ actor }) => actor.requestId);
    const callerIds = wanted.map(({ actor }) => actor.callerId);
    const vias = wanted.map(({ actor }) => actor.via);
    const reasons = wanted.map(({ actor }) => actor.because);
    const versions = wanted.map(({ version }) => version);
    const deleted = await retryStatement(CHANGE_PATIENCE, (attempt) =>
      this.#handle.transact(async (transaction) => {
        const { rows } = await transaction.run(deleteAssets, {
          ...access,
          ids,
          versions,
          callerIds,
          requestIds,
          vias,
          reasons,
        });
        await this.#enqueue(transaction, rows);
        const done = new Set(rows.map(({ id }) => id));
        // An earlier commit may have taken effect, and only its answer was lost.
        if (attempt > 1) {
          const values = { ids, requestIds, action: 'asset.deleted' };
          const { rows: before } = await transaction.run(findChangedBy, values);
          for (const { id, requestId } of before)
            if (wanted.some((each) => each.id === id && each.actor.requestId === requestId)) done.add(id);
        }
        await inTransaction?.(transaction, done);
        return done;
      }),
    );
    if (deleted.size > 0) this.#outbox.wake(deleteObjectJob);
    return deleted;
  }

  /** Deletes for good what has been in the trash since before `cutoff`, at most `limit` assets. @returns how many */
  async purgeTrash(cutoff: Date, limit: number, actor: Actor, fence: Fence): Promise<number> {
    return this.#deleteBatch(purgeTrash, { cutoff, limit, ...actor }, fence);
  }

  /**
   * Deletes for good those of these assets that a rule wants deleted by `now`, in a transaction of the caller's.
   * @returns those
   */
  async expire(
    transaction: Executor,
    ids: readonly string[],
    { now, ...rules }: StepValues & { now: Date },
    { because: _rule, ...actor }: Actor,
  ): Promise<string[]> {
    const { rows } = await transaction.run(expireAssets, { ids, now: now.toISOString(), ...rules, ...actor });
    await this.#enqueue(transaction, rows);
    return rows.map(({ id }) => id);
  }

  /**
   * Deletes for good what is in the trash of a place since before `cutoff`: of the next `limit` assets that lie in it.
   * @param after where the last batch ended
   * @param counted in the transaction, with how many were deleted
   * @returns how many were looked at, and where to go on
   */
  async emptyTrash(
    place: {
      ownerId: string | null;
      projectId: string | null;
      cutoff: Date;
      after: { createdAt: Date; id: string } | undefined;
      limit: number;
    },
    actor: Actor,
    fence: Fence,
    counted: (transaction: Executor, deleted: number) => Promise<void>,
  ): Promise<{ looked: number; last: { createdAt: Date; id: string } | undefined }> {
    const { ownerId, projectId, cutoff, after, limit } = place;
    const where = { ownerId, projectId, afterTime: after?.createdAt ?? new Date(0), afterId: after?.id ?? NIL, limit };
    const find = ownerId === null ? findTrashOfProject : findTrashOfOwner;
    const { rows } = await this.#handle.database.run(find, where);
    const ids = rows.map(({ id }) => id);
    await this.#handle.transact(async (transaction) => {
      await fence(transaction);
      const values = { ids, ownerId, projectId, cutoff, ...actor };
      const { rows: deleted } = await transaction.run(emptyTrash, values);
      await this.#enqueue(transaction, deleted);
      await counted(transaction, deleted.length);
    });
    return { looked: rows.length, last: rows.at(-1) ?? after };
  }

  async #deleteBatch<Name extends string>(
    statement: Statement<Name, { id: string }>,
    values: Values<Name>,
    fence: Fence,
  ): Promise<number> {
    return this.#handle.transact(async (transaction) => {
      await fence(transaction);
      const { rows } = await transaction.run(statement, values);
      await this.#enqueue(transaction, rows);
      return rows.length;
    });
  }

  /** Where the bytes of those records are that are to be removed. */
  async findDeleting(ids: string[]): Promise<DeletedAsset[]> {
    const { rows } = await this.#handle.database.run(findDeleting, { ids });
    return rows.map(({ id, objectKey, storedWhole, others }) => ({
      id,
      key: objectKey,
      storedWhole: storedWhole === true,
      others,
    }));
  }

  /**
   * Removes the records of deleted assets, once their bytes are gone. Those that have copies stay until these are gone too; see
   * `copiesGone`.
   * @param held called first in the transaction, with all ids; tells whose records may be removed
   * @returns those, of which there is nothing more to do now
   */
  async forget(ids: string[], held: (transaction: Executor, ids: string[]) => Promise<string[]>): Promise<string[]> {
    return this.#handle.transact(async (transaction) => {
      const removed = await held(transaction, ids);
      if (removed.length === 0) return removed;
      await leaveCopiesOfAssets(transaction, removed);
      const { rows } = await transaction.run(forgetAssets, { ids: removed });
      const jobs = rows.map(({ id: derivativeId }) => ({ derivativeId }));
      await this.#outbox.sendAll(transaction, discardDerivativeJob, jobs, { startAfter: MAKING_LEASE });
      return removed;
    });
  }

  #enqueue(transaction: Executor, deleted: readonly { id: string }[]): Promise<void> {
    const jobs = deleted.map(({ id }) => ({ assetId: id }));
    return this.#outbox.sendAll(transaction, deleteObjectJob, jobs);
  }
}
