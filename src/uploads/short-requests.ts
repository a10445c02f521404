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
/** Milliseconds. */
const WINDOW = 60_000;
/** Of those who came last. */
const MAX_CALLERS = 10_000;

interface Window {
  endsAt: number;
  requests: number;
}

export class ShortRequests {
  readonly #perMinute: number;
  readonly #now: () => number;
  readonly #windows = new LRUCache<string, Window>({ max: MAX_CALLERS });

  /** @param perMinute short requests of one caller; 0 for no limit */
  constructor(perMinute: number, now: () => number = Date.now) {
    this.#perMinute = perMinute;
    this.#now = now;
  }

  /**
   * Counts a request before it is known what it brings.
   * @returns takes it back, because it brought enough
   * @throws Problem too-many-requests
   */
  count(callerId: string): () => void {
    if (this.#perMinute === 0) return () => {};
    const now = this.#now();
    const known = this.#windows.get(callerId);
    const window = known && known.endsAt > now ? known : { endsAt: now + WINDOW, requests: 0 };
    if (window !== known) this.#windows.set(callerId, window);
    if (window.requests >= this.#perMinute)
      throw new Problem('too-many-requests', {
        detail: `At most ${this.#perMinute} requests a minute that bring less than ${ENOUGH} bytes. Send larger chunks.`,
        retryAfter: (window.endsAt - now) / 1000,
      });
    window.requests += 1;
    return () => {
      window.requests -= 1;
    };
  }

  /** Counts a request for many: what it made the service do was for nothing. */
  penalize(callerId: string): void {
    const window = this.#windows.get(callerId);
    if (window) window.requests += PENALTY;
  }
}
