import { setTimeout as delay } from 'node:timers/promises';
import { type Backoff, pauseAfter } from '../backoff.ts';
import { isConflict, isDatabaseUnavailable } from './client.ts';

/** Between tries of a statement. */
export const statementBackoff: Backoff = { first: 100, max: 2000 };

/**
 * Runs a statement again after a lost connection, a deadlock or a serialization failure, with growing pauses, until
 * `patience` milliseconds are over. Only for statements that may be repeated: the first answer may have been lost after
 * the statement took effect.
 */
export async function retryStatement<Result>(
  patience: number,
  statement: (attempt: number) => Promise<Result>,
  signal?: AbortSignal,
): Promise<Result> {
  const deadline = performance.now() + patience;
  for (let attempt = 1; ; attempt++) {
    try {
      return await statement(attempt);
    } catch (error) {
      const pause = pauseAfter(attempt, statementBackoff);
      if (!isRepeatable(error) || performance.now() + pause > deadline) throw error;
      await delay(pause, undefined, { signal, ref: true });
    }
  }
}

function isRepeatable(error: unknown): boolean {
  return isDatabaseUnavailable(error) || isConflict(error);
}
