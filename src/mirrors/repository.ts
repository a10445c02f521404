/** Copies and mirrors in SQL. */
import type { DatabaseHandle, Executor } from '../database/client.ts';
import type { Outbox } from '../database/outbox.ts';
import type { CopyReason, CopyState } from '../database/tables/mirrors.ts';
import { faultsOfMirror } from './copy-object.ts';
import * as statements from './copy-statements.ts';
import { copiesGone } from './events.ts';

/** A copy that is to be made, or looked at. */
export interface CopyWork {
  objectKey: string;
  assetId: string;
  /** Bytes. */
  size: number;
  /** Where somebody has read the bytes. */
  sha256?: Buffer | undefined;
  /** Tries, this one included. */
  attempts: number;
  behindSince: Date;
}

export interface ClaimedCopy extends CopyWork {
  /** Who has it, and may say what has come of it. */
  claim: string;
}

/** `given-up`: the state is as it was before, and it may be tried at once. */
export type CopyOutcome =
  | { kind: 'copied'; sha256?: Buffer | undefined }
  | { kind: 'failed'; reason: CopyReason; pause: number }
  | { kind: 'given-up'; begun: boolean };

export interface EndedCopy {
  copy: Pick<ClaimedCopy, 'objectKey' | 'claim'>;
  outcome: CopyOutcome;
}

/** A copy as the record of its asset tells it. */
export interface CopyOfAsset {
  mirror: string;
  state: CopyState;
  at: Date;
  attempts: number;
  reason: CopyReason | null;
}

export class CopiesRepository {
  readonly #handle: DatabaseHandle;
  readonly #outbox: Pick<Outbox, 'publish'>;

  constructor(handle: DatabaseHandle, outbox: Pick<Outbox, 'publish'>) {
    this.#handle = handle;
    this.#outbox = outbox;
  }

  /** The next copies that a mirror needs, which nobody else gets until the lease, in seconds, is over. */
  async claim(mirror: string, claim: string, lease: number, limit: number): Promise<ClaimedCopy[]> {
    const { rows } = await this.#handle.database.run(statements.claimCopies, { mirror, claim, lease, limit });
    return rows.map((row) => ({ ...toWork(row), claim }));
  }

  /** Says that these are worked on. @returns the keys of those that are still wanted */
  async renew(mirror: string, held: readonly ClaimedCopy[], lease: number): Promise<ReadonlySet<string>> {
    const values = {
      mirror,
      lease,
      keys: held.map(({ objectKey }) => objectKey),
      claims: held.map((each) => each.claim),
    };
    const { rows } = await this.#handle.database.run(statements.renewCopies, values);
    return new Set(rows.map(({ objectKey }) => objectKey));
  }

  /**
   * Writes down what has come of tries.
   * @returns the keys of which nothing is known any more: what was copied all the same is to be removed
   */
  async end(mirror: string, ended: readonly EndedCopy[]): Promise<string[]> {
    const outcomes = JSON.stringify(ended.map(toRow));
    return this.#handle.transact(async (transaction) => {
      const { rows } = await transaction.run(statements.endCopies, { mirror, outcomes });
      const copied = rows.filter(({ state }) => state === 'copied');
      if (copied.length > 0) {
        const bytes = copied.reduce((sum, { size }) => sum + size, 0);
        await transaction.run(statements.countMinute, { mirror, objects: copied.length, bytes });
      }
      const written = new Set(rows.map(({ objectKey }) => objectKey));
      const keys = ended.map(({ copy }) => copy.objectKey).filter((key) => !written.has(key));
      if (keys.length === 0) return [];
      return unknownAmong(transaction, mirror, keys);
    });
  }

  /** Which of these objects of a mirror have no row: nobody knows of them. */
  async unknown(mirror: string, keys: readonly string[]): Promise<string[]> {
    return unknownAmong(this.#handle.database, mirror, keys);
  }

  /** What has failed because of the mirror is tried again at once. */
  async hurry(mirror: string): Promise<void> {
    await this.#handle.database.run(statements.hurryFailed, { mirror, reasons: faultsOfMirror });
  }

  /** The next copies that are to be removed. */
  async claimLeaving(
    mirror: string,
    lease: number,
    limit: number,
  ): Promise<{ objectKey: string; size: number; attempts: number }[]> {
    return (await this.#handle.database.run(statements.claimLeaving, { mirror, lease, limit })).rows;
  }

  /** They could not be removed, and come again after a pause, in seconds. */
  async putOffLeaving(mirror: string, keys: readonly string[], pause: number): Promise<void> {
    await this.#handle.database.run(statements.putOffLeaving, { mirror, keys, pause });
  }

  /** What could not be removed is tried again at once. */
  async hurryLeaving(mirror: string): Promise<void> {
    await this.#handle.database.run(statements.hurryLeaving, { mirror });
  }

  /** They are removed. Whoever waits to forget the record of an asset is told when its last copy has gone. */
  async forgetLeaving(mirror: string, keys: readonly string[]): Promise<void> {
    await this.#handle.transact(async (transaction) => {
      const { rows } = await transaction.run(statements.lockAssetsOfLeaving, { mirror, keys });
      await transaction.run(statements.forgetLeaving, { mirror, keys });
      if (rows.length === 0) return;
      const ids = rows.map(({ id }) => id);
      const { rows: without } = await transaction.run(statements.findWithoutCopies, { ids });
      if (without.length > 0)
        await this.#outbox.publish(transaction, copiesGone, { assetIds: without.map(({ id }) => id) });
    });
  }

  /** Copies of one object of an asset. */
  async list(assetId: string, objectKey: string): Promise<CopyOfAsset[]> {
    return (await this.#handle.database.run(statements.listCopies, { assetId, objectKey })).rows;
  }

  /** Copies that are there, and were not looked at since `before`: the oldest first. */
  async toVerify(mirror: string, before: Date, limit: number): Promise<CopyWork[]> {
    return (await this.#handle.database.run(statements.findToVerify, { mirror, before, limit })).rows.map(toWork);
  }

  /** How many copies a mirror has. */
  async countStored(mirror: string): Promise<number> {
    return (await this.#handle.database.run(statements.countStored, { mirror })).rows[0]?.objects ?? 0;
  }

  /** It could not be read for a reason of its own, and waits its turn. */
  async passOver(mirror: string, objectKey: string): Promise<void> {
    await this.#handle.database.run(statements.passOver, { mirror, objectKey });
  }

  /** What was found when a copy was read; one that is missing or damaged is made again. */
  async endVerification(
    mirror: string,
    objectKey: string,
    found: { sha256: Buffer } | { reason: CopyReason },
  ): Promise<void> {
    const isGood = 'sha256' in found;
    await this.#handle.database.run(statements.endVerification, {
      mirror,
      objectKey,
      state: isGood ? 'verified' : 'failed',
      reason: isGood ? null : found.reason,
      sha256: isGood ? found.sha256 : null,
    });
  }
}

async function unknownAmong(executor: Executor, mirror: string, keys: readonly string[]): Promise<string[]> {
  const { rows } = await executor.run(statements.findKnown, { mirror, keys });
  const known = new Set(rows.map(({ objectKey }) => objectKey));
  return keys.filter((key) => !known.has(key));
}

function toWork({ sha256, ...row }: Omit<CopyWork, 'sha256'> & { sha256: Buffer | null }): CopyWork {
  return { ...row, ...(sha256 && { sha256 }) };
}

function toRow({ copy: { objectKey, claim }, outcome }: EndedCopy) {
  const row = { key: objectKey, claim };
  if (outcome.kind === 'copied') return { ...row, state: 'copied', sha256: outcome.sha256?.toString('hex') };
  if (outcome.kind === 'failed')
    return { ...row, state: 'failed', reason: outcome.reason, pause: outcome.pause, begun: true };
  return { ...row, pause: 0, begun: outcome.begun };
}
