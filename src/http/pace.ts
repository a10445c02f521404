/**
 * Whether somebody moves bytes at a lowest rate, over time and not from look to look: a balance in bytes that waiting for
 * them uses up at that rate, and that each byte they move fills again. Who is waited for in vain runs out of it after the
 * grace time, and no more than that is ever saved up, however much was moved before.
 */
export interface PaceOptions {
  /** Bytes per second. */
  rate: number;
  /** Milliseconds of waiting in vain that are allowed at any time. */
  grace: number;
}

export class Pace {
  readonly #rate: number;
  readonly #most: number;
  #balance: number;

  constructor({ rate, grace }: PaceOptions) {
    this.#rate = rate;
    this.#balance = (rate * grace) / 1000;
    this.#most = this.#balance;
  }

  /** They were waited for. @param milliseconds */
  waited(milliseconds: number): void {
    this.#balance -= (this.#rate * milliseconds) / 1000;
  }

  moved(bytes: number): void {
    this.#balance = Math.min(this.#most, this.#balance + bytes);
  }

  /** Bytes by which they are ahead of the rate; 0 or less when they are too slow. */
  get balance(): number {
    return this.#balance;
  }
}
