/**
 * The memory of all uploads: part buffers from one budget for the whole process (promise 7).
 *
 * The rule that keeps it free of deadlock: an upload waits only for its *first* buffer, while it holds none. With one
 * buffer it can always go on: fill it, send it, fill it again. More buffers, which let it receive one part while others
 * are on their way, it takes only when they are free at once (`tryAcquire`). So nobody who holds memory ever waits for
 * memory.
 *
 * Who waits is served in order of arrival; a small request does not overtake a large one, or the large one might
 * starve. Buffers are kept and used again, so that a busy service neither allocates nor leaves the garbage collector
 * large blocks to find: with 1 MiB files that took a third of the processor time. So that they fit again, they come in
 * few sizes.
 */
import { free } from './chunks.ts';

/** Sizes are multiples of this, and from eight of it on, of a fourth of the next lower power of two. */
const GRANULE = 4096;
/** Kept buffers are dropped when nothing was given back for this long. Milliseconds. */
const IDLE_BEFORE_TRIM = 10_000;

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
  bytes: number;
  grant(): void;
}

export class PartBuffers {
  /** Bytes of all buffers together. */
  readonly budget: number;
  /** Bytes of the usual buffer of a part. An upload that began with larger parts, under other settings, gets larger ones. */
  readonly partSize: number;
  readonly #waiters = new Set<Waiter>();
  /** Kept buffers by size. */
  readonly #spare = new Map<number, Buffer[]>();
  #spareBytes = 0;
  #inUse = 0;
  #trim: NodeJS.Timeout | undefined;

  /**
   * @param budget bytes of all buffers together, at least `partSize`
   * @param partSize bytes of the buffer of a part
   */
  constructor(budget: number, partSize: number) {
    if (budget < partSize) throw new RangeError('the budget must hold at least one part');
    this.budget = budget;
    this.partSize = partSize;
  }

  /** Bytes that are out. */
  get inUse(): number {
    return this.#inUse;
  }

  /** Bytes that are out, or kept to be used again. */
  get allocated(): number {
    return this.#inUse + this.#spareBytes;
  }

  /** Whether uploads are waiting for memory; then those that hold it must move faster. */
  get contended(): boolean {
    return this.#waiters.size > 0;
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
    const bytes = this.#rounded(capacity);
    if (this.#waiters.size > 0 || this.#inUse + bytes > this.budget) return undefined;
    this.#inUse += bytes;
    return this.#bufferOf(bytes);
  }

  /** Counts the bytes as in use, once it is this one's turn and they are free. */
  async #claim(bytes: number, wait: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (this.#waiters.size === 0 && this.#inUse + bytes <= this.budget) {
      this.#inUse += bytes;
      return;
    }
    await new Promise<void>((resolve, reject) => {
      const leave = (reason: unknown) => {
        this.#waiters.delete(waiter);
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
      };
      const waiter: Waiter = {
        bytes,
        grant: () => {
          settled();
          resolve();
        },
      };
      signal.addEventListener('abort', onAbort, { once: true });
      this.#waiters.add(waiter);
    });
  }

  #rounded(capacity: number): number {
    if (capacity > this.budget) throw new RangeError('no buffer can be larger than the budget');
    if (capacity > this.partSize) return capacity;
    const granules = Math.ceil(capacity / GRANULE);
    const step = 2 ** Math.max(0, Math.floor(Math.log2(granules)) - 2);
    return Math.min(this.partSize, Math.max(1, Math.ceil(granules / step) * step) * GRANULE);
  }

  /** A buffer of bytes that are claimed. */
  #bufferOf(bytes: number): PartBuffer {
    const memory = this.#kept(bytes) ?? Buffer.allocUnsafeSlow(bytes);
    this.#dropSurplus();
    return {
      memory,
      release: once(() => {
        this.#keep(memory);
        this.#giveBack(bytes);
      }),
    };
  }

  #giveBack(bytes: number): void {
    this.#inUse -= bytes;
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
    for (const waiter of this.#waiters) {
      if (this.#inUse + waiter.bytes > this.budget) return;
      this.#waiters.delete(waiter);
      this.#inUse += waiter.bytes;
      waiter.grant();
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
