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
  grant(buffer: PartBuffer): void;
}

export class PartBuffers {
  readonly #budget: number;
  readonly partSize: number;
  readonly #waiters = new Set<Waiter>();
  /** Kept buffers by size. */
  readonly #spare = new Map<number, Buffer[]>();
  #spareBytes = 0;
  #inUse = 0;
  #trim: NodeJS.Timeout | undefined;

  /**
   * @param budget bytes of all buffers together, at least `partSize`
   * @param partSize bytes of the largest buffer
   */
  constructor(budget: number, partSize: number) {
    if (budget < partSize) throw new RangeError('the budget must hold at least one part');
    this.#budget = budget;
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
   * @param capacity bytes, at most `partSize`
   * @param wait milliseconds
   * @throws NoBufferFree after `wait`; the signal's reason when it is aborted
   */
  async acquire(capacity: number, wait: number, signal: AbortSignal): Promise<PartBuffer> {
    signal.throwIfAborted();
    const bytes = this.#rounded(capacity);
    if (this.#waiters.size === 0 && this.#inUse + bytes <= this.#budget) return this.#take(bytes);
    return new Promise((resolve, reject) => {
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
        grant: (buffer) => {
          settled();
          resolve(buffer);
        },
      };
      signal.addEventListener('abort', onAbort, { once: true });
      this.#waiters.add(waiter);
    });
  }

  /** One more buffer, if it is free at once and nobody is waiting. */
  tryAcquire(capacity: number): PartBuffer | undefined {
    const bytes = this.#rounded(capacity);
    if (this.#waiters.size > 0 || this.#inUse + bytes > this.#budget) return undefined;
    return this.#take(bytes);
  }

  #rounded(capacity: number): number {
    const granules = Math.ceil(Math.min(capacity, this.partSize) / GRANULE);
    const step = 2 ** Math.max(0, Math.floor(Math.log2(granules)) - 2);
    return Math.min(this.partSize, Math.max(1, Math.ceil(granules / step) * step) * GRANULE);
  }

  #take(bytes: number): PartBuffer {
    this.#inUse += bytes;
    const memory = this.#kept(bytes) ?? Buffer.allocUnsafeSlow(bytes);
    // What is kept counts as free, so what is in use and what is kept must together stay within the budget; but for one
    // part, or each small buffer would throw a large one away.
    while (this.#spareBytes > 0 && this.#inUse + this.#spareBytes > this.#budget + this.partSize) this.#dropLargest();
    let out = true;
    return {
      memory,
      release: () => {
        if (!out) return;
        out = false;
        this.#inUse -= bytes;
        this.#keep(memory);
        this.#serve();
        this.#scheduleTrim();
      },
    };
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
    this.#kept(largest);
  }

  #serve(): void {
    for (const waiter of this.#waiters) {
      if (this.#inUse + waiter.bytes > this.#budget) return;
      this.#waiters.delete(waiter);
      waiter.grant(this.#take(waiter.bytes));
    }
  }

  #scheduleTrim(): void {
    // Pushed back by every release.
    if (this.#trim) {
      this.#trim.refresh();
      return;
    }
    this.#trim = setTimeout(() => {
      this.#spare.clear();
      this.#spareBytes = 0;
    }, IDLE_BEFORE_TRIM).unref();
  }
}
