/**
 * The memory of all uploads: part buffers from one budget for the whole process (promise 7).
 *
 * The rule that keeps it free of deadlock: an upload waits only for its *first* buffer, while it holds none. With one
 * buffer it can always go on: fill it, send it, fill it again. More buffers, which let it receive one part while others
 * are on their way, it takes only when they are free at once (`tryAcquire`). So nobody who holds memory ever waits for
 * memory.
 *
 * Who waits is served in order of arrival; a small request does not overtake a large one, or the large one might
 * starve. But one caller has half of the budget at most, so whoever waits because of that bound is passed over; and while
 * somebody waits for memory of others, these are looked at: see slow-clients.ts. Buffers are kept and used again, so that a busy service neither allocates nor leaves the garbage collector
 * large blocks to find: with 1 MiB files that took a third of the processor time. So that they fit again, they come in
 * few sizes.
 */
import { free } from './chunks.ts';

/** Sizes are multiples of this, and from eight of it on, of a fourth of the next lower power of two. */
const GRANULE = 4096;
/** Kept buffers are dropped when nothing was given back for this long. Milliseconds. */
const IDLE_BEFORE_TRIM = 10_000;
/** While somebody waits, how often those are told of it who can free memory. Milliseconds. */
const TELL_EVERY = 250;

export interface PartBuffer {
  /** `capacity` bytes of memory that nobody else uses until `release`. Not cleared. */
  readonly memory: Buffer;
  /** Gives the memory back. Idempotent. */
  release(): void;
}

/** No buffer was free within the time the upload was willing to wait. */
export class NoBufferFree extends Error {
  override name = 'NoBufferFree';
}

interface Waiter {
  /** Absent for what the service does itself. */
  callerId: string | undefined;
  bytes: number;
  grant(): void;
}

/** Where the uploads of one caller take their buffers. */
export interface CallerBuffers {
  /** Bytes of all buffers together. */
  readonly budget: number;
  /** Bytes of the usual buffer of a part. */
  readonly partSize: number;
  acquire(capacity: number, wait: number, signal: AbortSignal): Promise<PartBuffer>;
  tryAcquire(capacity: number): PartBuffer | undefined;
}

export class PartBuffers {
  /** Bytes of all buffers together. */
  readonly budget: number;
  /** Bytes of the usual buffer of a part. An upload that began with larger parts, under other settings, gets larger ones. */
  readonly partSize: number;
  readonly #onContention: (callerId: string) => void;
  readonly #waiters = new Set<Waiter>();
  /** Bytes that are out, by caller. */
  readonly #byCaller = new Map<string, number>();
  /** Kept buffers by size. */
  readonly #spare = new Map<number, Buffer[]>();
  #spareBytes = 0;
  #inUse = 0;
  #trim: NodeJS.Timeout | undefined;
  #telling: NodeJS.Timeout | undefined;

  /**
   * @param budget bytes of all buffers together, at least `partSize`
   * @param partSize bytes of the usual buffer of a part
   * @param onContention told who waits for memory, again and again while he does
   */
  constructor(budget: number, partSize: number, onContention: (callerId: string) => void = () => {}) {
    if (budget < partSize) throw new RangeError('the budget must hold at least one part');
    this.budget = budget;
    this.partSize = partSize;
    this.#onContention = onContention;
  }

  /**
   * The buffers as one caller may take them: one, and more as long as it has no more than is left. So one caller has at
   * most half of the budget, a few callers leave some of it, and whoever has none finds memory at once.
   */
  of(callerId: string): CallerBuffers {
    return {
      budget: this.budget,
      partSize: this.partSize,
      acquire: async (capacity, wait, signal) => {
        const bytes = this.#rounded(capacity);
        await this.#claim(bytes, wait, signal, callerId);
        return this.#bufferOf(bytes, callerId);
      },
      tryAcquire: (capacity) => this.#tryAcquire(capacity, callerId),
    };
  }

  /** Bytes that are out. */
  get inUse(): number {
    return this.#inUse;
  }

  /** Bytes that are out, or kept to be used again. */
  get allocated(): number {
    return this.#inUse + this.#spareBytes;
  }

  /**
   * The first buffer of an upload. Waits its turn.
   * @param capacity bytes, at most `budget`
   * @param wait milliseconds
   * @throws NoBufferFree after `wait`; the signal's reason when it is aborted
   */
  async acquire(capacity: number, wait: number, signal: AbortSignal): Promise<PartBuffer> {
    const bytes = this.#rounded(capacity);
    await this.#claim(bytes, wait, signal);
    return this.#bufferOf(bytes);
  }

  /**
   * Takes memory out of the budget that somebody else allocates: a library that makes its own copies. Waits its turn like
   * `acquire`, so only who holds no memory may ask. More than the whole budget is the whole budget.
   * @param wait milliseconds
   * @returns gives the memory back; idempotent
   * @throws NoBufferFree after `wait`; the signal's reason when it is aborted
   */
  async reserve(bytes: number, wait: number, signal: AbortSignal): Promise<() => void> {
    const claimed = Math.min(bytes, this.budget);
    await this.#claim(claimed, wait, signal);
    this.#dropSurplus();
    return once(() => this.#giveBack(claimed));
  }

  /** One more buffer, if it is free at once and nobody is waiting. */
  tryAcquire(capacity: number): PartBuffer | undefined {
    return this.#tryAcquire(capacity, undefined);
  }

  #tryAcquire(capacity: number, callerId: string | undefined): PartBuffer | undefined {
    const bytes = this.#rounded(capacity);
    if (!this.#isFree(bytes, callerId)) return undefined;
    this.#take(bytes, callerId);
    return this.#bufferOf(bytes, callerId);
  }

  /** Free at once, with nobody waiting for it. */
  #isFree(bytes: number, callerId: string | undefined): boolean {
    return !this.#firstWaiter() && this.#inUse + bytes <= this.budget && this.#mayHave(bytes, callerId);
  }

  #mayHave(bytes: number, callerId: string | undefined): boolean {
    if (callerId === undefined) return true;
    const has = this.#byCaller.get(callerId) ?? 0;
    return has === 0 || has + bytes <= this.budget - this.#inUse;
  }

  /** Of those that wait for others, and not because of their own bound. */
  #firstWaiter(): Waiter | undefined {
    for (const waiter of this.#waiters) if (this.#mayHave(waiter.bytes, waiter.callerId)) return waiter;
    return undefined;
  }

  #take(bytes: number, callerId: string | undefined): void {
    this.#inUse += bytes;
    if (callerId !== undefined) this.#byCaller.set(callerId, (this.#byCaller.get(callerId) ?? 0) + bytes);
  }

  /** Counts the bytes as in use, once it is this one's turn and they are free. */
  async #claim(bytes: number, wait: number, signal: AbortSignal, callerId?: string): Promise<void> {
    signal.throwIfAborted();
    if (this.#isFree(bytes, callerId)) {
      this.#take(bytes, callerId);
      return;
    }
    await new Promise<void>((resolve, reject) => {
      const leave = (reason: unknown) => {
        settled();
        reject(reason);
        // The one behind may need less than this one did.
        this.#serve();
      };
      const onAbort = () => leave(signal.reason);
      const timer = setTimeout(() => leave(new NoBufferFree('no part buffer became free in time')), wait);
      const settled = () => {
        clearTimeout(timer);
        signal.removeEventListener('abort', onAbort);
        this.#waiters.delete(waiter);
        if (this.#waiters.size === 0) this.#stopTelling();
      };
      const waiter: Waiter = {
        callerId,
        bytes,
        grant: () => {
          settled();
          resolve();
        },
      };
      signal.addEventListener('abort', onAbort, { once: true });
      this.#waiters.add(waiter);
      this.#tell();
    });
  }

  #tell(): void {
    this.#telling ??= setInterval(() => this.#tell(), TELL_EVERY).unref();
    const first = this.#firstWaiter();
    if (first) this.#onContention(first.callerId ?? '');
  }

  #stopTelling(): void {
    clearInterval(this.#telling);
    this.#telling = undefined;
  }

  #rounded(capacity: number): number {
    if (capacity > this.budget) throw new RangeError('no buffer can be larger than the budget');
    if (capacity > this.partSize) return capacity;
    const granules = Math.ceil(capacity / GRANULE);
    const step = 2 ** Math.max(0, Math.floor(Math.log2(granules)) - 2);
    return Math.min(this.partSize, Math.max(1, Math.ceil(granules / step) * step) * GRANULE);
  }

  /** A buffer of bytes that are claimed. */
  #bufferOf(bytes: number, callerId?: string): PartBuffer {
    const memory = this.#kept(bytes) ?? Buffer.allocUnsafeSlow(bytes);
    this.#dropSurplus();
    return {
      memory,
      release: once(() => {
        this.#keep(memory);
        this.#giveBack(bytes, callerId);
      }),
    };
  }

  #giveBack(bytes: number, callerId?: string): void {
    this.#inUse -= bytes;
    if (callerId !== undefined) {
      const left = (this.#byCaller.get(callerId) ?? 0) - bytes;
      if (left > 0) this.#byCaller.set(callerId, left);
      else this.#byCaller.delete(callerId);
    }
    this.#serve();
    this.#scheduleTrim();
  }

  /**
   * What is kept counts as free, so what is in use and what is kept must together stay within the budget; but for one
   * part, or each small buffer would throw a large one away.
   */
  #dropSurplus(): void {
    while (this.#spareBytes > 0 && this.#inUse + this.#spareBytes > this.budget + this.partSize) this.#dropLargest();
  }

  #keep(memory: Buffer): void {
    const same = this.#spare.get(memory.length);
    if (same) same.push(memory);
    else this.#spare.set(memory.length, [memory]);
    this.#spareBytes += memory.length;
  }

  #kept(bytes: number): Buffer | undefined {
    const memory = this.#spare.get(bytes)?.pop();
    if (memory) this.#spareBytes -= bytes;
    return memory;
  }

  #dropLargest(): void {
    let largest = 0;
    for (const [bytes, kept] of this.#spare) if (kept.length > 0) largest = Math.max(largest, bytes);
    const dropped = this.#kept(largest);
    if (dropped) free(dropped);
  }

  #serve(): void {
    for (let first = this.#firstWaiter(); first; first = this.#firstWaiter()) {
      if (this.#inUse + first.bytes > this.budget) return;
      this.#take(first.bytes, first.callerId);
      first.grant();
    }
  }

  #scheduleTrim(): void {
    // Put off by every release.
    clearTimeout(this.#trim);
    this.#trim = setTimeout(() => {
      // A process at rest collects no garbage, so what is only dropped would stay.
      for (const kept of this.#spare.values()) kept.forEach(free);
      this.#spare.clear();
      this.#spareBytes = 0;
    }, IDLE_BEFORE_TRIM).unref();
  }
}

/** The same, which does nothing from the second call on. */
function once(work: () => void): () => void {
  let done = false;
  return () => {
    if (done) return;
    done = true;
    work();
  };
}
