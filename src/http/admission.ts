/**
 * Places for uploads: so many in the process, so many per caller. Who finds none waits its turn, in order of arrival
 * but past callers whose own places are all taken, and is refused after a while. Nothing is read from the client
 * meanwhile, so a waiting upload costs a socket and no memory.
 */
import { Problem } from '../problems.ts';

/** Waiting uploads per place; whoever comes then is refused at once. */
const QUEUE_FACTOR = 16;

interface Waiter {
  callerId: string;
  grant(): void;
}

export interface AdmissionLimits {
  total: number;
  perCaller: number;
  /** Milliseconds. */
  wait: number;
}

export class Admission {
  readonly #limits: AdmissionLimits;
  readonly #byCaller = new Map<string, number>();
  readonly #waiters = new Set<Waiter>();
  #active = 0;

  constructor(limits: AdmissionLimits) {
    this.#limits = limits;
  }

  /** Uploads that have a place. */
  get active(): number {
    return this.#active;
  }

  /**
   * Waits for a place.
   * @returns how to leave it, to be called once
   * @throws Problem `too-many-uploads` or `overloaded`, both with Retry-After; the signal's reason when it is aborted
   */
  async enter(callerId: string, signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    if (!this.#hasPlace(callerId)) await this.#wait(callerId, signal);
    else this.#occupy(callerId);
    return () => this.#leave(callerId);
  }

  #hasPlace(callerId: string): boolean {
    return this.#active < this.#limits.total && this.#ofCaller(callerId) < this.#limits.perCaller;
  }

  #ofCaller(callerId: string): number {
    return this.#byCaller.get(callerId) ?? 0;
  }

  #occupy(callerId: string): void {
    this.#active += 1;
    this.#byCaller.set(callerId, this.#ofCaller(callerId) + 1);
  }

  #wait(callerId: string, signal: AbortSignal): Promise<void> {
    if (this.#waiters.size >= this.#limits.total * QUEUE_FACTOR) throw this.#refusal(callerId);
    return new Promise((resolve, reject) => {
      const settled = () => {
        clearTimeout(timer);
        signal.removeEventListener('abort', onAbort);
        this.#waiters.delete(waiter);
      };
      const onAbort = () => {
        settled();
        reject(signal.reason);
      };
      const timer = setTimeout(() => {
        settled();
        reject(this.#refusal(callerId));
      }, this.#limits.wait);
      const waiter = {
        callerId,
        grant: () => {
          settled();
          resolve();
        },
      };
      signal.addEventListener('abort', onAbort, { once: true });
      this.#waiters.add(waiter);
    });
  }

  #leave(callerId: string): void {
    this.#active -= 1;
    const left = this.#ofCaller(callerId) - 1;
    if (left > 0) this.#byCaller.set(callerId, left);
    else this.#byCaller.delete(callerId);
    for (const waiter of this.#waiters) {
      if (this.#active >= this.#limits.total) return;
      if (!this.#hasPlace(waiter.callerId)) continue;
      this.#occupy(waiter.callerId);
      waiter.grant();
    }
  }

  #refusal(callerId: string): Problem {
    const retryAfter = Math.max(1, this.#limits.wait / 1000);
    if (this.#ofCaller(callerId) >= this.#limits.perCaller) {
      return new Problem('too-many-uploads', {
        detail: `At most ${this.#limits.perCaller} uploads of one caller go on at once. Wait for one to end.`,
        retryAfter,
      });
    }
    return new Problem('overloaded', { detail: 'Too many uploads are going on. Try again later.', retryAfter });
  }
}
