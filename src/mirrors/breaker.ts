/** Pauses what works with a mirror that does not work: longer after each failure, and over as soon as something succeeds. */
import { type Backoff, pauseAfter } from '../backoff.ts';

/** Milliseconds. */
const backoff: Backoff = { first: 1000, max: 60_000 };

export class Breaker {
  #failures = 0;
  #until = 0;

  /** Whether the last that was tried has failed: then one at a time tries. */
  get isOpen(): boolean {
    return this.#failures > 0;
  }

  /** Milliseconds before anything is tried again. */
  get pause(): number {
    return Math.max(0, this.#until - performance.now());
  }

  /** @returns false when it is paused already: those that are under way together fail together */
  failed(): boolean {
    if (this.pause > 0) return false;
    this.#failures += 1;
    this.#until = performance.now() + pauseAfter(this.#failures, backoff);
    return true;
  }

  /** @returns whether it had failed before */
  worked(): boolean {
    const wasOpen = this.isOpen;
    this.#failures = 0;
    this.#until = 0;
    return wasOpen;
  }
}
