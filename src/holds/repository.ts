/**
 * Holds in SQL. The row of the asset is locked, judged and written: whoever wants to delete it meanwhile waits, and finds
 * what was written; and whoever was faster with a deletion leaves no asset to be held.
 */
import { and, eq, sql } from 'drizzle-orm';
import type { Caller } from '../access/caller.ts';
import { type AccessParameter, accessOf, roleOn } from '../access/conditions.ts';
import { roleAt } from '../access/rules.ts';
import { type Asset, assetColumns, toAsset } from '../assets/asset.ts';
import { CHANGE_PATIENCE, findChangedBy } from '../assets/bulk.ts';
import { isOne, nextVersion } from '../assets/conditions.ts';
import { type Actor, auditFrom } from '../database/audit.ts';
import type { DatabaseHandle, Executor } from '../database/client.ts';
import type { Outbox } from '../database/outbox.ts';
import { retryStatement } from '../database/retry.ts';
import { build, compile, type Parameter, typed } from '../database/statements.ts';
import { assets, isHeld, isVisible } from '../database/tables/assets.ts';
import { auditRows } from '../database/tables/audit.ts';
import type { HeldFor } from '../database/tables/holds.ts';
import { assetVersions } from '../database/tables/versions.ts';
import { Problem } from '../problems.ts';
import { nextStep } from '../processing/pipeline.ts';
import { stepJob } from '../processing/step-jobs.ts';
import type { holdActions } from './audit.ts';
import { lockObjectsJob } from './jobs/lock-objects.ts';
import { tooManyHolds } from './problems.ts';
import { judgeRetention, type Retention } from './retention.ts';

/** Of one asset: with their reasons they take some 8 KiB of its row. */
export const MAX_HOLDS = 10;

const lockForHold = compile('lock-asset-for-hold', (p: Parameter<'id' | AccessParameter>) =>
  build
    .select({
      ...assetColumns,
      isHeld: isHeld.as('is_held'),
      rank: roleOn(p).as('rank'),
      now: sql<number>`extract(epoch from now()) * 1000`.mapWith(Number).as('now_ms'),
    })
    .from(assets)
    .where(and(isOne(p, 'asset.hold'), isVisible))
    .for('update'),
);

const writeHolds = compile(
  'write-holds',
  (p: Parameter<'id' | 'holds' | 'retainUntil' | 'retentionMode' | 'action' | 'detail' | keyof Actor>) => {
    const changed = build.$with('changed').as(
      build
        .update(assets)
        .set({
          ...nextVersion,
          holds: typed(p('holds'), assets.holds),
          retainUntil: typed(p('retainUntil'), assets.retainUntil),
          retentionMode: typed(p('retentionMode'), assets.retentionMode),
        })
        .where(and(eq(assets.id, p('id')), isVisible))
        .returning({ ...assetColumns, isHeld: isHeld.as('is_held') }),
    );
    const detail = typed(p('detail'), auditRows.detail);
    return build
      .with(changed, auditFrom(p, changed, { action: p('action'), detail }))
      .select()
      .from(changed);
  },
);

const findKeys = compile('find-keys-of-asset', (p: Parameter<'id'>) =>
  build
    .select({ key: assets.objectKey })
    .from(assets)
    .where(eq(assets.id, p('id')))
    .unionAll(
      build
        .select({ key: assetVersions.objectKey })
        .from(assetVersions)
        .where(eq(assetVersions.assetId, p('id'))),
    ),
);

interface Locked {
  asset: Asset;
  isHeld: boolean;
  isAdministrator: boolean;
  now: Date;
}

/** What is to be written; what it does not name stays. */
interface Change {
  holds?: HeldFor | null;
  retention?: Retention;
  action: (typeof holdActions)[number];
  detail: Record<string, unknown>;
}

type WithAsset = (transaction: Executor, asset: Asset) => Promise<void>;

export interface HoldsRepositoryOptions {
  outbox: Outbox;
  /** Whether the object store may keep objects by itself. */
  locksObjects: boolean;
  /** Days ahead that an asset may be retained. */
  longest: number;
}

export class HoldsRepository {
  readonly #handle: DatabaseHandle;
  readonly #options: HoldsRepositoryOptions;

  constructor(handle: DatabaseHandle, options: HoldsRepositoryOptions) {
    this.#handle = handle;
    this.#options = options;
  }

  /**
   * Sets a hold; one of this name that is there for the same reason stays as it is.
   * @param inTransaction what belongs into the same transaction
   * @returns undefined when there is no such asset that the caller may hold
   * @throws Problem too-many-holds; forbidden, for the hold of an administrator
   */
  async set(
    caller: Caller,
    id: string,
    { name, reason }: { name: string; reason: string },
    actor: Actor,
    inTransaction: WithAsset,
  ): Promise<Asset | undefined> {
    return this.#change(caller, id, 'asset.held', actor, inTransaction, ({ asset, isAdministrator, now }) => {
      const { [name]: before, ...others } = asset.holds ?? {};
      if (before?.reason === reason) return undefined;
      if (before?.byAdministrator && !isAdministrator) throw ofAdministrator(name);
      if (Object.keys(others).length >= MAX_HOLDS)
        throw new Problem(tooManyHolds, { detail: `An asset has at most ${MAX_HOLDS} holds. Take one off first.` });
      const hold = {
        reason,
        by: caller.id,
        at: now.toISOString(),
        ...(isAdministrator && { byAdministrator: true as const }),
      };
      return {
        holds: { ...others, [name]: hold },
        action: 'asset.held',
        detail: { name: asset.name, hold: name, heldFor: reason },
      };
    });
  }

  /**
   * Takes a hold off.
   * @returns undefined when there is no such asset that the caller may hold
   * @throws Problem not-found, where it has no such hold; forbidden, for the hold of an administrator
   */
  async remove(
    caller: Caller,
    id: string,
    name: string,
    actor: Actor,
    inTransaction: WithAsset,
  ): Promise<Asset | undefined> {
    return this.#change(caller, id, 'asset.hold-removed', actor, inTransaction, ({ asset, isAdministrator }) => {
      const { [name]: before, ...others } = asset.holds ?? {};
      if (!before) throw new Problem('not-found', { detail: 'The asset has no hold of this name.' });
      if (before.byAdministrator && !isAdministrator) throw ofAdministrator(name);
      return {
        holds: Object.keys(others).length > 0 ? others : null,
        action: 'asset.hold-removed',
        detail: { name: asset.name, hold: name, setBy: before.by, setAt: before.at, heldFor: before.reason },
      };
    });
  }

  /**
   * Retains an asset, or changes until when it is retained.
   * @returns undefined when there is no such asset that the caller may hold
   * @throws Problem as `judgeRetention` does
   */
  async retain(
    caller: Caller,
    id: string,
    wanted: Retention,
    actor: Actor,
    inTransaction: WithAsset,
  ): Promise<Asset | undefined> {
    return this.#change(caller, id, 'asset.retained', actor, inTransaction, ({ asset, isAdministrator, now }) => {
      const { retainUntil, retentionMode } = asset;
      const current = retainUntil && retentionMode && { retainUntil, retentionMode };
      if (!judgeRetention({ current, wanted, isAdministrator, now, most: this.#options.longest })) return undefined;
      const was = current && { previousUntil: current.retainUntil, previousMode: current.retentionMode };
      return { retention: wanted, action: 'asset.retained', detail: { name: asset.name, ...wanted, ...was } };
    });
  }

  /** @param decide what is to be written; nothing where it is so already */
  async #change(
    caller: Caller,
    id: string,
    action: Change['action'],
    actor: Actor,
    inTransaction: WithAsset,
    decide: (locked: Locked) => Change | undefined,
  ): Promise<Asset | undefined> {
    return retryStatement(CHANGE_PATIENCE, (attempt) =>
      this.#handle.transact(async (transaction) => {
        const locked = await lock(transaction, caller, id);
        if (!locked) return undefined;
        // An earlier commit may have taken effect, and only its answer was lost.
        const isDone = attempt > 1 && (await isChanged(transaction, id, action, actor));
        const change = isDone ? undefined : decide(locked);
        const asset = change ? await this.#write(transaction, locked, change, actor) : locked.asset;
        await inTransaction(transaction, asset);
        return asset;
      }),
    );
  }

  async #write(
    transaction: Executor,
    { asset, isHeld: wasHeld }: Locked,
    change: Change,
    actor: Actor,
  ): Promise<Asset> {
    const { id, holds = null, retainUntil = null, retentionMode = null, processing } = asset;
    const values = { id, holds, retainUntil, retentionMode, ...change.retention };
    const { rows } = await transaction.run(writeHolds, {
      ...values,
      ...(change.holds !== undefined && { holds: change.holds }),
      ...{ action: change.action, detail: change.detail, ...actor },
    });
    const [row] = rows;
    if (!row) throw new Error(`the asset ${id} was not locked`);
    const { outbox, locksObjects } = this.#options;
    if (locksObjects) {
      const keys = (await transaction.run(findKeys, { id })).rows.map(({ key }) => key);
      await outbox.send(transaction, lockObjectsJob, { assetId: id, keys });
    }
    // What was put off while it was held goes on.
    const next = nextStep(processing);
    if (wasHeld && !row.isHeld && next) await outbox.send(transaction, stepJob(next), { assetId: id });
    return toAsset(row);
  }
}

async function lock(transaction: Executor, caller: Caller, id: string): Promise<Locked | undefined> {
  const { rows } = await transaction.run(lockForHold, { id, ...accessOf(caller) });
  const [row] = rows;
  if (!row) return undefined;
  const { rank, now, isHeld: held } = row;
  return { asset: toAsset(row), isHeld: held, isAdministrator: roleAt(rank) === 'admin', now: new Date(now) };
}

async function isChanged(transaction: Executor, id: string, action: string, actor: Actor): Promise<boolean> {
  const values = { ids: [id], requestIds: [actor.requestId], action };
  return (await transaction.run(findChangedBy, values)).rows.length > 0;
}

function ofAdministrator(name: string): Problem {
  return new Problem('forbidden', {
    detail: `An administrator has set the hold ${name}, and only one who names a reason changes it or takes it off.`,
  });
}
