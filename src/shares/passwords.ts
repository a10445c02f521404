/**
 * Passwords of shares, kept by scrypt (RFC 7914). One takes 16 MiB and about a tenth of a second of a processor, so two are
 * looked at at once in a process, and those who wait are served in turn by address: 32 MiB at most, whoever asks. One that was
 * right is remembered for ten minutes, for programs that send it with every range of a download.
 */
import { createHash, createHmac, randomBytes, scrypt, timingSafeEqual } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import { Admission } from '../http/admission.ts';

/** OWASP, Password Storage Cheat Sheet: N=2^14, r=8, p=5 is as hard as the other pairs of memory and time that it names. */
const COST = { N: 2 ** 14, r: 8, p: 5, maxmem: 32 * 1024 * 1024 };
/** First byte of what is kept: raise it when the cost changes, and keep those before. */
const VERSION = 1;
const SALT_BYTES = 16;
const HASH_BYTES = 32;
const AT_ONCE = 2;
/** Milliseconds until somebody who waits for his turn is refused, and how many may wait: each costs a socket. */
const WAIT = 10_000;
const MAX_WAITING = 64;
/** Milliseconds, and passwords. */
const REMEMBERED_FOR = 10 * 60_000;
const MAX_REMEMBERED = 2000;

/** Bytes: scrypt takes any number, but nobody types more. */
export const MAX_PASSWORD = 256;

export class Passwords {
  readonly #admission = new Admission({
    what: 'passwords',
    total: AT_ONCE,
    perCaller: AT_ONCE,
    wait: WAIT,
    queue: MAX_WAITING,
  });
  readonly #right = new LRUCache<string, true>({ max: MAX_REMEMBERED, ttl: REMEMBERED_FOR });
  /** What is remembered is no password, not even as a digest that can be tried elsewhere. */
  readonly #secret = randomBytes(32);

  /** @throws Problem overloaded */
  async hash(password: string, who: string, signal: AbortSignal): Promise<Buffer> {
    const salt = randomBytes(SALT_BYTES);
    return Buffer.concat([Buffer.of(VERSION), salt, await this.#derive(password, salt, who, signal)]);
  }

  /** Whether it was right a moment ago; costs nothing. */
  recall(kept: Buffer, password: string): boolean {
    return this.#right.has(this.#nameOf(kept, password));
  }

  /** @throws Problem overloaded */
  async matches(kept: Buffer, password: string, who: string, signal: AbortSignal): Promise<boolean> {
    const salt = kept.subarray(1, 1 + SALT_BYTES);
    const hash = await this.#derive(password, salt, who, signal);
    const isRight = kept[0] === VERSION && timingSafeEqual(hash, kept.subarray(1 + SALT_BYTES));
    if (isRight) this.#right.set(this.#nameOf(kept, password), true);
    return isRight;
  }

  async #derive(password: string, salt: Buffer, who: string, signal: AbortSignal): Promise<Buffer> {
    const leave = await this.#admission.enter(who, signal);
    try {
      return await new Promise((resolve, reject) =>
        scrypt(password.normalize('NFC'), salt, HASH_BYTES, COST, (error, hash) =>
          error ? reject(error) : resolve(hash),
        ),
      );
    } finally {
      leave();
    }
  }

  #nameOf(kept: Buffer, password: string): string {
    return createHmac('sha256', this.#secret).update(kept).update(password.normalize('NFC')).digest('base64');
  }
}

/** Stands for a password without telling anything of it: what was signed for another one is worth nothing. */
export function markOf(kept: Buffer): string {
  return createHash('sha256').update(kept).digest('base64url');
}
