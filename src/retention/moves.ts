/** Moves of bytes to the archive and back in SQL: each ends by one statement that is guarded by the key the asset has. */
import { and, eq, inArray, isNotNull, isNull, ne, not, sql, type WithSubquery } from 'drizzle-orm';
import type { Caller } from '../access/caller.ts';
import { type AccessParameter, accessOf } from '../access/conditions.ts';
import { type Asset, assetColumns, toAsset } from '../assets/asset.ts';
import { isOne, nextVersion } from '../assets/conditions.ts';
import { lookSoon } from '../assets/life-cycle-looks.ts';
import {
  isBusy,
  isDue,
  nextStep,
  ofLook,
  ofProject,
  type StepParameter,
  type StepValues,
} from '../assets/life-cycle-step.ts';
import { type Actor, auditFrom } from '../database/audit.ts';
import type { DatabaseHandle, Executor } from '../database/client.ts';
import type { JobReference, Outbox } from '../database/outbox.ts';
import { build, compile, jsonObject, type Parameter, typed } from '../database/statements.ts';
import { type ArchiveRestore, assets, inState, isFree, isVisible } from '../database/tables/assets.ts';
import { derivatives } from '../database/tables/derivatives.ts';
import { lifeCycleLooks } from '../database/tables/life-cycle.ts';
import { projects } from '../database/tables/projects.ts';
import { assetRestored } from './events.ts';

export const restoreJob: JobReference<{ assetId: string; requestedAt: string }> = { name: 'restore-archived-asset' };

const seldom = { named: false };

const keepAsset = compile('keep-asset', (p: Parameter<'id' | AccessParameter | keyof Actor>) => {
  const kept = build.$with('kept').as(
    build
      .update(assets)
      .set({ ...nextVersion, retention: 'permanent', temporaryUntil: null })
      .where(and(isOne(p, 'asset.write'), isVisible, isNull(assets.trashedAt), isNotNull(assets.temporaryUntil)))
      .returning(assetColumns),
  );
  return build
    .with(kept, auditFrom(p, kept, { action: 'asset.kept', detail: jsonObject({ name: kept.name }) }))
    .select()
    .from(kept);
});

/** An asset that a rule wants archived by now; where it lies. */
const findToArchive = compile(
  'find-asset-to-archive',
  (p: Parameter<'id' | 'now' | StepParameter>) => {
    const step = nextStep(p);
    return build
      .select({ objectKey: assets.objectKey, size: assets.size, sha256: assets.sha256, rule: step.rule })
      .from(assets)
      .leftJoin(projects, ofProject)
      .leftJoin(lifeCycleLooks, ofLook)
      .crossJoinLateral(step)
      .where(and(eq(assets.id, p('id')), isDue(step, 'archive', p), isFree));
  },
  seldom,
);

type Moved = 'id' | 'claimId' | 'sourceKey' | 'targetKey' | 'sha256';

/** What was made of the bytes was made of these, wherever they lie. */
const made = (p: Parameter<Moved>, moved: WithSubquery) =>
  build.$with('made', {}).as(
    build
      .update(derivatives)
      .set({ sourceKey: typed(p('targetKey'), derivatives.sourceKey) })
      .where(
        and(
          inArray(derivatives.assetId, build.select({ id: sql`id` }).from(moved)),
          eq(derivatives.sourceKey, p('sourceKey')),
          ne(derivatives.state, 'discarded'),
          sql`${derivatives.id} <> ${p('claimId')}::uuid`,
        ),
      )
      .getSQL(),
  );

const moved = (p: Parameter<Moved>) => ({
  objectKey: typed(p('targetKey'), assets.objectKey),
  sha256: sql`coalesce(${assets.sha256}, ${typed(p('sha256'), assets.sha256)})`,
  // Something else was written for it.
  storedWhole: null,
  restore: null,
});

const switchToArchive = compile(
  'switch-to-archive',
  (p: Parameter<Moved | keyof Actor>) => {
    const changed = build.$with('changed').as(
      build
        .update(assets)
        .set({ ...moved(p), tier: 'archive', archivedAt: sql`now()`, restoredUntil: null })
        .where(
          and(
            eq(assets.id, p('id')),
            eq(assets.objectKey, p('sourceKey')),
            inState('ready'),
            isNull(assets.tier),
            isNull(assets.trashedAt),
            isFree,
            not(isBusy),
          ),
        )
        .returning({ id: assets.id, ownerId: assets.ownerId, projectId: assets.projectId, name: assets.name }),
    );
    const audit = auditFrom(p, changed, { action: 'asset.archived', detail: jsonObject({ name: changed.name }) });
    return build.with(changed, made(p, changed), audit).select({ id: changed.id }).from(changed);
  },
  seldom,
);

const requestRestore = compile(
  'request-restore-from-archive',
  (p: Parameter<'id' | 'restore' | AccessParameter | keyof Actor>) => {
    const changed = build.$with('changed').as(
      build
        .update(assets)
        .set({ restore: typed(p('restore'), assets.restore) })
        .where(
          and(
            isOne(p, 'asset.write'),
            inState('ready'),
            isNull(assets.trashedAt),
            eq(assets.tier, 'archive'),
            sql`coalesce(${assets.restore} ->> 'state', '') <> 'requested'`,
          ),
        )
        .returning(assetColumns),
    );
    const detail = jsonObject({
      name: changed.name,
      speed: sql`${changed.restore} -> 'speed'`,
      days: sql`${changed.restore} -> 'days'`,
    });
    return build
      .with(changed, auditFrom(p, changed, { action: 'asset.restore-requested', detail }))
      .select()
      .from(changed);
  },
);

/** That it was asked for at this time, and nobody has brought it back yet. */
const isRestoring = (p: Parameter<'requestedAt'>) =>
  and(
    isVisible,
    eq(assets.tier, 'archive'),
    sql`${assets.restore} ->> 'state' = 'requested'`,
    sql`${assets.restore} ->> 'at' = ${p('requestedAt')}`,
  );

const findRestoring = compile(
  'find-restoring-asset',
  (p: Parameter<'id' | 'requestedAt'>) =>
    build
      .select({ objectKey: assets.objectKey, size: assets.size, sha256: assets.sha256, restore: assets.restore })
      .from(assets)
      .where(and(eq(assets.id, p('id')), isRestoring(p))),
  seldom,
);

/** It can be read where it lies. */
const openInPlace = compile(
  'open-archived-asset',
  (p: Parameter<'id' | 'requestedAt' | 'until' | keyof Actor>) => {
    const changed = build.$with('changed').as(
      build
        .update(assets)
        .set({ restore: null, restoredUntil: typed(p('until'), assets.restoredUntil) })
        .where(and(eq(assets.id, p('id')), isRestoring(p)))
        .returning({
          id: assets.id,
          ownerId: assets.ownerId,
          projectId: assets.projectId,
          name: assets.name,
          until: assets.restoredUntil,
        }),
    );
    const detail = jsonObject({ name: changed.name, until: changed.until });
    return build
      .with(changed, auditFrom(p, changed, { action: 'asset.restored-from-archive', detail }))
      .select({ id: changed.id })
      .from(changed);
  },
  seldom,
);

/** It lies in the first store again. */
const switchBack = compile(
  'switch-from-archive',
  (p: Parameter<Moved | 'requestedAt' | 'days' | keyof Actor>) => {
    const changed = build.$with('changed').as(
      build
        .update(assets)
        .set({
          ...moved(p),
          tier: null,
          archivedAt: null,
          restoredUntil: sql`now() + ${p('days')}::integer * interval '24 hours'`,
        })
        .where(and(eq(assets.id, p('id')), eq(assets.objectKey, p('sourceKey')), isRestoring(p)))
        .returning({
          id: assets.id,
          ownerId: assets.ownerId,
          projectId: assets.projectId,
          name: assets.name,
          until: assets.restoredUntil,
        }),
    );
    const detail = jsonObject({ name: changed.name, until: changed.until });
    return build
      .with(
        changed,
        made(p, changed),
        auditFrom(p, changed, { action: 'asset.restored-from-archive', detail }),
        lookSoon(changed),
      )
      .select({ id: changed.id })
      .from(changed);
  },
  seldom,
);

const failRestore = compile(
  'fail-restore-from-archive',
  (p: Parameter<'id' | 'requestedAt' | 'reason' | keyof Actor>) => {
    const changed = build.$with('changed').as(
      build
        .update(assets)
        .set({
          restore: sql`${assets.restore} || jsonb_build_object('state', 'failed', 'reason', ${p('reason')}::text)`,
        })
        .where(and(eq(assets.id, p('id')), isRestoring(p)))
        .returning({ id: assets.id, ownerId: assets.ownerId, projectId: assets.projectId, name: assets.name }),
    );
    const detail = jsonObject({ name: changed.name, reason: sql`${p('reason')}::text` });
    return build
      .with(changed, auditFrom(p, changed, { action: 'asset.restore-failed', detail }))
      .select({ id: changed.id })
      .from(changed);
  },
  seldom,
);

/** What is moved, and where it lies. */
export interface Movable {
  objectKey: string;
  size: number;
  sha256?: Buffer | undefined;
}

/** A claimed name, and the key under which the bytes lie now. */
export interface MovedTo {
  id: string;
  claimId: string;
  sourceKey: string;
  targetKey: string;
  sha256: Buffer | undefined;
}

export class MovesRepository {
  readonly #handle: DatabaseHandle;
  readonly #outbox: Outbox;

  constructor(handle: DatabaseHandle, outbox: Outbox) {
    this.#handle = handle;
    this.#outbox = outbox;
  }

  /**
   * The asset is no longer temporary.
   * @returns undefined when there is no such asset out of the trash that is
   */
  async keep(
    caller: Caller,
    id: string,
    actor: Actor,
    inTransaction: (transaction: Executor, asset: Asset) => Promise<void>,
  ): Promise<Asset | undefined> {
    return this.#handle.transact(async (transaction) => {
      const { rows } = await transaction.run(keepAsset, { id, ...accessOf(caller), ...actor });
      const asset = rows[0] && toAsset(rows[0]);
      if (asset) await inTransaction(transaction, asset);
      return asset;
    });
  }

  /** An asset that a rule wants archived by `now`. */
  async findToArchive(id: string, { now, ...rules }: StepValues & { now: Date }): Promise<Movable | undefined> {
    const { rows } = await this.#handle.database.run(findToArchive, { id, now: now.toISOString(), ...rules });
    return movable(rows[0]);
  }

  /** @returns whether the asset still had the bytes that were moved, and nothing keeps them where they are */
  async switchToArchive(transaction: Executor, to: MovedTo, actor: Actor): Promise<boolean> {
    const { rows } = await transaction.run(switchToArchive, { ...to, sha256: to.sha256 ?? null, ...actor });
    return rows.length > 0;
  }

  /**
   * Somebody wants an archived asset back.
   * @returns undefined when it is not archived, or is asked for already
   */
  async request(
    caller: Caller,
    id: string,
    restore: ArchiveRestore,
    actor: Actor,
    inTransaction: (transaction: Executor, asset: Asset) => Promise<void>,
  ): Promise<Asset | undefined> {
    const asset = await this.#handle.transact(async (transaction) => {
      const { rows } = await transaction.run(requestRestore, { id, restore, ...accessOf(caller), ...actor });
      const requested = rows[0] && toAsset(rows[0]);
      if (!requested) return undefined;
      await this.#outbox.send(transaction, restoreJob, { assetId: id, requestedAt: restore.at });
      await inTransaction(transaction, requested);
      return requested;
    });
    if (asset) this.#outbox.wake(restoreJob);
    return asset;
  }

  /** An asset that somebody has asked for at this time, and that is not there yet. */
  async findRestoring(id: string, requestedAt: string): Promise<(Movable & { restore: ArchiveRestore }) | undefined> {
    const { rows } = await this.#handle.database.run(findRestoring, { id, requestedAt });
    const [row] = rows;
    const found = movable(row);
    return found && row?.restore ? { ...found, restore: row.restore } : undefined;
  }

  /** @returns whether it was still asked for */
  async openInPlace(
    { id, requestedAt, until }: { id: string; requestedAt: string; until: Date },
    actor: Actor,
    fence: (transaction: Executor) => Promise<void>,
  ): Promise<boolean> {
    return this.#handle.transact(async (transaction) => {
      await fence(transaction);
      const { rows } = await transaction.run(openInPlace, { id, requestedAt, until, ...actor });
      if (rows.length > 0) await this.#outbox.publish(transaction, assetRestored, { assetId: id });
      return rows.length > 0;
    });
  }

  async switchBack(
    transaction: Executor,
    to: MovedTo & { requestedAt: string; days: number },
    actor: Actor,
  ): Promise<boolean> {
    const { rows } = await transaction.run(switchBack, { ...to, sha256: to.sha256 ?? null, ...actor });
    if (rows.length > 0) await this.#outbox.publish(transaction, assetRestored, { assetId: to.id });
    return rows.length > 0;
  }

  async failRestore(
    { id, requestedAt, reason }: { id: string; requestedAt: string; reason: string },
    actor: Actor,
    fence: (transaction: Executor) => Promise<void>,
  ): Promise<void> {
    await this.#handle.transact(async (transaction) => {
      await fence(transaction);
      await transaction.run(failRestore, { id, requestedAt, reason, ...actor });
    });
  }

  /** Looks again after some seconds. */
  async lookAgain(
    job: { assetId: string; requestedAt: string },
    seconds: number,
    fence: (transaction: Executor) => Promise<void>,
  ): Promise<void> {
    await this.#handle.transact(async (transaction) => {
      await fence(transaction);
      await this.#outbox.send(transaction, restoreJob, job, { startAfter: seconds });
    });
  }

  transact<Result>(work: (transaction: Executor) => Promise<Result>): Promise<Result> {
    return this.#handle.transact(work);
  }
}

function movable(
  row: { objectKey: string; size: number | null; sha256: Buffer | null } | undefined,
): Movable | undefined {
  if (!row || row.size === null) return undefined;
  return { objectKey: row.objectKey, size: row.size, ...(row.sha256 && { sha256: row.sha256 }) };
}
