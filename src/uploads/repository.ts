/**
 * The life of an upload in the database: begin, extend, settle or end. Each is one statement, or one short transaction
 * where a job or an answer belongs to it; each is guarded by the record's state, so that of two attempts only the first
 * takes effect and repeating one whose answer was lost does no harm.
 *
 * An upload whose bytes are all there and checked is sealed, before the object is made whole: the record then says what
 * the object must be, so that whoever finds the upload abandoned can finish it.
 */

import type { Caller } from '../access/caller.ts';
import { requireNotErased } from '../access/erasing.ts';
import { type Asset, toAsset } from '../assets/asset.ts';
import { deleteObjectJob } from '../assets/jobs/delete-object.ts';
import type { LifeCycleValues } from '../assets/life-cycle-looks.ts';
import type { Actor } from '../database/audit.ts';
import { type DatabaseHandle, type Executor, sqlState } from '../database/client.ts';
import type { Outbox } from '../database/outbox.ts';
import { retryStatement } from '../database/retry.ts';
import { assetReady } from '../processing/events.ts';
import type { StoredDerivative } from '../processing/keep-on-arrival.ts';
import { isServable, nextStep, plan, type StepRules } from '../processing/pipeline.ts';
import { stepJob } from '../processing/step-jobs.ts';
import { makeProject, orProjectHasGone, type Place } from '../projects/places.ts';
import { type LimitValues, limitValuesFor } from '../quotas/limit.ts';
import { moveCharge } from '../quotas/moving.ts';
import { countBytes, countFile } from '../tickets/counting.ts';
import type { ArrivedContent, Contents } from '../versions/contents.ts';
import { Arrivals, begin, contentOf, type Settling, settle } from './arrivals.ts';
import { delayBefore, type Look, lookAgainJob } from './jobs/look-again.ts';
import * as statements from './statements.ts';
import type {
  AbandonedUpload,
  EndedUpload,
  InTransaction,
  LearnedOnTheWay,
  NewUpload,
  SettledBytes,
  SettledUpload,
  StoredBytes,
} from './upload.ts';

const UNIQUE_VIOLATION = '23505';
/** How long a lost connection is borne before bytes are stored, and after; milliseconds. */
const PATIENCE_BEFORE = 2000;
const PATIENCE_AFTER = 15_000;
/** A request to the object store that was given up may still arrive; the job that removes bytes waits for it. Seconds. */
const LATE_REQUESTS = 5;

type DescribedUpload = Pick<
  NewUpload,
  'id' | 'metadata' | 'path' | 'tags' | 'retention' | 'place' | 'caller' | 'actor' | 'ownerId'
>;

/** So that a transaction in which a project was made is not committed. */
class NoRoom extends Error {}

export interface UploadsRepositoryOptions {
  database: DatabaseHandle;
  outbox: Outbox;
  limits: LimitValues;
  /** Seconds after which an upload that is not heard of counts as abandoned. */
  lease: number;
  /** Seconds before the first look under the key of an upload that ended in doubt. */
  lookAgain: number;
  /** Which steps of processing apply to which files. */
  rules: StepRules;
  /** What becomes of files of an asset type with time. */
  lifeCycleOf: (assetType: string) => LifeCycleValues;
  contents: Contents;
}

export class UploadsRepository {
  readonly #options: UploadsRepositoryOptions;
  readonly #arrivals: Arrivals;

  constructor(options: UploadsRepositoryOptions) {
    this.#options = options;
    this.#arrivals = new Arrivals(options.database.database);
  }

  /**
   * Reserves `size` bytes of the owner's quota and inserts the record `uploading`, with a lease.
   * @param seal what the object will be, when that is known already
   * @param lease seconds, when it is another one than that of uploads that are heard of all the time
   * @returns false when the quota has no room; then nothing was written
   * @throws Problem ticket-used-up; owner-under-erasure; not-found or forbidden of a project; then nothing was written, either
   */
  async begin(
    upload: NewUpload,
    size: number,
    options: { seal?: StoredBytes | undefined; inTransaction?: InTransaction<string> | undefined; lease?: number },
  ): Promise<boolean> {
    const { seal, inTransaction, lease = this.#options.lease } = options;
    const { place, caller, actor, replacement } = upload;
    const { account } = place;
    const limits = limitValuesFor(this.#options.limits, account, caller);
    const { ticket } = caller;
    const beginning = { upload, size, seal, lease, limits };
    const isMore = inTransaction !== undefined || place.isNew || ticket !== undefined || replacement !== undefined;
    return retryStatement(PATIENCE_BEFORE, async (attempt) => {
      try {
        if (!isMore && attempt === 1 && (await this.#arrivals.begin(beginning))) return true;
        return await this.#run(isMore, async (executor) => {
          await makeProject(executor, place, caller, actor);
          const begun = await begin(executor, [beginning]);
          if (!begun) await requireNotErased(executor, upload.ownerId);
          if (!begun && place.isNew) throw new NoRoom();
          const { id: uploadId, ownerId: uploaderId } = upload;
          if (begun && replacement)
            await this.#options.contents.begin(executor, { uploadId, uploaderId, ...replacement });
          if (begun && ticket !== undefined) await countFile(executor, ticket, size);
          if (begun) await inTransaction?.(executor, upload.id);
          return begun;
        });
      } catch (error) {
        if (error instanceof NoRoom) return false;
        // The first attempt took effect and only its answer was lost.
        if (attempt > 1 && sqlState(error) === UNIQUE_VIOLATION) return true;
        throw orProjectHasGone(error);
      }
    });
  }

  /**
   * Raises the reservation to `total` bytes and renews the lease. The total, not the step, is named: so it may be repeated.
   * @param seal what the object will be: the upload is sealed
   * @returns 'no-room' when the quota has no room, 'ended' when the upload was ended by somebody else
   * @throws Problem ticket-used-up; then nothing was written
   */
  async extend(
    { id, caller, ...upload }: { id: string; caller: Caller } & ({ account: string } | { place: Place }),
    total: number,
    seal?: StoredBytes,
  ): Promise<'extended' | 'no-room' | 'ended'> {
    const { limits, lease } = this.#options;
    const { ticket } = caller;
    const account = 'place' in upload ? upload.place.account : upload.account;
    const values = { id, total, lease, ...limitValuesFor(limits, account, caller) };
    const extend = async (executor: Executor) => {
      const { rows } = await (seal
        ? executor.run(statements.sealUpload, { ...values, ...sealOf(seal) })
        : executor.run(statements.extendUpload, values));
      const [row] = rows;
      if (ticket !== undefined && row?.isExtended) await countBytes(executor, ticket, row.step);
      return row;
    };
    const row = await retryStatement(PATIENCE_BEFORE, () => this.#run(ticket !== undefined, extend));
    if (row?.isExtended) return 'extended';
    return row?.isLive ? 'no-room' : 'ended';
  }

  /**
   * Writes down what the client has said since the upload began. Where another account pays for it at its place, what is
   * reserved is reserved there.
   * @returns 'ended' when the upload was ended by somebody else
   */
  async describe(upload: DescribedUpload): Promise<'described' | 'no-room' | 'ended'> {
    const { id, metadata, path, tags, retention = null, place, caller, actor, ownerId } = upload;
    const { account, projectId = null } = place;
    const limits = limitValuesFor(this.#options.limits, account, caller);
    const values = { id, metadata, path, tags, retention, projectId, account: account === ownerId ? null : account };
    const describe = async (transaction: Executor) => {
      await makeProject(transaction, place, caller, actor);
      const { rows } = await transaction.run(statements.lockUpload, { id });
      const [upload] = rows;
      if (!upload) return 'ended';
      const charge = {
        from: upload.account,
        to: account,
        used: 0,
        reserved: upload.reservedBytes,
        files: 0,
        limits,
      };
      if (!(await moveCharge(transaction, charge))) throw new NoRoom();
      await transaction.run(statements.describeUpload, values);
      return 'described';
    };
    return retryStatement(PATIENCE_BEFORE, async () => {
      try {
        return await this.#options.database.transact(describe);
      } catch (error) {
        if (error instanceof NoRoom) return 'no-room';
        throw orProjectHasGone(error);
      }
    });
  }

  /** Says that the upload lives. An upload that was ended stays so. */
  async renew(id: string): Promise<void> {
    await this.#database.run(statements.renewUpload, { id, lease: this.#options.lease });
  }

  /**
   * Makes the upload an asset: the reservation becomes use, an audit row is written, and the first step of its processing
   * that is still to be done gets its job; derivatives that are stored are `ready` with it. The asset is `ready` where no such step holds it back; then who listens for
   * assets that are ready is told. If it is an asset already, because an earlier answer was lost or the reaper finished the
   * upload, that is the answer.
   * @param learned what was found out while it came in, and whether its bytes are still to be read back
   * @returns undefined when the upload was ended by somebody else
   * @throws ReplacementRefused; then nothing was written
   */
  async settle(
    { id, isReplacing, account, held }: SettledUpload,
    stored: SettledBytes,
    actor: Actor,
    inTransaction?: InTransaction<Asset>,
    learned: LearnedOnTheWay = {},
  ): Promise<Asset | undefined> {
    const { outbox, rules, lifeCycleOf } = this.#options;
    const { ended = {}, needsVerification = false, derivatives = [] } = learned;
    const processing = plan(rules, stored, ended, needsVerification);
    if (isReplacing) {
      const content = contentOf(stored, learned, processing, actor);
      return this.#replace(id, actor, { content, derivatives: asJson(derivatives), held, inTransaction });
    }
    const next = nextStep(processing);
    const state = isServable(processing) ? 'ready' : 'processing';
    const tellsReady = state === 'ready' && outbox.hasSubscribers(assetReady);
    const lifeCycle = lifeCycleOf(stored.assetType);
    const settling: Settling = { id, state, stored, processing, learned, derivatives, lifeCycle, actor };
    const isMore = next !== undefined || tellsReady || inTransaction !== undefined || held !== undefined;
    return retryStatement(PATIENCE_AFTER, async (attempt) => {
      const isAlone = isMore || account === undefined || attempt > 1;
      const outcome = isAlone ? undefined : await this.#arrivals.settle(account, settling);
      const settled = outcome
        ? outcome.asset
        : await this.#run(isMore, async (executor) => {
            const asset = (await settle(executor, [settling])).get(id);
            if (!asset) return undefined;
            if (next) await outbox.send(executor, stepJob(next), { assetId: id });
            if (tellsReady) await outbox.publish(executor, assetReady, { assetId: id, ownerId: asset.ownerId });
            await held?.(executor);
            await inTransaction?.(executor, asset);
            return asset;
          });
      if (settled && next) outbox.wake(stepJob(next));
      if (settled) return settled;
      const { rows } = await this.#database.run(statements.findSettled, { id });
      return rows[0] && toAsset(rows[0]);
    });
  }

  /** The same of an upload that replaces: its bytes are those of the asset now, or wait for their processing. */
  async #replace(
    id: string,
    actor: Actor,
    {
      content,
      derivatives,
      held,
      inTransaction,
    }: Pick<SettledUpload, 'held'> & {
      content: ArrivedContent;
      derivatives: string;
      inTransaction: InTransaction<Asset> | undefined;
    },
  ): Promise<Asset | undefined> {
    const { contents, database } = this.#options;
    return retryStatement(PATIENCE_AFTER, async () => {
      const settled = await database.transact(async (transaction) => {
        const options = { derivatives, held: held && (() => held(transaction)) };
        const asset = await contents.settle(transaction, id, content, actor, options);
        if (asset) await inTransaction?.(transaction, asset);
        return asset;
      });
      return settled ?? (await contents.findReplaced(database.database, id));
    });
  }

  /** An upload that was accepted has been processed; in the transaction that writes that down. */
  async finishReplacing(transaction: Executor, id: string, actor: Actor, refused?: string): Promise<void> {
    const reason = refused ?? (await this.#options.contents.finish(transaction, id, actor));
    if (reason === undefined) return;
    const action = refused === undefined ? ('upload.aborted' as const) : ('upload.refused' as const);
    const values = { id, action, reason, onlyAbandoned: false, ...actor };
    const { rows } = await transaction.run(statements.markUploadForDeletion, values);
    if (rows.length > 0) await this.#options.outbox.send(transaction, deleteObjectJob, { assetId: id });
  }

  /** An asset whose bytes are still to be verified. */
  async findProcessing(id: string): Promise<Asset | undefined> {
    const { rows } = await this.#database.run(statements.findProcessing, { id });
    return rows[0] && toAsset(rows[0]);
  }

  /** How many bytes of it were read back; where that cannot be written, nobody need know. */
  async noteVerified(id: string, bytes: number): Promise<void> {
    await this.#database.run(statements.noteVerified, { id, bytes }).catch(() => {});
  }

  /** Ends an upload that never touched the object store: no record, no reservation; one audit row. */
  async remove(id: string, { action, reason, actor }: EndedUpload): Promise<void> {
    await retryStatement(PATIENCE_BEFORE, () =>
      this.#database.run(statements.removeUpload, { id, action, reason, ...actor }),
    );
  }

  /**
   * Ends an upload of which something may be in the object store: the reservation is released, and from here on nobody
   * can make it an asset any more. Only then may its bytes be removed, by the job that is enqueued or sooner.
   * @returns whether the upload is ended; false when it became an asset, is ended already, or, where that was asked, lives
   */
  async markForDeletion(
    id: string,
    { action, reason, actor, inDoubt = false }: EndedUpload,
    options: { onlyAbandoned?: boolean; inTransaction?: (transaction: Executor) => Promise<void> } = {},
  ): Promise<boolean> {
    const { onlyAbandoned = false, inTransaction } = options;
    const { database, outbox } = this.#options;
    const values = { id, action, reason, onlyAbandoned, ...actor };
    return retryStatement(PATIENCE_BEFORE, () =>
      database.transact(async (transaction) => {
        await inTransaction?.(transaction);
        const { rows } = await transaction.run(statements.markUploadForDeletion, values);
        const [row] = rows;
        if (!row) return false;
        if (inDoubt) await this.#send(transaction, { assetId: id, objectKey: row.objectKey, look: 0 });
        await outbox.send(transaction, deleteObjectJob, { assetId: id }, { startAfter: LATE_REQUESTS });
        return true;
      }),
    );
  }

  /** Has the key of an upload looked at, later. Looks come to an end, so this does nothing after the last. */
  async lookAgain(look: Look, inTransaction?: (transaction: Executor) => Promise<void>): Promise<void> {
    await this.#options.database.transact(async (transaction) => {
      await inTransaction?.(transaction);
      await this.#send(transaction, look);
    });
  }

  async #send(transaction: Executor, look: Look): Promise<void> {
    const { outbox, lookAgain } = this.#options;
    const startAfter = delayBefore(look.look, lookAgain);
    if (startAfter !== undefined) await outbox.send(transaction, lookAgainJob, look, { startAfter });
  }

  /** Removes the record of an ended upload, once its bytes are gone. */
  async forget(id: string): Promise<void> {
    await this.#database.run(statements.forgetUpload, { id });
  }

  /** Uploads whose lease has ended, oldest first. */
  async abandoned(limit: number): Promise<AbandonedUpload[]> {
    const { rows } = await this.#database.run(statements.listAbandoned, { limit });
    return rows.map(({ id, ownerId, objectKey, size, sha256, mediaType, assetType, cacheControl, ...of }) => {
      const upload = { id, ownerId, objectKey, isReplacing: of.isReplacing };
      // What was accepted waits for steps of processing, and has waited too long.
      if (of.isAccepted) return upload;
      if (size === null || !sha256 || mediaType === null || assetType === null || cacheControl === null) return upload;
      return { ...upload, stored: { size, sha256, mediaType, assetType, cacheControl } };
    });
  }

  /** What became of an upload: still running (or to be settled by the reaper), gone, or the asset it is now. */
  async fate(id: string): Promise<'running' | 'gone' | Asset> {
    const { rows } = await this.#database.run(statements.findFate, { id });
    const [row] = rows;
    if (!row) return (await this.#options.contents.findReplaced(this.#database, id)) ?? 'gone';
    return row.state === 'uploading' ? 'running' : toAsset(row);
  }

  get #database(): Executor {
    return this.#options.database.database;
  }

  /** In a transaction when something else belongs to it. */
  #run<Result>(isTransaction: boolean, work: (executor: Executor) => Promise<Result>): Promise<Result> {
    const { database } = this.#options;
    return isTransaction ? database.transact(work) : work(database.database);
  }
}

function asJson(derivatives: readonly StoredDerivative[]): string {
  return JSON.stringify(derivatives.map((each) => ({ ...each, sha256: each.sha256.toString('hex') })));
}

/** What the record says of the object once the upload is sealed. */
function sealOf(seal: StoredBytes | undefined) {
  return {
    storedSize: seal?.size ?? null,
    sha256: seal?.sha256 ?? null,
    mediaType: seal?.mediaType ?? null,
    assetType: seal?.assetType ?? null,
    cacheControl: seal?.cacheControl ?? null,
    original: seal?.original ?? null,
  };
}
