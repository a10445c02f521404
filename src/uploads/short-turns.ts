/**
 * Turns of requests that bring little. Each of them takes as much of the process and of the database as a file does, so all
 * of them together have few places, and each place rests after a turn, for a while that is in proportion to it: who brings
 * files finds most of the machine free, however fast it is and however many ask. Callers take turns, and each has its own
 * in order of arrival. What comes less often than that is not slowed.
 */
import { Problem, RETRY_SOON } from '../problems.ts';

/** Turns at once. */
const PLACES = 2;
/** How long a place rests after a turn, in lengths of that turn, and at most. Milliseconds. */
const REST = 4;
const LONGEST_REST = 100;
/** Who would wait longer is refused. Milliseconds. */
const LONGEST_WAIT = 10_000;

export class ShortTurns {
  /** Who waits, by caller; the caller whose turn it is comes first. */
  readonly #waiting = new Map<string, (() => void)[]>();
  readonly #now: () => number;
  #free = PLACES;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** Does the work when its turn comes. @throws Problem overloaded */
  async run<Result>(callerId: string, work: () => Promise<Result>): Promise<Result> {
    if (this.#free > 0) this.#free -= 1;
    else await this.#turn(callerId);
    const began = this.#now();
    try {
      return await work();
    } finally {
      setTimeout(() => this.#next(), Math.min((this.#now() - began) * REST, LONGEST_REST)).unref();
    }
  }

  #turn(callerId: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const waiters = this.#waiting.get(callerId) ?? [];
      this.#waiting.set(callerId, waiters);
      const turn = () => {
        clearTimeout(timer);
        resolve();
      };
      const timer = setTimeout(() => {
        waiters.splice(waiters.indexOf(turn), 1);
        if (waiters.length === 0) this.#waiting.delete(callerId);
        const detail = 'Too many requests that bring few bytes wait. Send larger chunks, or try again later.';
        reject(new Problem('overloaded', { detail, retryAfter: RETRY_SOON }));
      }, LONGEST_WAIT);
      waiters.push(turn);
    });
  }

  #next(): void {
    for (const [callerId, waiters] of this.#waiting) {
      const turn = waiters.shift();
      // The caller's next one has its turn after those of the others.
      this.#waiting.delete(callerId);
      if (waiters.length > 0) this.#waiting.set(callerId, waiters);
      if (!turn) continue;
      turn();
      return;
    }
    this.#free += 1;
  }
}
