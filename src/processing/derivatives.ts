/**
 * Records of objects beside the originals: thumbnails, variants, transcodes, and what takes the place of an original.
 *
 * One row is one attempt under one key. Whoever makes something claims its name first, by a row `making` with a lease;
 * there is one at a time, over all instances. When the maker dies, the lease ends, and the next one claims the name by
 * another row; what the dead one has left is discarded: a job removes the object, and then the row. A maker that was taken
 * for dead finds its row discarded, and what it has stored goes the same way.
 */
import { and, eq, inArray, lt, ne, or, sql } from 'drizzle-orm';
import { v7 as uuidv7 } from 'uuid';
import type { DatabaseHandle, Executor } from '../database/client.ts';
import { sqlState } from '../database/client.ts';
import type { JobReference, Outbox } from '../database/outbox.ts';
import { build, compile, inSeconds, isAnyOf, now, type Parameter, typed } from '../database/statements.ts';
import { assets, inState } from '../database/tables/assets.ts';
import { type DerivativeKind, derivatives } from '../database/tables/derivatives.ts';
import { keyBeside } from '../storage/object-key.ts';

/** Removes the object of a discarded derivative, and then its row. */
export const discardDerivativeJob: JobReference<{ derivativeId: string }> = { name: 'discard-derivative' };

/** SQLSTATE, PostgreSQL appendix A. */
const UNIQUE_VIOLATION = '23505';
/** Seconds after which a maker that is not heard of counts as dead. */
export const MAKING_LEASE = 60;

export type DerivativeRow = typeof derivatives.$inferSelect;
export interface Derivative extends DerivativeRow {
  state: 'making' | 'ready' | 'failed';
}
export interface ReadyDerivative extends Derivative {
  state: 'ready';
  mediaType: string;
  size: number;
}

export interface ClaimedName {
  assetId: string;
  kind: DerivativeKind;
  /** Of the derivative: `thumbnail`, the one spelling of a variant, ... */
  name: string;
  /** Object key of what it is made of. */
  sourceKey: string;
  options?: Record<string, string | number>;
  /** Who asked for it; of a job, which may claim again what it has claimed before. */
  requestedBy?: string;
}

/**
 * `claimed`: make it, under the key of the row. `ready`, `failed`: it was made, or tried, before. `busy`: somebody makes
 * it now. `gone`: the asset is not there any more, or has other bytes.
 */
export type Claim =
  | { outcome: 'claimed' | 'failed' | 'busy'; derivative: Derivative }
  | { outcome: 'ready'; derivative: ReadyDerivative }
  | { outcome: 'busy-elsewhere' }
  | { outcome: 'gone' };

/** What was made and stored. */
export interface MadeObject {
  mediaType: string;
  /** Bytes. */
  size: number;
  sha256: Buffer;
  /** Pixels. */
  width?: number;
  height?: number;
}

const isCurrent = ne(derivatives.state, 'discarded');

const findNamed = compile('find-derivative', (p: Parameter<'assetId' | 'name'>) =>
  build
    .select()
    .from(derivatives)
    .where(and(eq(derivatives.assetId, p('assetId')), eq(derivatives.name, p('name')), isCurrent)),
);
const lockNamed = compile('lock-derivative', (p: Parameter<'assetId' | 'name'>) =>
  build
    .select({
      row: sql<string>`${derivatives.id}`.as('row'),
      isLive: sql<boolean>`coalesce(${derivatives.leaseExpiresAt} > now(), false)`.as('is_live'),
    })
    .from(derivatives)
    .where(and(eq(derivatives.assetId, p('assetId')), eq(derivatives.name, p('name')), isCurrent))
    .for('update'),
);
const listOfAsset = compile('list-derivatives', (p: Parameter<'assetId'>) =>
  build
    .select()
    .from(derivatives)
    .where(
      and(eq(derivatives.assetId, p('assetId')), isCurrent, inArray(derivatives.kind, ['derivative', 'transcode'])),
    )
    .orderBy(derivatives.name),
);
const insertMaking = compile(
  'insert-derivative',
  (
    p: Parameter<'id' | 'assetId' | 'kind' | 'name' | 'objectKey' | 'sourceKey' | 'options' | 'requestedBy' | 'lease'>,
  ) => {
    // Locked, so that who deletes the asset waits for this row, and sees it.
    const asset = build.$with('asset').as(
      build
        .select({ id: assets.id })
        .from(assets)
        .where(and(eq(assets.id, p('assetId')), inState('processing', 'ready'), eq(assets.objectKey, p('sourceKey'))))
        .for('share'),
    );
    const row = build
      .select({
        id: typed(p('id'), derivatives.id).as('id'),
        assetId: asset.id,
        kind: typed(p('kind'), derivatives.kind).as('kind'),
        name: typed(p('name'), derivatives.name).as('name'),
        state: sql`'making'`.as('state'),
        reason: sql`null`.as('reason'),
        objectKey: typed(p('objectKey'), derivatives.objectKey).as('object_key'),
        sourceKey: typed(p('sourceKey'), derivatives.sourceKey).as('source_key'),
        mediaType: sql`null`.as('media_type'),
        size: sql`null::bigint`.as('size'),
        sha256: sql`null::bytea`.as('sha256'),
        width: sql`null::integer`.as('width'),
        height: sql`null::integer`.as('height'),
        options: typed(p('options'), derivatives.options).as('options'),
        progress: sql`null::integer`.as('progress'),
        requestedBy: typed(p('requestedBy'), derivatives.requestedBy).as('requested_by'),
        leaseExpiresAt: inSeconds(p('lease')).as('lease_expires_at'),
        askedAt: sql`${now}`.as('asked_at'),
        createdAt: sql`${now}`.as('created_at'),
        updatedAt: sql`${now}`.as('updated_at'),
      })
      .from(asset);
    return build.with(asset).insert(derivatives).select(row).returning();
  },
);
const finishMade = compile(
  'finish-derivative',
  (p: Parameter<'id' | 'mediaType' | 'size' | 'sha256' | 'width' | 'height'>) =>
    build
      .update(derivatives)
      .set({
        state: 'ready',
        mediaType: typed(p('mediaType'), derivatives.mediaType),
        size: typed(p('size'), derivatives.size),
        sha256: typed(p('sha256'), derivatives.sha256),
        width: typed(p('width'), derivatives.width),
        height: typed(p('height'), derivatives.height),
        progress: null,
        leaseExpiresAt: null,
        updatedAt: now,
      })
      .where(and(eq(derivatives.id, p('id')), eq(derivatives.state, 'making')))
      .returning(),
);
const failMaking = compile('fail-derivative', (p: Parameter<'id' | 'reason'>) =>
  build
    .update(derivatives)
    .set({ state: 'failed', reason: typed(p('reason'), derivatives.reason), leaseExpiresAt: null, updatedAt: now })
    .where(and(eq(derivatives.id, p('id')), eq(derivatives.state, 'making')))
    .returning({ id: derivatives.id }),
);
const renewMaking = compile('renew-derivative', (p: Parameter<'id' | 'lease' | 'progress'>) =>
  build
    .update(derivatives)
    .set({
      leaseExpiresAt: inSeconds(p('lease')),
      progress: sql`coalesce(${typed(p('progress'), derivatives.progress)}, ${derivatives.progress})`,
      updatedAt: now,
    })
    .where(and(eq(derivatives.id, p('id')), eq(derivatives.state, 'making')))
    .returning({ id: derivatives.id }),
);
const discardRows = compile('discard-derivatives', (p: Parameter<'ids'>) =>
  build
    .update(derivatives)
    .set({ state: 'discarded', leaseExpiresAt: null, updatedAt: now })
    .where(and(isAnyOf(derivatives.id, p('ids')), isCurrent))
    .returning({ id: derivatives.id }),
);
const discardRowsOf = compile('discard-derivatives-of', (p: Parameter<'assetId'>) =>
  build
    .update(derivatives)
    .set({ state: 'discarded', leaseExpiresAt: null, updatedAt: now })
    .where(and(eq(derivatives.assetId, p('assetId')), isCurrent))
    .returning({ id: derivatives.id }),
);
const exchangeKey = compile('exchange-derivative', (p: Parameter<'id' | 'objectKey'>) =>
  build
    .update(derivatives)
    .set({
      state: 'discarded',
      objectKey: typed(p('objectKey'), derivatives.objectKey),
      leaseExpiresAt: null,
      updatedAt: now,
    })
    .where(and(eq(derivatives.id, p('id')), eq(derivatives.state, 'making')))
    .returning({ id: derivatives.id }),
);
const insertDiscarded = compile('insert-discarded-object', (p: Parameter<'id' | 'assetId' | 'objectKey'>) =>
  build.insert(derivatives).values({
    id: p('id'),
    assetId: p('assetId'),
    kind: 'replacement',
    name: 'rejected',
    state: 'discarded',
    objectKey: p('objectKey'),
    sourceKey: p('objectKey'),
    askedAt: now,
    createdAt: now,
    updatedAt: now,
  }),
);
const findDiscarded = compile('find-discarded-derivatives', (p: Parameter<'ids'>) =>
  build
    .select({ id: derivatives.id, objectKey: derivatives.objectKey, size: derivatives.size })
    .from(derivatives)
    .where(and(isAnyOf(derivatives.id, p('ids')), eq(derivatives.state, 'discarded'))),
);
const forgetRows = compile('forget-derivatives', (p: Parameter<'ids'>) =>
  build.delete(derivatives).where(and(isAnyOf(derivatives.id, p('ids')), eq(derivatives.state, 'discarded'))),
);
/** Discarded rows whose job has got lost; what was in the making when its maker died; and what has no asset any more. */
const findStalled = compile(
  'find-stalled-derivatives',
  (p: Parameter<'cutoff'>) =>
    build
      .select({ id: derivatives.id })
      .from(derivatives)
      .where(
        and(
          inArray(derivatives.state, ['discarded', 'making']),
          lt(derivatives.updatedAt, p('cutoff')),
          or(eq(derivatives.state, 'discarded'), lt(derivatives.leaseExpiresAt, p('cutoff'))),
        ),
      )
      .limit(1000),
  { named: false },
);

export class DerivativesRepository {
  readonly #handle: DatabaseHandle;
  readonly #outbox: Pick<Outbox, 'send' | 'sendAll'>;

  constructor(handle: DatabaseHandle, outbox: Pick<Outbox, 'send' | 'sendAll'>) {
    this.#handle = handle;
    this.#outbox = outbox;
  }

  async find(assetId: string, name: string): Promise<Derivative | undefined> {
    const { rows } = await this.#handle.database.run(findNamed, { assetId, name });
    return rows[0] && current(rows[0]);
  }

  /** What policies name and what was transcoded, in the order of the names. */
  async list(assetId: string): Promise<Derivative[]> {
    const { rows } = await this.#handle.database.run(listOfAsset, { assetId });
    return rows.map(current);
  }

  /**
   * Claims a name, so that one makes it at a time.
   * @param again also when it has failed before
   * @param inTransaction what belongs into the transaction of a claim that succeeds, such as a job or its fence
   */
  async claim(
    { assetId, kind, name, sourceKey, options, requestedBy }: ClaimedName,
    {
      again = false,
      lease = MAKING_LEASE,
      inTransaction,
    }: {
      again?: boolean;
      lease?: number;
      inTransaction?: (transaction: Executor, derivative: Derivative) => Promise<void>;
    } = {},
  ): Promise<Claim> {
    try {
      return await this.#handle.transact(async (transaction): Promise<Claim> => {
        const { rows: locks } = await transaction.run(lockNamed, { assetId, name });
        const { rows: found } = await transaction.run(findNamed, { assetId, name });
        const before = found[0] && current(found[0]);
        if (before && before.sourceKey === sourceKey) {
          if (isReady(before)) return { outcome: 'ready', derivative: before };
          // Who claimed it before is the same job, tried again.
          const isOwn = requestedBy !== undefined && before.requestedBy === requestedBy;
          if (before.state === 'making' && locks[0]?.isLive && !isOwn) return { outcome: 'busy', derivative: before };
          if (before.state === 'failed' && !again) return { outcome: 'failed', derivative: before };
        }
        if (before) await this.discard([before.id], transaction);
        const id = uuidv7();
        const values = { id, assetId, kind, name, sourceKey, objectKey: keyBeside(sourceKey, id), lease };
        const { rows } = await transaction.run(insertMaking, {
          ...values,
          options: options ?? null,
          requestedBy: requestedBy ?? null,
        });
        if (!rows[0]) return { outcome: 'gone' };
        const derivative = current(rows[0]);
        await inTransaction?.(transaction, derivative);
        return { outcome: 'claimed', derivative };
      });
    } catch (error) {
      // Somebody else has claimed it since it was looked for.
      if (sqlState(error) === UNIQUE_VIOLATION) return { outcome: 'busy-elsewhere' };
      throw error;
    }
  }

  /** The object is stored. @returns undefined when the claim was lost: then the object is discarded already, or must be */
  async finish(
    id: string,
    { mediaType, size, sha256, width = 0, height = 0 }: MadeObject,
    inTransaction?: (transaction: Executor) => Promise<void>,
  ): Promise<ReadyDerivative | undefined> {
    const values = { id, mediaType, size, sha256, width: width || null, height: height || null };
    return this.#handle.transact(async (transaction) => {
      await inTransaction?.(transaction);
      const { rows } = await transaction.run(finishMade, values);
      const made = rows[0] && current(rows[0]);
      return made && isReady(made) ? made : undefined;
    });
  }

  /** It cannot be made; what an attempt has left in the store, if anything, lies under its key until it is tried again or its asset goes. */
  async fail(id: string, reason: string): Promise<void> {
    await this.#handle.database.run(failMaking, { id, reason });
  }

  /** Says that the maker lives. @returns false when the claim was lost */
  async renew(id: string, progress?: number, lease = MAKING_LEASE): Promise<boolean> {
    const values = { id, lease, progress: progress ?? null };
    return (await this.#handle.database.run(renewMaking, values)).rows.length > 0;
  }

  /** From here on nobody sees them; jobs remove their objects. */
  async discard(ids: readonly string[], transaction?: Executor): Promise<void> {
    if (ids.length === 0) return;
    if (!transaction) return this.#handle.transact((own) => this.discard(ids, own));
    const { rows } = await transaction.run(discardRows, { ids });
    await this.#send(transaction, rows);
  }

  /** All that was made of an asset, or is being made. */
  async discardOf(assetId: string, transaction: Executor): Promise<void> {
    await this.#send(transaction, (await transaction.run(discardRowsOf, { assetId })).rows);
  }

  /** What was claimed as replacement is the original now: the row goes on as the record of the object that it replaced. */
  async exchange(id: string, replacedKey: string, transaction: Executor): Promise<boolean> {
    const { rows } = await transaction.run(exchangeKey, { id, objectKey: replacedKey });
    await this.#send(transaction, rows);
    return rows.length > 0;
  }

  /** Has an object of an asset removed that the asset does not serve any more. */
  async discardObject(assetId: string, objectKey: string, transaction: Executor): Promise<void> {
    const id = uuidv7();
    await transaction.run(insertDiscarded, { id, assetId, objectKey });
    await this.#send(transaction, [{ id }]);
  }

  async findDiscarded(ids: readonly string[]): Promise<{ id: string; objectKey: string; size: number | null }[]> {
    return (await this.#handle.database.run(findDiscarded, { ids })).rows;
  }

  /** Removes the rows of discarded derivatives, once their objects are gone. */
  async forget(ids: string[], held: (transaction: Executor, ids: string[]) => Promise<string[]>): Promise<string[]> {
    return this.#handle.transact(async (transaction) => {
      const removed = await held(transaction, ids);
      if (removed.length > 0) await transaction.run(forgetRows, { ids: removed });
      return removed;
    });
  }

  /** What stands still since before `cutoff` is discarded, and gets a job. @returns how many */
  async resume(cutoff: Date, dryRun: boolean): Promise<number> {
    return this.#handle.transact(async (transaction) => {
      const { rows } = await transaction.run(findStalled, { cutoff });
      if (dryRun || rows.length === 0) return rows.length;
      await transaction.run(discardRows, { ids: rows.map(({ id }) => id) });
      await this.#send(transaction, rows);
      return rows.length;
    });
  }

  async #send(transaction: Executor, rows: readonly { id: string }[]): Promise<void> {
    await this.#outbox.sendAll(
      transaction,
      discardDerivativeJob,
      rows.map(({ id }) => ({ derivativeId: id })),
    );
  }
}

export function isReady(derivative: Derivative): derivative is ReadyDerivative {
  return derivative.state === 'ready' && derivative.mediaType !== null && derivative.size !== null;
}

function current(row: DerivativeRow): Derivative {
  const { state } = row;
  if (state === 'discarded') throw new Error(`the derivative ${row.id} is discarded`);
  return { ...row, state };
}
