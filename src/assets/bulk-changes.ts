/** Many assets changed in one transaction, each with an outcome and an audit row of its own. */
import type { Caller } from '../access/caller.ts';
import { type AccessValues, accessOf } from '../access/conditions.ts';
import { hasScope } from '../access/may.ts';
import type { Actor, AuditAction } from '../database/audit.ts';
import type { DatabaseHandle, Executor } from '../database/client.ts';
import { retryStatement } from '../database/retry.ts';
import { makeProject, orProjectHasGone, type Place } from '../projects/places.ts';
import { ownerAccount, projectAccount } from '../quotas/accounts.ts';
import { type LimitValues, limitValuesFor } from '../quotas/limit.ts';
import { lockAccountsOf, moveCharge } from '../quotas/moving.ts';
import {
  type BulkResult,
  CHANGE_PATIENCE,
  findChangedBy,
  findReadable,
  lockMoved,
  moveAssets,
  restoreAssets,
  tagAssets,
  trashAssets,
} from './bulk.ts';

/** What is done with each of them; see deletions.ts for deleting them. */
export type BulkChange =
  | { action: 'trash' }
  | { action: 'restore' }
  | { action: 'tag'; add: readonly string[]; remove: readonly string[] }
  | {
      action: 'move';
      /** Where they go; absent: they stay where they are. */
      to?: Place;
      path?: string;
      /** Of accounts that were given none of their own. */
      limits: LimitValues;
    };

const audited: Record<BulkChange['action'], AuditAction> = {
  trash: 'asset.trashed',
  restore: 'asset.restored',
  tag: 'asset.updated',
  move: 'asset.updated',
};

interface Change {
  ids: readonly string[];
  caller: Caller;
  access: AccessValues;
  actor: Actor;
}
type Outcomes = Map<string, BulkResult>;

export class BulkChanges {
  readonly #handle: DatabaseHandle;

  constructor(handle: DatabaseHandle) {
    this.#handle = handle;
  }

  /**
   * @param ids each once
   * @param inTransaction what belongs into the same transaction
   * @returns what was found, and what came of it; in the trash is what is there already
   */
  async change(
    caller: Caller,
    ids: readonly string[],
    change: BulkChange,
    actor: Actor,
    inTransaction: (transaction: Executor, found: ReadonlyMap<string, BulkResult>) => Promise<void>,
  ): Promise<ReadonlyMap<string, BulkResult>> {
    const access = accessOf(caller);
    const changeAll = (attempt: number) =>
      this.#handle.transact(async (transaction) => {
        const outcomes = await changed(transaction, change, { ids, caller, access, actor });
        // An earlier commit may have taken effect, and only its answer was lost.
        if (attempt > 1) {
          const values = { ids, requestIds: [actor.requestId], action: audited[change.action] };
          const { rows: before } = await transaction.run(findChangedBy, values);
          for (const { id } of before) outcomes.set(id, 'done');
        }
        const others = ids.filter((id) => !outcomes.has(id));
        if (others.length > 0) {
          const { rows: readable } = await transaction.run(findReadable, { ids: others, ...access });
          for (const { id } of readable) outcomes.set(id, 'forbidden');
        }
        await inTransaction(transaction, outcomes);
        return outcomes;
      });
    try {
      return await retryStatement(CHANGE_PATIENCE, changeAll);
    } catch (error) {
      throw orProjectHasGone(error);
    }
  }
}

async function changed(transaction: Executor, change: BulkChange, of: Change): Promise<Outcomes> {
  const { ids, access, actor } = of;
  const values = { ids, ...access, ...actor };
  switch (change.action) {
    case 'trash':
      return outcomesOf((await transaction.run(trashAssets, values)).rows);
    case 'restore':
      return outcomesOf((await transaction.run(restoreAssets, values)).rows);
    case 'tag':
      return outcomesOf((await transaction.run(tagAssets, { ...values, add: change.add, remove: change.remove })).rows);
    case 'move':
      return move(transaction, change, of);
  }
}

function outcomesOf(rows: readonly { id: string; outcome: BulkResult }[]): Outcomes {
  return new Map(rows.map(({ id, outcome }) => [id, outcome]));
}

/**
 * Those that another account pays for afterwards are charged to it together, or stay where they are: whoever has no room
 * for all of them gets none.
 */
async function move(
  transaction: Executor,
  { to, path, limits }: Extract<BulkChange, { action: 'move' }>,
  { ids, caller, access, actor }: Change,
): Promise<Outcomes> {
  const outcomes: Outcomes = new Map();
  if (to) await makeProject(transaction, to, caller, actor);
  const { rows } = await transaction.run(lockMoved, { ids, ...access });
  const moved = rows.flatMap((row) => {
    const { id, ownerId, account, size, projectId } = row;
    const leaves = to !== undefined && (to.projectId ?? null) !== projectId;
    const refusal = refusalToMove(row, leaves, hasScope(caller, 'asset.hold'));
    outcomes.set(id, refusal ?? 'done');
    if (refusal) return [];
    return [{ id, ownerId, size: size ?? 0, from: account, to: leaves ? payerOf(to, ownerId) : account }];
  });
  const charges = Map.groupBy(
    moved.filter((each) => each.from !== each.to),
    (each) => JSON.stringify([each.from, each.to]),
  );
  await lockAccountsOf(
    transaction,
    [...charges.values()].flatMap(([each]) => (each ? [each.from, each.to] : [])),
  );
  for (const group of charges.values()) {
    const [first] = group;
    if (!first) continue;
    const used = group.reduce((sum, { size }) => sum + size, 0);
    const charge = {
      from: first.from,
      to: first.to,
      used,
      reserved: 0,
      files: group.length,
      limits: limitValuesFor(limits, first.to, caller),
    };
    if (!(await moveCharge(transaction, charge))) for (const { id } of group) outcomes.set(id, 'no-room');
  }
  const going = moved.filter(({ id }) => outcomes.get(id) === 'done');
  await transaction.run(moveAssets, {
    ids: going.map(({ id }) => id),
    accounts: going.map((each) => (each.to === each.ownerId ? null : each.to)),
    moves: to !== undefined,
    projectId: to?.projectId ?? null,
    path: path ?? null,
    ...actor,
  });
  return outcomes;
}

/** @param hasHolds the scope for them; see `mayLeave` in moving.ts */
function refusalToMove(
  { isTrashed, mayMove, isHeld, mayHold }: { isTrashed: boolean; mayMove: boolean; isHeld: boolean; mayHold: boolean },
  leaves: boolean,
  hasHolds: boolean,
): BulkResult | undefined {
  if (isTrashed) return 'in-trash';
  if (leaves && !mayMove) return 'forbidden';
  return leaves && isHeld && !(mayHold && hasHolds) ? 'held' : undefined;
}

/** Outside projects its owner pays, whoever moves it there; see moving.ts. */
function payerOf({ projectId, account }: Place, ownerId: string): string {
  return projectId !== undefined && account === projectAccount(projectId) ? account : ownerAccount(ownerId);
}
