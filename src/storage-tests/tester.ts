/** Runs storage tests: one at a time over all instances, and with a pause between them in each. */
import type { DatabaseHandle } from '../database/client.ts';
import { exclusively } from '../database/exclusively.ts';
import { type ProbeResult, probeStorage } from '../doctor/storage-probe.ts';
import { Problem } from '../problems.ts';
import { storageTestRunning } from './problems.ts';
import type { TestedStore } from './stores.ts';

const LOCK = 7_083_201_993;
/** Milliseconds: a test writes 5 MiB, and costs requests. */
const PAUSE = 5000;
/** Seconds after which one that runs has ended. */
const RETRY_AFTER = 10;

export class StorageTester {
  readonly #database: DatabaseHandle;
  #isRunning = false;
  #endedAt = Number.NEGATIVE_INFINITY;

  /** @param database one connection of it holds the lock, as that of the reconciler does; requests have others */
  constructor(database: DatabaseHandle) {
    this.#database = database;
  }

  /** @throws Problem storage-test-running; too-many-requests */
  async test({ store, prefix }: TestedStore): Promise<ProbeResult> {
    const wait = this.#endedAt + PAUSE - performance.now();
    if (wait > 0)
      throw new Problem('too-many-requests', {
        detail: `A store was tested a moment ago. Test again after ${PAUSE / 1000} seconds.`,
        retryAfter: wait / 1000,
      });
    // Before anybody else is asked: those who wait for a connection are no tests that run.
    if (this.#isRunning) throw running();
    this.#isRunning = true;
    try {
      const result = await exclusively(this.#database.pool, LOCK, (signal) => probeStorage(store, prefix, signal));
      if (result === 'busy') throw running();
      this.#endedAt = performance.now();
      return result;
    } finally {
      this.#isRunning = false;
    }
  }
}

function running(): Problem {
  return new Problem(storageTestRunning, {
    detail: 'One storage test runs at a time. Wait until it has ended.',
    retryAfter: RETRY_AFTER,
  });
}
