/**
 * Requests for a resumable upload cost the same whether they bring a byte or a gigabyte. A file may come in any number of
 * them, so those that bring something are not counted; those that bring little or nothing are, per caller and process, as
 * other requests are (http/rate-limit.ts). Those beyond a second's worth wait for their turn, so that many of one caller
 * never are at the database at once, and somebody else's upload is not behind them; only who would wait long is refused.
 */
import { setTimeout } from 'node:timers/promises';
import { LRUCache } from 'lru-cache';
import { Problem } from '../problems.ts';

/** Bytes that a request must bring to cost nothing. */
export const ENOUGH = 64 * 1024;
/** Requests. Bytes that turn out to be damaged may have had a whole tail read and a part sent. */
const PENALTY = 50;
/** Requests that may come at once, at least; else what a second has. Clients that send large chunks have as many at once. */
const MIN_BURST = 50;
/** Who would wait longer is refused. Milliseconds. */
const LONGEST_WAIT = 5000;
/** Of those who came last. */
const MAX_CALLERS = 10_000;
const MINUTE = 60_000;

/** What a caller may still send, at a time: less than nothing while some wait. It grows again, by so many a minute. */
interface Allowance {
  requests: number;
  at: number;
}

export class ShortRequests {
  readonly #perMinute: number;
  readonly #burst: number;
  readonly #now: () => number;
  readonly #sleep: (milliseconds: number, signal: AbortSignal) => Promise<void>;
  readonly #allowances = new LRUCache<string, Allowance>({ max: MAX_CALLERS });

  /** @param perMinute short requests of one caller; 0 for no limit */
  constructor(
    perMinute: number,
    {
      now = () => performance.now(),
      sleep = (milliseconds: number, signal: AbortSignal) => setTimeout(milliseconds, undefined, { signal }),
    } = {},
  ) {
    this.#perMinute = perMinute;
    this.#burst = Math.min(perMinute, Math.max(MIN_BURST, perMinute / 60));
    this.#now = now;
    this.#sleep = sleep;
  }

  /**
   * Counts a request before it is known what it brings, and waits until its turn has come: in order of arrival.
   * @returns takes it back, because it brought enough
   * @throws Problem too-many-requests; the signal's reason when it is aborted
   */
  async admit(callerId: string, signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    if (this.#perMinute === 0) return () => {};
    const allowance = this.#allowanceOf(callerId);
    const takeBack = () => {
      allowance.requests += 1;
    };
    allowance.requests -= 1;
    const wait = (-allowance.requests * MINUTE) / this.#perMinute;
    if (wait > LONGEST_WAIT) {
      takeBack();
      throw this.#tooMany(wait - LONGEST_WAIT);
    }
    if (wait > 0)
      await this.#sleep(wait, signal).catch(() => {
        takeBack();
        throw signal.reason;
      });
    return takeBack;
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

  #tooMany(milliseconds: number): Problem {
    return new Problem('too-many-requests', {
      detail: `At most ${this.#perMinute} requests a minute that bring less than ${ENOUGH} bytes. Send larger chunks.`,
      retryAfter: milliseconds / 1000,
    });
  }
}
