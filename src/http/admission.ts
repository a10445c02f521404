/**
 * Places for uploads or downloads: so many in the process, so many per caller, and no caller takes one more when it has more
 * than are left; so a few callers never fill all places, and whoever has none finds one at once. Who finds none waits, and is
 * served by how many places its caller has already, then in order of arrival. Who waits too long is refused. Nothing is read from the client meanwhile, so waiting costs a socket and no
 * memory.
 */
import { Problem } from '../problems.ts';
import type { SlowClients } from './slow-clients.ts';

/** Who waits for each place; whoever comes then is refused at once. */
const QUEUE_FACTOR = 16;
/** While somebody waits, how often it is looked for clients that dawdle. Milliseconds. */
const LOOK_EVERY = 250;

interface Waiter {
  callerId: string;
  grant(): void;
  refuse(): void;
}

export interface AdmissionLimits {
  total: number;
  perCaller: number;
  /** Milliseconds. */
  wait: number;
}

export interface AdmissionOptions extends AdmissionLimits {
  /** What the places are for, as refusals say it. */
  what?: 'uploads' | 'downloads' | 'variants' | 'passwords';
  /** How many may wait; so many for each place when absent. */
  queue?: number;
  /** Those who have a place and may lose it to others. */
  slowClients?: SlowClients;
}

export class Admission {
  readonly #limits: AdmissionOptions;
  readonly #byCaller = new Map<string, number>();
  readonly #waiters = new Set<Waiter>();
  #active = 0;
  #leftAt = Number.NEGATIVE_INFINITY;
  #looking: NodeJS.Timeout | undefined;

  constructor(limits: AdmissionOptions) {
    this.#limits = limits;
  }

  /** Those that have a place. */
  get active(): number {
    return this.#active;
  }

  /** Milliseconds for which nobody has had a place; 0 while somebody has one. */
  get idleFor(): number {
    return this.#active > 0 ? 0 : performance.now() - this.#leftAt;
  }

  /** Those that wait for a place. */
  get waiting(): number {
    return this.#waiters.size;
  }

  /**
   * Waits for a place.
   * @returns how to leave it, to be called once
   * @throws Problem `too-many-uploads`, `too-many-downloads` or `overloaded`, with Retry-After; the signal's reason when it is aborted
   */
  async enter(callerId: string, signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    if (!this.#hasPlace(callerId)) await this.#wait(callerId, signal);
    else this.#occupy(callerId);
    return () => this.#leave(callerId);
  }

  #hasPlace(callerId: string): boolean {
    return this.#active < this.#limits.total && this.#mayHaveOneMore(callerId);
  }

  #mayHaveOneMore(callerId: string): boolean {
    const { total, perCaller } = this.#limits;
    const has = this.#ofCaller(callerId);
    return has < perCaller && has <= total - this.#active;
  }

  #ofCaller(callerId: string): number {
    return this.#byCaller.get(callerId) ?? 0;
  }

  #occupy(callerId: string): void {
    this.#active += 1;
    this.#byCaller.set(callerId, this.#ofCaller(callerId) + 1);
  }

  #wait(callerId: string, signal: AbortSignal): Promise<void> {
    this.#makeRoom(callerId);
    return new Promise((resolve, reject) => {
      const settled = () => {
        clearTimeout(timer);
        signal.removeEventListener('abort', onAbort);
        this.#waiters.delete(waiter);
        if (this.#waiters.size === 0) this.#stopLooking();
      };
      const onAbort = () => {
        settled();
        reject(signal.reason);
      };
      const refuse = () => {
        settled();
        reject(this.#refusal(callerId));
      };
      const timer = setTimeout(refuse, this.#limits.wait);
      const waiter: Waiter = {
        callerId,
        grant: () => {
          settled();
          resolve();
        },
        refuse,
      };
      signal.addEventListener('abort', onAbort, { once: true });
      this.#waiters.add(waiter);
      this.#look();
    });
  }

  /** When the queue is full, whoever has most in it gives up its last turn; that may be the one who comes. */
  #makeRoom(callerId: string): void {
    const { total, queue = total * QUEUE_FACTOR } = this.#limits;
    if (this.#waiters.size < queue) return;
    const byCaller = Map.groupBy(this.#waiters, (waiter) => waiter.callerId);
    const [longest] = [...byCaller.values()].sort((a, b) => b.length - a.length);
    if (!longest || longest.length <= (byCaller.get(callerId)?.length ?? 0) + 1) throw this.#refusal(callerId);
    longest.at(-1)?.refuse();
  }

  #leave(callerId: string): void {
    this.#active -= 1;
    this.#leftAt = performance.now();
    const left = this.#ofCaller(callerId) - 1;
    if (left > 0) this.#byCaller.set(callerId, left);
    else this.#byCaller.delete(callerId);
    for (let next = this.#next(); next && this.#active < this.#limits.total; next = this.#next()) {
      this.#occupy(next.callerId);
      next.grant();
    }
  }

  /** Of those whose caller may have one more place, the first of the callers that have fewest. */
  #next(): Waiter | undefined {
    let next: Waiter | undefined;
    for (const waiter of this.#waiters) {
      if (!this.#mayHaveOneMore(waiter.callerId)) continue;
      if (!next || this.#ofCaller(waiter.callerId) < this.#ofCaller(next.callerId)) next = waiter;
    }
    return next;
  }

  /** Somebody waits for what others hold and do not use. */
  #look(): void {
    const { slowClients } = this.#limits;
    if (!slowClients) return;
    this.#looking ??= setInterval(() => this.#look(), LOOK_EVERY).unref();
    const next = this.#next();
    if (next) slowClients.endOne(next.callerId);
  }

  #stopLooking(): void {
    clearInterval(this.#looking);
    this.#looking = undefined;
  }

  #refusal(callerId: string): Problem {
    const { wait, perCaller, what = 'uploads' } = this.#limits;
    const retryAfter = Math.max(1, wait / 1000);
    // Variants are counted for the owner of the picture, who need not be the one that asks; passwords are looked at in turn.
    if (what !== 'variants' && what !== 'passwords' && this.#ofCaller(callerId) >= perCaller) {
      return new Problem(`too-many-${what}`, {
        detail: `At most ${perCaller} ${what} of one caller go on at once. Wait for one to end.`,
        retryAfter,
      });
    }
    return new Problem('overloaded', { detail: `Too many ${what} are going on. Try again later.`, retryAfter });
  }
}
