/**
 * What steps read and write of an asset. A step ends by one transaction: its outcome is recorded, the asset changes its
 * state where nothing more holds it back, and the job of the next step is enqueued; all of it only while the asset still
 * has the bytes that the step has worked on, and still waits for this step.
 */
import { and, eq, or, sql } from 'drizzle-orm';
import { type Actor, auditFrom } from '../database/audit.ts';
import type { DatabaseHandle, Executor } from '../database/client.ts';
import type { Outbox } from '../database/outbox.ts';
import { build, compile, jsonObject, type Parameter, typed } from '../database/statements.ts';
import { assets, isFree, isHeld, isInProcessing } from '../database/tables/assets.ts';
import type { Original, ProcessingRecord, Scan, StepName } from '../database/tables/processing-record.ts';
import { quotas } from '../database/tables/quotas.ts';
import { chargedAccount } from '../quotas/accounts.ts';
import { type LimitParameter, type LimitValues, limitOf } from '../quotas/limit.ts';
import { DerivativesRepository } from './derivatives.ts';
import { assetReady, replacementProcessed } from './events.ts';
import { nextStep, withEnded } from './pipeline.ts';
import type { ProcessedAsset, StepOutcome } from './step.ts';
import { type Change, changeOf } from './step-change.ts';
import { stepJob } from './step-jobs.ts';

const processed = {
  id: assets.id,
  ownerId: assets.ownerId,
  name: assets.name,
  state: assets.state,
  assetType: assets.assetType,
  mediaType: assets.mediaType,
  size: assets.size,
  sha256: assets.sha256,
  objectKey: assets.objectKey,
  cacheControl: assets.cacheControl,
  scan: assets.scan,
  facts: assets.facts,
  original: assets.original,
  thumbHash: assets.thumbHash,
  processing: assets.processing,
  createdAt: assets.createdAt,
  reservedBytes: assets.reservedBytes,
};
const processedWithAccount = { ...processed, account: chargedAccount.as('account'), isHeld: isHeld.as('is_held') };
type Row = { [Name in keyof typeof processed]: (typeof processed)[Name]['_']['data'] | null } & {
  account: string | null;
  isHeld: boolean;
};

const findForStep = compile('find-asset-for-step', (p: Parameter<'id'>) =>
  build
    .select(processedWithAccount)
    .from(assets)
    .where(and(eq(assets.id, p('id')), isInProcessing)),
);
const lockForStep = compile('lock-asset-for-step', (p: Parameter<'id'>) =>
  build
    .select(processedWithAccount)
    .from(assets)
    .where(and(eq(assets.id, p('id')), isInProcessing))
    .for('update'),
);
/** Of a held file too, a step may write down what it has found out. */
const keepsBytes = (p: Parameter<'objectKey' | 'size'>) =>
  and(eq(assets.objectKey, typed(p('objectKey'), assets.objectKey)), eq(assets.size, typed(p('size'), assets.size)));
export const writeStep = compile(
  'write-step',
  (
    p: Parameter<
      | 'id'
      | 'state'
      | 'reason'
      | 'processing'
      | 'scan'
      | 'facts'
      | 'thumbHash'
      | 'original'
      | 'size'
      | 'sha256'
      | 'mediaType'
      | 'objectKey'
      | 'isChange'
      | 'action'
      | keyof Actor
    >,
  ) => {
    // What is only found out is no change that somebody could overwrite: see `recordTag`.
    const isChange = sql`${p('isChange')}::boolean`;
    const changed = build.$with('changed').as(
      build
        .update(assets)
        .set({
          state: typed(p('state'), assets.state),
          reason: typed(p('reason'), assets.reason),
          processing: typed(p('processing'), assets.processing),
          scan: typed(p('scan'), assets.scan),
          facts: typed(p('facts'), assets.facts),
          thumbHash: typed(p('thumbHash'), assets.thumbHash),
          original: typed(p('original'), assets.original),
          size: typed(p('size'), assets.size),
          sha256: typed(p('sha256'), assets.sha256),
          mediaType: typed(p('mediaType'), assets.mediaType),
          objectKey: typed(p('objectKey'), assets.objectKey),
          crc32: sql`case when ${assets.objectKey} = ${typed(p('objectKey'), assets.objectKey)} then ${assets.crc32} end`,
          verifiedBytes: null,
          version: sql`${assets.version} + case when ${isChange} then 1 else 0 end`,
          updatedAt: sql`case when ${isChange} then now() else ${assets.updatedAt} end`,
        })
        .where(and(eq(assets.id, p('id')), or(isFree, keepsBytes(p))))
        .returning({
          id: assets.id,
          ownerId: assets.ownerId,
          projectId: assets.projectId,
          reason: assets.reason,
          signature: sql`${assets.scan} ->> 'signature'`.as('signature'),
        }),
    );
    const audited = build.$with('audited').as(
      build
        .select({
          id: changed.id,
          ownerId: changed.ownerId,
          projectId: changed.projectId,
          reason: changed.reason,
          signature: changed.signature,
        })
        .from(changed)
        .where(sql`${p('action')}::text is not null`),
    );
    const found = jsonObject({ signature: audited.signature });
    const detail = sql`${jsonObject({ reason: audited.reason })} || jsonb_strip_nulls(${found})`;
    const audit = auditFrom(p, audited, { action: p('action'), detail });
    return build.with(changed, audited, audit).select({ id: changed.id }).from(changed);
  },
);
/** A smaller file frees quota; a larger one needs room. */
const changeUse = compile('change-quota-use', (p: Parameter<'account' | 'more' | LimitParameter>) => {
  const more = sql`${p('more')}::bigint`;
  return build
    .update(quotas)
    .set({ usedBytes: sql`${quotas.usedBytes} + ${more}` })
    .where(
      and(
        eq(quotas.account, p('account')),
        sql`(${more} <= 0 or ${quotas.usedBytes} + ${quotas.reservedBytes} + ${more} <= ${limitOf(p)})`,
      ),
    )
    .returning({ account: quotas.account });
});
const writeRecord = compile('write-processing-record', (p: Parameter<'id' | 'processing'>) =>
  build
    .update(assets)
    .set({ processing: typed(p('processing'), assets.processing) })
    .where(eq(assets.id, p('id')))
    .returning({ id: assets.id }),
);

/** An asset, and how far its processing is. */
export interface FoundForStep {
  asset: ProcessedAsset;
  /** Whose quota it takes of. */
  account: string;
  scan?: Scan;
  processing: ProcessingRecord;
  /** It is an upload that is to take the place of other bytes, and this is reserved for it. */
  reserved?: number;
  /** Nobody takes its bytes away, nor puts others in their place. */
  isHeld: boolean;
}

/** A step that has ended, and the bytes that it has worked on. */
export interface EndedStep {
  name: StepName;
  outcome: Exclude<StepOutcome, { kind: 'replaced' | 'later' }> | ReplacedOutcome;
  objectKey: string;
  /** Nobody waits for it: it was done again, of an asset that is ready. */
  isAgain?: boolean;
}
export interface ReplacedOutcome {
  kind: 'replaced';
  /** Of the row that was claimed for it. */
  derivativeId: string;
  objectKey: string;
  size: number;
  sha256: Buffer;
  mediaType: string;
  original?: Original;
}

/**
 * `recorded`; `void`: the asset has gone, has other bytes, or does not wait for this step; `no-room`: the larger file does not
 * fit the quota; `held`: it may not have other bytes.
 */
export type Recorded = 'recorded' | 'void' | 'no-room' | 'held';

export class ProcessingRepository {
  readonly #handle: DatabaseHandle;
  readonly #outbox: Outbox;
  readonly #limits: LimitValues;
  readonly derivatives: DerivativesRepository;

  constructor(handle: DatabaseHandle, outbox: Outbox, limits: LimitValues) {
    this.#handle = handle;
    this.#outbox = outbox;
    this.#limits = limits;
    this.derivatives = new DerivativesRepository(handle, outbox);
  }

  /** An asset that is processing or ready. */
  async find(id: string): Promise<FoundForStep | undefined> {
    const { rows } = await this.#handle.database.run(findForStep, { id });
    return rows[0] && found(rows[0]);
  }

  /**
   * Writes down how a step has ended, and what follows.
   * @param fence called first in the transaction; see JobContext
   */
  async end(
    id: string,
    { name, outcome, objectKey, isAgain = false }: EndedStep,
    actor: Actor,
    fence: (transaction: Executor) => Promise<void>,
  ): Promise<Recorded> {
    let next: StepName | undefined;
    const recorded = await this.#handle.transact(async (transaction): Promise<Recorded> => {
      await fence(transaction);
      const { rows } = await transaction.run(lockForStep, { id });
      const current = rows[0] && found(rows[0]);
      if (!current || current.asset.objectKey !== objectKey) return 'void';
      if (isAgain ? current.asset.state !== 'ready' : nextStep(current.processing) !== name) return 'void';
      if (current.isHeld && outcome.kind === 'replaced') return 'held';
      const change = changeOf(current, name, outcome);
      if (!(await this.#hasRoom(transaction, current, change.size))) return 'no-room';
      const stays = current.reserved !== undefined && ({ state: 'uploading', isChange: false, action: null } as const);
      await transaction.run(writeStep, { id, ...change, ...stays, ...actor });
      if (!stays) await this.#follow(transaction, current, outcome, change);
      else await this.#followReplacing(transaction, current, outcome, change, actor);
      if (change.state !== 'rejected') next = nextStep(change.processing);
      return 'recorded';
    });
    if (next) this.#outbox.wake(stepJob(next));
    return recorded;
  }

  /** A step that cannot be done now waits, and has another job after some seconds. */
  async putOff(
    id: string,
    name: StepName,
    { reason, seconds }: { reason: string; seconds: number },
    fence: (transaction: Executor) => Promise<void>,
  ): Promise<void> {
    await this.#handle.transact(async (transaction) => {
      await fence(transaction);
      const { rows } = await transaction.run(lockForStep, { id });
      const current = rows[0] && found(rows[0]);
      if (!current || nextStep(current.processing) !== name) return;
      const at = current.processing[name]?.at ?? new Date().toISOString();
      const processing = withEnded(current.processing, name, { state: 'waiting', reason, at });
      await transaction.run(writeRecord, { id, processing });
      await this.#outbox.send(transaction, stepJob(name), { assetId: id }, { startAfter: seconds });
    });
  }

  /**
   * Has a step done again, or for the first time: facts and derivatives of what was stored before there were any.
   * @returns false when there is no such asset, or it waits for the step already
   */
  async redo(id: string, name: Exclude<StepName, 'verify'>): Promise<boolean> {
    return this.#handle.transact(async (transaction) => {
      const { rows } = await transaction.run(lockForStep, { id });
      const current = rows[0] && found(rows[0]);
      if (!current || current.processing[name]?.state === 'waiting') return false;
      const processing = withEnded(current.processing, name, { state: 'waiting' });
      await transaction.run(writeRecord, { id, processing });
      if (nextStep(processing) === name) await this.#outbox.send(transaction, stepJob(name), { assetId: id });
      return true;
    });
  }

  /** Changes the charge to bytes of another size. What is not counted yet has what was reserved for it, and no more. */
  async #hasRoom(transaction: Executor, { account, asset, reserved }: FoundForStep, size: number): Promise<boolean> {
    if (reserved !== undefined) return size <= Math.max(reserved, asset.size);
    const more = size - asset.size;
    if (more === 0) return true;
    const { rows } = await transaction.run(changeUse, { account, more, ...this.#limits });
    return rows.length > 0;
  }

  /** Of an upload that is to take the place of other bytes: it does, or is refused, when no necessary step waits any more. */
  async #followReplacing(
    transaction: Executor,
    { asset: { id, objectKey } }: FoundForStep,
    outcome: EndedStep['outcome'],
    { state, reason, processing }: Change,
    actor: Actor,
  ): Promise<void> {
    if (outcome.kind === 'replaced') await this.derivatives.exchange(outcome.derivativeId, objectKey, transaction);
    const next = nextStep(processing);
    if (state === 'processing' && next) await this.#outbox.send(transaction, stepJob(next), { assetId: id });
    if (state === 'processing') return;
    const refused = reason !== null && { refused: reason };
    await this.#outbox.publish(transaction, replacementProcessed, { uploadId: id, actor, ...refused });
  }

  async #follow(
    transaction: Executor,
    { asset, isHeld }: FoundForStep,
    outcome: EndedStep['outcome'],
    { state, processing }: Change,
  ): Promise<void> {
    const { id, ownerId, objectKey } = asset;
    if (outcome.kind === 'replaced') await this.derivatives.exchange(outcome.derivativeId, objectKey, transaction);
    if (state === 'rejected') {
      await this.derivatives.discardOf(id, transaction);
      if (outcome.kind === 'rejected' && outcome.removesBytes && !isHeld)
        await this.derivatives.discardObject(id, objectKey, transaction);
      return;
    }
    const next = nextStep(processing);
    if (next) await this.#outbox.send(transaction, stepJob(next), { assetId: id });
    if (state === 'ready' && asset.state === 'processing')
      await this.#outbox.publish(transaction, assetReady, { assetId: id, ownerId });
  }
}

function found(row: Row): FoundForStep {
  const { id, ownerId, account, name, state, assetType, mediaType, size, objectKey, createdAt, isHeld } = row;
  if (!id || ownerId === null || account === null || name === null || !objectKey || !createdAt)
    throw new Error('a row without its columns');
  if (assetType === null || mediaType === null || size === null) throw new Error(`asset ${id} is incomplete`);
  const isReplacing = state === 'uploading';
  if (!isReplacing && state !== 'processing' && state !== 'ready') throw new Error(`asset ${id} is ${state}`);
  return {
    account,
    isHeld,
    ...(isReplacing && { reserved: row.reservedBytes ?? 0 }),
    asset: {
      ...{
        id,
        ownerId,
        name,
        state: isReplacing ? 'processing' : state,
        assetType,
        mediaType,
        size,
        objectKey,
        createdAt,
      },
      cacheControl: row.cacheControl ?? 'private',
      ...(row.sha256 && { sha256: row.sha256 }),
      ...(row.facts && { facts: row.facts }),
      ...(row.original && { original: row.original }),
      ...(row.thumbHash !== null && { thumbHash: row.thumbHash }),
    },
    // Before there were other steps, an asset that was processing was being verified.
    processing: row.processing ?? (state === 'processing' ? { verify: { state: 'waiting' } } : {}),
    ...(row.scan && { scan: row.scan }),
  };
}
