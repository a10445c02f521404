/**
 * Requests for a resumable upload cost the same whether they bring a byte or a gigabyte. A file may come in any number of
 * them, so those that bring something are not counted; those that bring little or nothing are, per caller and process, as
 * other requests are (http/rate-limit.ts).
 */
import { LRUCache } from 'lru-cache';
import { Problem } from '../problems.ts';

/** Bytes that a request must bring to cost nothing. */
export const ENOUGH = 64 * 1024;
/** Requests. Bytes that turn out to be damaged may have had a whole tail read and a part sent. */
const PENALTY = 50;
/** Requests that may come at once, at least; else the sixth part of what a minute has. */
const MIN_BURST = 20;
/** Of those who came last. */
const MAX_CALLERS = 10_000;
const MINUTE = 60_000;

/** What a caller may still send, at a time. It grows again, by so many a minute. */
interface Allowance {
  requests: number;
  at: number;
}

export class ShortRequests {
  readonly #perMinute: number;
  readonly #burst: number;
  readonly #now: () => number;
  readonly #allowances = new LRUCache<string, Allowance>({ max: MAX_CALLERS });

  /** @param perMinute short requests of one caller; 0 for no limit */
  constructor(perMinute: number, now: () => number = Date.now) {
    this.#perMinute = perMinute;
    this.#burst = Math.min(perMinute, Math.max(MIN_BURST, perMinute / 6));
    this.#now = now;
  }

  /**
   * Counts a request before it is known what it brings.
   * @returns takes it back, because it brought enough
   * @throws Problem too-many-requests
   */
  count(callerId: string): () => void {
    if (this.#perMinute === 0) return () => {};
    const allowance = this.#allowanceOf(callerId);
    if (allowance.requests < 1)
      throw new Problem('too-many-requests', {
        detail: `At most ${this.#perMinute} requests a minute that bring less than ${ENOUGH} bytes. Send larger chunks.`,
        retryAfter: ((1 - allowance.requests) * MINUTE) / this.#perMinute / 1000,
      });
    allowance.requests -= 1;
    return () => {
      allowance.requests += 1;
    };
  }

  /** Counts a request for many: what it made the service do was for nothing. */
  penalize(callerId: string): void {
    if (this.#perMinute > 0) this.#allowanceOf(callerId).requests -= PENALTY;
  }

  #allowanceOf(callerId: string): Allowance {
    const now = this.#now();
    const known = this.#allowances.get(callerId) ?? { requests: this.#burst, at: now };
    known.requests = Math.min(this.#burst, known.requests + ((now - known.at) * this.#perMinute) / MINUTE);
    known.at = now;
    this.#allowances.set(callerId, known);
    return known;
  }
}
