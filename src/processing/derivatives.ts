/**
 * Records of objects beside the originals: thumbnails, variants, transcodes, and what takes the place of an original.
 *
 * One row is one attempt under one key. Whoever makes something claims its name first, by a row `making` with a lease;
 * there is one at a time, over all instances. When the maker dies, the lease ends, and the next one claims the name by
 * another row; what the dead one has left is discarded: a job removes the object, and then the row. A maker that was taken
 * for dead finds its row discarded, and what it has stored goes the same way.
 */
import { v7 as uuidv7 } from 'uuid';
import type { DatabaseHandle, Executor } from '../database/client.ts';
import { sqlState } from '../database/client.ts';
import type { JobReference, Outbox } from '../database/outbox.ts';
import type { DerivativeKind, derivatives } from '../database/tables/derivatives.ts';
import { leaveCopiesOfObjects } from '../mirrors/leaving.ts';
import { keyBeside } from '../storage/object-key.ts';
import * as statements from './derivative-statements.ts';

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

export class DerivativesRepository {
  readonly #handle: DatabaseHandle;
  readonly #outbox: Pick<Outbox, 'send' | 'sendAll'>;

  constructor(handle: DatabaseHandle, outbox: Pick<Outbox, 'send' | 'sendAll'>) {
    this.#handle = handle;
    this.#outbox = outbox;
  }

  async find(assetId: string, name: string): Promise<Derivative | undefined> {
    const { rows } = await this.#handle.database.run(statements.findNamed, { assetId, name });
    return rows[0] && current(rows[0]);
  }

  /** What policies name and what was transcoded, in the order of the names. */
  async list(assetId: string): Promise<Derivative[]> {
    const { rows } = await this.#handle.database.run(statements.listOfAsset, { assetId });
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
        const { rows: locks } = await transaction.run(statements.lockNamed, { assetId, name });
        const { rows: found } = await transaction.run(statements.findNamed, { assetId, name });
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
        const { rows } = await transaction.run(statements.insertMaking, {
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

  /**
   * Claims names for a file whose object is whole and which is no asset yet; `settleUploads` finishes them.
   * @param claims as `newClaims` makes them
   * @returns false when the upload was ended
   */
  async claimArriving(assetId: string, sourceKey: string, claims: readonly NewClaim[]): Promise<boolean> {
    const values = { assetId, sourceKey, claims: JSON.stringify(claims), lease: MAKING_LEASE };
    return (await this.#handle.database.run(statements.insertArriving, values)).rows.length > 0;
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
      const { rows } = await transaction.run(statements.finishMade, values);
      const made = rows[0] && current(rows[0]);
      return made && isReady(made) ? made : undefined;
    });
  }

  /** It cannot be made; what an attempt has left in the store, if anything, lies under its key until it is tried again or its asset goes. */
  async fail(id: string, reason: string): Promise<void> {
    await this.#handle.database.run(statements.failMaking, { id, reason });
  }

  /** Says that the maker lives. @returns false when the claim was lost */
  async renew(id: string, progress?: number, lease = MAKING_LEASE): Promise<boolean> {
    const values = { id, lease, progress: progress ?? null };
    return (await this.#handle.database.run(statements.renewMaking, values)).rows.length > 0;
  }

  /** From here on nobody sees them; jobs remove their objects. */
  async discard(ids: readonly string[], transaction?: Executor): Promise<void> {
    if (ids.length === 0) return;
    if (!transaction) return this.#handle.transact((own) => this.discard(ids, own));
    const { rows } = await transaction.run(statements.discardRows, { ids });
    await this.#send(transaction, rows);
  }

  /** All that was made of an asset, or is being made. */
  async discardOf(assetId: string, transaction: Executor): Promise<void> {
    await this.#send(transaction, (await transaction.run(statements.discardRowsOf, { assetId })).rows);
  }

  /** What was claimed as replacement is the original now: the row goes on as the record of the object that it replaced. */
  async exchange(id: string, replacedKey: string, transaction: Executor): Promise<boolean> {
    const { rows } = await transaction.run(statements.exchangeKey, { id, objectKey: replacedKey });
    await this.#send(transaction, rows);
    return rows.length > 0;
  }

  /**
   * Has an object of an asset removed that the asset does not serve any more.
   * @param startAfter seconds for which those who are reading it, or were led to it, may go on
   */
  async discardObject(assetId: string, objectKey: string, transaction: Executor, startAfter = 0): Promise<void> {
    const id = uuidv7();
    await transaction.run(statements.insertDiscarded, { id, assetId, objectKey });
    await this.#send(transaction, [{ id }], startAfter);
  }

  async findDiscarded(ids: readonly string[]): Promise<{ id: string; objectKey: string; size: number | null }[]> {
    return (await this.#handle.database.run(statements.findDiscarded, { ids })).rows;
  }

  /** Removes the rows of discarded derivatives, once their objects are gone. */
  async forget(ids: string[], held: (transaction: Executor, ids: string[]) => Promise<string[]>): Promise<string[]> {
    return this.#handle.transact(async (transaction) => {
      const removed = await held(transaction, ids);
      if (removed.length === 0) return removed;
      const { rows } = await transaction.run(statements.forgetRows, { ids: removed });
      await leaveCopiesOfObjects(transaction, rows);
      return removed;
    });
  }

  /** What stands still since before `cutoff` is discarded, and gets a job. @returns how many */
  async resume(cutoff: Date, dryRun: boolean): Promise<number> {
    return this.#handle.transact(async (transaction) => {
      const { rows } = await transaction.run(statements.findStalled, { cutoff });
      if (dryRun || rows.length === 0) return rows.length;
      await transaction.run(statements.discardRows, { ids: rows.map(({ id }) => id) });
      await this.#send(transaction, rows);
      return rows.length;
    });
  }

  async #send(transaction: Executor, rows: readonly { id: string }[], startAfter = 0): Promise<void> {
    await this.#outbox.sendAll(
      transaction,
      discardDerivativeJob,
      rows.map(({ id }) => ({ derivativeId: id })),
      startAfter === 0 ? {} : { startAfter },
    );
  }
}

/** A row that is to be, under a key of its own. */
export interface NewClaim {
  id: string;
  name: string;
  objectKey: string;
}

/** @param sourceKey of the object beside which they lie */
export function newClaims(sourceKey: string, names: Iterable<string>): NewClaim[] {
  return Array.from(names, (name) => {
    const id = uuidv7();
    return { id, name, objectKey: keyBeside(sourceKey, id) };
  });
}

export function isReady(derivative: Derivative): derivative is ReadyDerivative {
  return derivative.state === 'ready' && derivative.mediaType !== null && derivative.size !== null;
}

function current(row: DerivativeRow): Derivative {
  const { state } = row;
  if (state === 'discarded') throw new Error(`the derivative ${row.id} is discarded`);
  return { ...row, state };
}
