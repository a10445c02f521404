/** Places for scans: no more of them run at once than clamd has threads for. */

interface Waiting {
  enter(): void;
}

/**
 * Scans of jobs wait as long as it takes. They leave a place free, where there is more than one: large files take minutes,
 * and who waits for the answer to an upload must not wait for them.
 */
export class ScanPlaces {
  readonly #total: number;
  readonly #jobs: number;
  #active = 0;
  #activeJobs = 0;
  readonly #waitingJobs: Waiting[] = [];
  readonly #waitingUploads: Waiting[] = [];

  constructor(total: number) {
    this.#total = total;
    this.#jobs = Math.max(1, total - 1);
  }

  get active(): number {
    return this.#active;
  }

  get waiting(): number {
    return this.#waitingJobs.length + this.#waitingUploads.length;
  }

  /** @param signal ends the waiting @returns what gives the place back @throws the signal's reason */
  async forJob(signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    if (this.#active >= this.#total || this.#activeJobs >= this.#jobs) await this.#wait(this.#waitingJobs, signal);
    else this.#enterJob();
    return this.#leaving(() => {
      this.#activeJobs -= 1;
    });
  }

  /** @param wait milliseconds @returns what gives the place back; undefined when none was free in time */
  async forUpload(wait: number): Promise<(() => void) | undefined> {
    if (this.#active < this.#total) this.#active += 1;
    else {
      try {
        await this.#wait(this.#waitingUploads, AbortSignal.timeout(wait));
      } catch {
        return undefined;
      }
    }
    return this.#leaving(() => {});
  }

  #enterJob(): void {
    this.#active += 1;
    this.#activeJobs += 1;
  }

  #wait(queue: Waiting[], signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const waiting = {
        enter: () => {
          signal.removeEventListener('abort', onAbort);
          if (queue === this.#waitingJobs) this.#enterJob();
          else this.#active += 1;
          resolve();
        },
      };
      const onAbort = () => {
        queue.splice(queue.indexOf(waiting), 1);
        reject(signal.reason);
      };
      signal.addEventListener('abort', onAbort, { once: true });
      queue.push(waiting);
    });
  }

  #leaving(more: () => void): () => void {
    let left = false;
    return () => {
      if (left) return;
      left = true;
      this.#active -= 1;
      more();
      this.#next();
    };
  }

  #next(): void {
    while (this.#active < this.#total) {
      const next =
        this.#waitingUploads.shift() ?? (this.#activeJobs < this.#jobs ? this.#waitingJobs.shift() : undefined);
      if (!next) return;
      next.enter();
    }
  }
}
