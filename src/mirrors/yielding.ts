/**
 * Copies give way to uploads. While this process takes uploads in, its copies go on at a pace that an upload does not notice;
 * when there are none, or the mirror is far behind, they go as fast as they can.
 */
import { setTimeout as delay } from 'node:timers/promises';

/**
 * Bytes per second that are copied while uploads come. A copy that is begun counts for as many, for its requests and statements
 * take as much of the machine: some ten milliseconds of processor time.
 */
const RATE = 1024 * 1024;
/** Milliseconds without an upload after which there are none: between two of the same client there is less. */
const QUIET = 300;
/** How often it is looked whether the uploads have ended, in milliseconds. */
const LOOK = 100;

export interface YieldingOptions {
  /** Milliseconds since the last upload ended; 0 while there is one. */
  idleFor: () => number;
  /** Milliseconds after which a copy waits for nobody any more. */
  patience: number;
}

export class Yielding {
  readonly #options: YieldingOptions;
  /** When what was begun so far will have been at its pace. */
  #free = 0;

  constructor(options: YieldingOptions) {
    this.#options = options;
  }

  /** Before a copy is begun. @throws the signal's reason */
  begin(behindSince: Date, signal: AbortSignal): Promise<void> {
    return this.pass(behindSince, RATE, signal);
  }

  /** Before so many bytes of it are passed on. @throws the signal's reason */
  async pass(behindSince: Date, bytes: number, signal: AbortSignal): Promise<void> {
    if (!this.#mustWait(behindSince)) return;
    const turn = Math.max(performance.now(), this.#free);
    this.#free = turn + (bytes / RATE) * 1000;
    for (let rest = turn - performance.now(); rest > 0; rest = turn - performance.now()) {
      await delay(Math.min(LOOK, rest), undefined, { signal }).catch(() => signal.throwIfAborted());
      if (!this.#mustWait(behindSince)) {
        this.#free = 0;
        return;
      }
    }
  }

  #mustWait(behindSince: Date): boolean {
    const { idleFor, patience } = this.#options;
    return idleFor() < QUIET && Date.now() - behindSince.getTime() < patience;
  }
}
