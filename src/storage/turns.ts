/**
 * Shares a turn of the event loop among those who have much to do in it. A turn reads from every socket that has bytes
 * waiting, up to 2 MiB from each, and what is read is hashed at once: with sixteen uploads somebody who asks for a
 * record would wait until 32 MiB are hashed. Uploads that began together also fill their parts together, and each part is
 * summed up (CRC32) and written to its socket at one go. Here a turn takes so many bytes, and who comes later waits for
 * the next one, in order of arrival.
 */

/** About a millisecond and a half of hashing. */
const BYTES_PER_TURN = 1024 * 1024;

interface Waiter {
  bytes: number;
  resolve: () => void;
}

export class Turns {
  readonly #bytesPerTurn: number;
  readonly #waiters: Waiter[] = [];
  #taken = 0;
  #isScheduled = false;

  /** @param bytesPerTurn what is worked on before others have their turn */
  constructor(bytesPerTurn = BYTES_PER_TURN) {
    this.#bytesPerTurn = bytesPerTurn;
  }

  /**
   * Before `bytes` are worked on.
   * @returns nothing when this turn has room for them, else what is fulfilled in the turn that has
   */
  take(bytes: number): Promise<void> | undefined {
    this.#schedule();
    if (this.#waiters.length === 0 && this.#taken < this.#bytesPerTurn) {
      this.#taken += bytes;
      return undefined;
    }
    return new Promise((resolve) => this.#waiters.push({ bytes, resolve }));
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      this.#taken = 0;
      while (this.#taken < this.#bytesPerTurn) {
        const waiter = this.#waiters.shift();
        if (!waiter) return;
        this.#taken += waiter.bytes;
        waiter.resolve();
      }
      this.#schedule();
    });
  }
}

/** Of this process, which has one event loop. */
export const turns = new Turns();
