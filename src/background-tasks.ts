/** What the service has to do after it has answered, and that needs no job: it is about what this process holds. */
import { setTimeout as delay } from 'node:timers/promises';

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 10_000;
/** How long a task is tried again, as while the database is away. Milliseconds. */
const PATIENCE = 10 * 60_000;

export class BackgroundTasks {
  readonly #running = new Set<Promise<void>>();
  readonly #closing = new AbortController();
  readonly #onError: (message: string, error: unknown) => void;

  constructor(onError: (message: string, error: unknown) => void) {
    this.#onError = onError;
  }

  /**
   * Tries until it works, the service stops, or ten minutes have passed. Something else must stand behind it, such as a
   * lease that ends.
   * @param name for the log, such as `ending an upload`
   */
  persist(work: () => Promise<void>, name: string): void {
    const trying = this.#tryOn(work, name).finally(() => this.#running.delete(trying));
    this.#running.add(trying);
  }

  /** Waits for what is under way, at most `patience` milliseconds; then nothing is tried again. */
  async close(patience: number): Promise<void> {
    await Promise.race([Promise.allSettled(this.#running), delay(patience, undefined, { ref: false })]);
    this.#closing.abort();
  }

  async #tryOn(work: () => Promise<void>, name: string): Promise<void> {
    const deadline = performance.now() + PATIENCE;
    for (let pause = FIRST_PAUSE; performance.now() < deadline; pause = Math.min(LONGEST_PAUSE, 2 * pause)) {
      try {
        await delay(pause, undefined, { signal: this.#closing.signal });
        await work();
        return;
      } catch (error) {
        if (this.#closing.signal.aborted) break;
        this.#onError(`${name} failed and is tried again`, error);
      }
    }
    this.#onError(`${name} was given up`, undefined);
  }
}
