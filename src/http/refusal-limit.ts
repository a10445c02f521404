/**
 * Refusals of callers whom nobody knows (401, 404, 405, a URL that cannot be read) are counted by address. Where there
 * are too many, 429 is the answer before any token is verified. Who is known already is not touched, so one who shares
 * the address of an attacker, behind a gateway or a proxy that is not trusted, goes on; and a few tokens are still
 * looked at, so that somebody new gets in as well.
 */
import { isIPv6 } from 'node:net';
import { LRUCache } from 'lru-cache';
import { Problem } from '../problems.ts';

const WINDOW = 60_000;
/** Addresses that are remembered; then the one that was not heard of for longest is forgotten. */
const MAX_ADDRESSES = 10_000;
/** Of the limit, how much more is looked at within the window once it is reached. */
const BEYOND = 0.25;

interface Count {
  refusals: number;
  /** Tokens that were looked at although the limit was reached. */
  looks: number;
  endsAt: number;
}

export class RefusalLimit {
  readonly #perMinute: number;
  readonly #now: () => number;
  readonly #counts = new LRUCache<string, Count>({ max: MAX_ADDRESSES });

  /** @param perMinute of an address; 0 for no limit */
  constructor(perMinute: number, now: () => number = () => performance.now()) {
    this.#perMinute = perMinute;
    this.#now = now;
  }

  /** A refusal that costs nothing but its answer. @throws Problem too-many-requests instead of it */
  count(address: string): void {
    const count = this.#countOf(address);
    if (this.#isOver(count)) throw this.#tooMany(count);
    count.refusals += 1;
  }

  /**
   * Looks whether a caller is who he says.
   * @throws Problem too-many-requests without looking; whatever `look` throws, which is counted when it is a 401
   */
  async guard<Result>(address: string, look: () => Promise<Result>): Promise<Result> {
    const count = this.#countOf(address);
    if (this.#isOver(count)) {
      if (count.looks >= this.#perMinute * BEYOND) throw this.#tooMany(count);
      count.looks += 1;
    }
    try {
      return await look();
    } catch (error) {
      if (error instanceof Problem && error.status === 401) count.refusals += 1;
      throw error;
    }
  }

  #isOver({ refusals }: Count): boolean {
    return this.#perMinute > 0 && refusals >= this.#perMinute;
  }

  #countOf(address: string): Count {
    const key = networkOf(address);
    const found = this.#counts.get(key);
    if (found && found.endsAt > this.#now()) return found;
    const fresh = { refusals: 0, looks: 0, endsAt: this.#now() + WINDOW };
    this.#counts.set(key, fresh);
    return fresh;
  }

  #tooMany({ endsAt }: Count): Problem {
    return new Problem('too-many-requests', {
      detail: `More than ${this.#perMinute} requests a minute from this address were refused. Slow down.`,
      retryAfter: (endsAt - this.#now()) / 1000,
    });
  }
}

/** Whoever has one address of IPv6 has the 2^64 of its network (RFC 6177). */
export function networkOf(address: string): string {
  if (!isIPv6(address) || address.startsWith('::ffff:')) return address;
  const [head = '', tail] = address.split('::');
  const groups = head.split(':');
  if (tail !== undefined) while (groups.length < 4) groups.push('0');
  return groups.slice(0, 4).join(':');
}
