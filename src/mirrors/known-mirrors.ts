/** The mirrors that the database knows, which every stored object is copied to: those of the configuration, and former ones. */
import { type Actor, recordEvent, systemActor } from '../database/audit.ts';
import type { DatabaseHandle, Executor } from '../database/client.ts';
import type { JobReference, Outbox } from '../database/outbox.ts';
import type { CopyReason } from '../database/tables/mirrors.ts';
import type { Mirror } from '../storage/mirror.ts';
import * as copyStatements from './copy-statements.ts';
import { copiesGone } from './events.ts';
import * as statements from './status-statements.ts';

/** Removes what is known of the copies of a mirror that was forgotten. */
export const forgetMirrorJob: JobReference<{ mirror: string; before: string }> = { name: 'forget-mirror' };

/** Minutes over which the rate of a mirror is told, and for which what it is made of is kept. */
const RATE_MINUTES = 5;
const KEPT_MINUTES = 60;
const MINUTE = 60_000;
/** Of those that are told, and rows that one transaction drops. */
const FAILURES = 10;
const PAGE = 1000;

/** How far a mirror is. */
export interface MirrorStatus {
  name: string;
  createdAt: Date;
  /** What it lacks. */
  behind: { objects: number; bytes: number; oldestAt?: Date };
  /** Of what it lacks: objects of which the last try has failed. */
  failed: number;
  /** Copies of what was deleted that are still to be removed. */
  leaving: number;
  /** What was copied in a second, of late. */
  rate: { objects: number; bytes: number };
}

export interface CopyFailure {
  reason: CopyReason | null;
  assetId: string;
  at: Date;
}

export class KnownMirrors {
  readonly #handle: DatabaseHandle;
  readonly #outbox: Pick<Outbox, 'publish' | 'send'>;

  constructor(handle: DatabaseHandle, outbox: Pick<Outbox, 'publish' | 'send'>) {
    this.#handle = handle;
    this.#outbox = outbox;
  }

  /**
   * Writes down the mirrors of the configuration: from here on, whatever is stored is to be copied to them.
   * @throws Error when one of them was at another place before: the table says that the copies are there
   */
  async add(configured: readonly Mirror[], startId: string): Promise<void> {
    for (const { name, place } of configured) {
      const known = await this.#handle.transact(async (transaction) => {
        const { rows } = await transaction.run(statements.addMirror, { name, place });
        if (rows.length > 0) await recordMirror(transaction, 'mirror.added', name, systemActor('mirrors', startId));
        return (await transaction.run(statements.findMirror, { name })).rows[0];
      });
      if (known?.place === place) continue;
      throw new Error(
        `the mirror ${name} was at ${known?.place} and is now at ${place}: give the new place another name (docs/durability.md)`,
      );
    }
  }

  /** All of them, by name. */
  async list(now = new Date()): Promise<MirrorStatus[]> {
    const { database } = this.#handle;
    const since = new Date(Math.floor(now.getTime() / MINUTE) * MINUTE - RATE_MINUTES * MINUTE);
    const known = await database.run(statements.listMirrors, {});
    if (known.rows.length === 0) return [];
    const waiting = byMirror((await database.run(statements.measureWaiting, {})).rows);
    const failed = byMirror((await database.run(statements.countFailed, {})).rows);
    const leaving = byMirror((await database.run(statements.countLeaving, {})).rows);
    const minutes = byMirror((await database.run(statements.measureMinutes, { since, before: now })).rows);
    const seconds = (now.getTime() - since.getTime()) / 1000;
    return known.rows.map(({ name, createdAt }) => {
      const { objects = 0, bytes = 0, oldestAt } = waiting.get(name) ?? {};
      const copied = minutes.get(name);
      return {
        name,
        createdAt,
        behind: { objects, bytes, ...(oldestAt && { oldestAt }) },
        failed: failed.get(name)?.objects ?? 0,
        leaving: leaving.get(name)?.objects ?? 0,
        rate: { objects: (copied?.objects ?? 0) / seconds, bytes: (copied?.bytes ?? 0) / seconds },
      };
    });
  }

  /** Of objects that could not be copied: those that are tried next. */
  async failures(mirror: string): Promise<CopyFailure[]> {
    return (await this.#handle.database.run(statements.findFailures, { mirror, limit: FAILURES })).rows;
  }

  /**
   * Nothing is copied to the mirror any more, and a job drops what is known of its copies; these stay where they are.
   * @param inTransaction what belongs into the same transaction
   * @returns false when there is none of this name
   */
  async forget(
    name: string,
    actor: Actor,
    inTransaction: (transaction: Executor) => Promise<void>,
    now = new Date(),
  ): Promise<boolean> {
    return this.#handle.transact(async (transaction) => {
      const { rows } = await transaction.run(statements.forgetMirror, { name });
      if (rows.length === 0) return false;
      await recordMirror(transaction, 'mirror.forgotten', name, actor);
      await this.#outbox.send(transaction, forgetMirrorJob, { mirror: name, before: now.toISOString() });
      await inTransaction(transaction);
      return true;
    });
  }

  /**
   * Drops the rows of a mirror that was forgotten, from before that. Records that waited for nothing but these copies may go.
   * @param fence called first in each transaction
   */
  async dropForgotten(
    mirror: string,
    before: Date,
    fence: (transaction: Executor) => Promise<void>,
    signal: AbortSignal,
  ): Promise<void> {
    for (let dropped = PAGE; dropped === PAGE; ) {
      signal.throwIfAborted();
      dropped = await this.#handle.transact(async (transaction) => {
        await fence(transaction);
        const { rows } = await transaction.run(statements.findOfForgotten, { mirror, before, limit: PAGE });
        const ids = rows.map(({ assetId }) => assetId);
        // In one order with those who remove the last copies elsewhere.
        await transaction.run(copyStatements.lockDeleting, { ids });
        await transaction.run(statements.dropOfForgotten, { mirror, keys: rows.map(({ objectKey }) => objectKey) });
        const { rows: without } = await transaction.run(copyStatements.findWithoutCopies, { ids });
        if (without.length > 0)
          await this.#outbox.publish(transaction, copiesGone, { assetIds: without.map(({ id }) => id) });
        return rows.length;
      });
    }
  }

  /** What rates are not made of any more. */
  async pruneMinutes(now = new Date()): Promise<void> {
    const before = new Date(now.getTime() - KEPT_MINUTES * MINUTE);
    await this.#handle.database.run(statements.pruneMinutes, { before });
  }
}

function byMirror<Row extends { mirror: string }>(rows: readonly Row[]): Map<string, Row> {
  return new Map(rows.map((row) => [row.mirror, row]));
}

async function recordMirror(
  transaction: Executor,
  action: 'mirror.added' | 'mirror.forgotten',
  mirror: string,
  actor: Actor,
): Promise<void> {
  await recordEvent(transaction, { action, actor, ownerId: actor.callerId, detail: { mirror } });
}
