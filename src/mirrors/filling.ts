/**
 * What the copies of a mirror lack of what is stored, and the other way round. A mirror has a row for everything that was stored
 * since it was first configured; what was there before is filled up on demand.
 */
import { NIL } from 'uuid';
import type { DatabaseHandle } from '../database/client.ts';
import * as statements from './filling-statements.ts';
import { leaveCopiesOfObjects } from './leaving.ts';

/** Assets, or copies, that one statement looks at. */
const PAGE = 1000;

export interface Amount {
  objects: number;
  bytes: number;
}

export interface StoredCopy {
  objectKey: string;
  assetId: string;
  /** Bytes. */
  size: number;
  sha256: Buffer | null;
  state: string;
  at: Date;
}

export class Filling {
  readonly #handle: DatabaseHandle;

  constructor(handle: DatabaseHandle) {
    this.#handle = handle;
  }

  /** What is stored and is neither copied to the mirror nor to be copied. */
  lacking(mirror: string, signal?: AbortSignal): Promise<Amount> {
    return this.#eachPage(statements.countLacking, mirror, signal);
  }

  /** Has all of that copied. May be repeated, and goes on where it was ended. @param onPage told how much there was so far */
  fillUp(mirror: string, signal?: AbortSignal, onPage?: (amount: Amount) => void): Promise<Amount> {
    return this.#eachPage(statements.fillUp, mirror, signal, onPage);
  }

  async #eachPage(
    statement: typeof statements.fillUp | typeof statements.countLacking,
    mirror: string,
    signal?: AbortSignal,
    onPage?: (amount: Amount) => void,
  ): Promise<Amount> {
    const amount: Amount = { objects: 0, bytes: 0 };
    for (let after: string = NIL, looked = PAGE; looked === PAGE; ) {
      signal?.throwIfAborted();
      const { rows } = await this.#handle.database.run(statement, { mirror, after, limit: PAGE });
      const [page] = rows;
      if (!page) break;
      amount.objects += page.objects;
      amount.bytes += page.bytes;
      onPage?.(amount);
      looked = page.looked;
      after = page.last ?? after;
    }
    return amount;
  }

  /** The copies of a mirror that are there, in the order of their keys, a page at a time. */
  async *stored(mirror: string): AsyncGenerator<StoredCopy[]> {
    for (let after = ''; ; ) {
      const { rows } = await this.#handle.database.run(statements.listStored, { mirror, after, limit: PAGE });
      if (rows.length > 0) yield rows;
      if (rows.length < PAGE) return;
      after = rows.at(-1)?.objectKey ?? after;
    }
  }

  /** Has copies removed of objects that belong to nothing since before the time. @returns how many */
  async dropOfNobody(mirror: string, before: Date, signal: AbortSignal): Promise<number> {
    let dropped = 0;
    for (let after = '', looked = PAGE; looked === PAGE; ) {
      signal.throwIfAborted();
      const { rows } = await this.#handle.database.run(statements.findOfNobody, { mirror, after, before, limit: PAGE });
      const ofNobody = rows.filter(({ isOfNobody }) => isOfNobody);
      if (ofNobody.length > 0) await this.#handle.transact((own) => leaveCopiesOfObjects(own, ofNobody));
      dropped += ofNobody.length;
      looked = rows.length;
      after = rows.at(-1)?.objectKey ?? after;
    }
    return dropped;
  }

  /** Names of mirrors that nobody knows any more, and of which there are copies. */
  async unknownMirrors(): Promise<string[]> {
    return (await this.#handle.database.run(statements.findUnknownMirrors, {})).rows.map(({ mirror }) => mirror);
  }
}
