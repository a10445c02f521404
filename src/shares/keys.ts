/**
 * The keys from which tokens of shares are derived, and that sign what an unlocked share is opened with. All instances share
 * them. A new key is for shares that are made from then on; a share knows by which one its token was made, so those before
 * it stay as they are.
 *
 * The keys are in the database, beside the digests: whoever reads all of it can build addresses. Whoever reads less, such
 * as a log of statements, a copy of the table of shares or a page of an index, cannot.
 */
import { randomBytes } from 'node:crypto';
import type { DatabaseHandle, Executor } from '../database/client.ts';
import { addSigningKey, readSigningKeys, type SigningKey } from '../database/secrets.ts';

const WHAT = 'share-addresses';
/** Milliseconds after which keys are read again. */
const FRESH = 60_000;
/** Seconds until a new key is used: by then every instance has read it. */
const LEAD = 600;

export class ShareKeys {
  readonly #database: Executor;
  readonly #now: () => number;
  #keys: Promise<readonly SigningKey[]> | undefined;
  #readAt = 0;

  /** @param now milliseconds since 1970 */
  constructor(database: Executor, now: () => number = Date.now) {
    this.#database = database;
    this.#now = now;
  }

  /** The key of what is made now. */
  async current(): Promise<SigningKey> {
    const key = (await this.#read()).find(({ since }) => since * 1000 <= this.#now());
    if (!key) throw new Error('no key of shares is in force yet');
    return key;
  }

  /** The key that was in force when something was made. @returns undefined when it was removed since */
  async since(moment: number): Promise<Buffer | undefined> {
    return (await this.#read()).find(({ since }) => since === moment)?.value;
  }

  /** @returns newest first */
  #read(): Promise<readonly SigningKey[]> {
    if (this.#keys && this.#now() - this.#readAt < FRESH) return this.#keys;
    this.#readAt = this.#now();
    const reading = readSigningKeys(this.#database, WHAT);
    this.#keys = reading;
    reading.catch(() => {
      if (this.#keys === reading) this.#keys = undefined;
    });
    return reading;
  }
}

/** Makes a new key. @returns when it is used */
export async function rotateShareKey(
  { transact }: Pick<DatabaseHandle, 'transact'>,
  now = Math.floor(Date.now() / 1000),
): Promise<Date> {
  const since = now + LEAD;
  await transact(async (transaction) => {
    const keys = await readSigningKeys(transaction, WHAT);
    if (keys.some((key) => key.since > now))
      throw new Error('a new key was made a moment ago: wait until it is in force');
    await addSigningKey(transaction, WHAT, { since, value: randomBytes(32) });
  });
  return new Date(since * 1000);
}
