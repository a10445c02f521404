/**
 * How fast refusals of those who ask too much (429) are told. Whoever heeds Retry-After is refused a few times and hears of
 * it at once. Whoever asks again at once, in a loop, would keep the process as busy with refusing as with serving; so what
 * comes after the first refusals is told no faster than so many a second, and no later than after the longest pause.
 * An answer that waits holds its connection, which whoever sends could hold anyway, and a few KiB.
 */
import type { ServerResponse } from 'node:http';
import { LRUCache } from 'lru-cache';

/** Refusals that are told at once. */
const AT_ONCE = 20;
/** Milliseconds from one to the next, after these. */
const INTERVAL = 100;
/** Milliseconds. More who loop at once are refused once in this time each. */
const LONGEST = 5000;
/** Answers of all that wait: each holds about 20 KiB. */
const MAX_WAITING = 1000;
/** Callers and addresses that are remembered; then the one that was not heard of for longest is forgotten. */
const MAX_KEYS = 10_000;

export class RefusalPace {
  readonly #now: () => number;
  /** When the next refusal is told, had none been told at once. */
  readonly #next = new LRUCache<string, number>({ max: MAX_KEYS });
  readonly #waiting = new Set<() => void>();
  #hasEnded = false;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** Those that wait to be told. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /** @returns milliseconds until this refusal is told */
  delay(key: string): number {
    const now = this.#now();
    const next = Math.max(this.#next.get(key) ?? Number.NEGATIVE_INFINITY, now - AT_ONCE * INTERVAL) + INTERVAL;
    this.#next.set(key, Math.min(next, now + LONGEST));
    return Math.min(Math.max(0, next - now), LONGEST);
  }

  /**
   * Waits until this refusal is told, or its client has gone.
   * @returns undefined when it is told now; then the connection should close, where others wait in great number
   */
  wait(key: string, response: ServerResponse): Promise<void> | undefined {
    const milliseconds = this.delay(key);
    if (milliseconds === 0 || this.#hasEnded) return undefined;
    if (this.#waiting.size >= MAX_WAITING) {
      // Who asks again has to connect first.
      response.shouldKeepAlive = false;
      return undefined;
    }
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer);
        response.off('close', end);
        this.#waiting.delete(end);
        resolve();
      };
      const timer = setTimeout(end, milliseconds);
      response.once('close', end);
      this.#waiting.add(end);
    });
  }

  /** Tells all that wait: the process ends. */
  end(): void {
    this.#hasEnded = true;
    for (const tell of this.#waiting) tell();
  }
}
