/**
 * The keys that sign addresses of variants, which all instances share. A new key is told to all of them before the first
 * address is signed with it, and the one before it is accepted until the last address that it has signed has ended. So keys
 * are replaced while the service runs, and no page notices.
 */
import { randomBytes } from 'node:crypto';
import { MAX_LINK } from '../config.ts';
import type { DatabaseHandle, Executor } from '../database/client.ts';
import { addSigningKey, dropSigningKeys, readSigningKeys, type SigningKey } from '../database/secrets.ts';

const WHAT = 'variant-links';
/** Milliseconds after which keys are read again. */
const FRESH = 60_000;
/** Seconds until a new key signs: by then every instance has read it. */
const LEAD = 600;
/** Seconds for which an address can be good: earlier versions rounded its expiry up to the hour. */
const LONGEST_LIFE = MAX_LINK + 3600;

export interface KeyRing {
  /** Signs. */
  current: Buffer;
  /** Of which each may have signed, newest first. */
  accepted: Buffer[];
}

export class VariantKeys {
  readonly #database: Executor;
  readonly #onError: (message: string, error: unknown) => void;
  readonly #now: () => number;
  #keys: readonly SigningKey[] | undefined;
  #readAt = 0;
  #reading: Promise<void> | undefined;

  /** @param now milliseconds since 1970 */
  constructor(database: Executor, onError: (message: string, error: unknown) => void, now: () => number = Date.now) {
    this.#database = database;
    this.#onError = onError;
    this.#now = now;
  }

  /** Waits for the database the first time only; then keys are read again beside the request that finds them old. */
  async ring(): Promise<KeyRing> {
    if (this.#now() - this.#readAt > FRESH) this.#reading ??= this.#read();
    if (this.#keys === undefined) await this.#reading;
    return ringOf(this.#keys ?? [], Math.floor(this.#now() / 1000));
  }

  async #read(): Promise<void> {
    try {
      this.#keys = await readSigningKeys(this.#database, WHAT);
      this.#readAt = this.#now();
    } catch (error) {
      if (this.#keys === undefined) throw error;
      this.#onError('the keys of addresses of variants could not be read again', error);
    } finally {
      this.#reading = undefined;
    }
  }
}

/** @param keys newest first @param now seconds since 1970 */
export function ringOf(keys: readonly SigningKey[], now: number): KeyRing {
  const signing = keys.findIndex(({ since }) => since <= now);
  const current = keys[signing];
  if (!current) throw new Error('no key of addresses of variants is in force yet');
  return {
    current: current.value,
    accepted: keys.filter((key) => !hasEnded(key, keys, now)).map(({ value }) => value),
  };
}

/** Whether every address that it has signed has ended: it is that long ago that a newer one took over. */
function hasEnded(key: SigningKey, keys: readonly SigningKey[], now: number): boolean {
  return keys.some(({ since }) => since > key.since && since + LONGEST_LIFE <= now);
}

/**
 * Makes a new key, and removes those of which every address has ended.
 * @param atOnce for a key that somebody else knows: all others are removed, and with them all addresses there are
 * @returns when the new key signs
 */
export async function rotateKeys(
  { transact }: Pick<DatabaseHandle, 'transact'>,
  { atOnce }: { atOnce: boolean },
  now = Math.floor(Date.now() / 1000),
): Promise<Date> {
  // At once means from the beginning: clocks differ, and there is no other key.
  const since = atOnce ? 0 : now + LEAD;
  await transact(async (transaction) => {
    const keys = await readSigningKeys(transaction, WHAT);
    if (!atOnce && keys.some((key) => key.since > now))
      throw new Error('a new key was made a moment ago: wait until it signs');
    await dropSigningKeys(transaction, WHAT, atOnce ? keys : keys.filter((key) => hasEnded(key, keys, now)));
    await addSigningKey(transaction, WHAT, { since, value: randomBytes(32) });
  });
  return new Date((atOnce ? now : since) * 1000);
}
