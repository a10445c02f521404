/** Pauses between tries: they grow, are bounded, and half of each is left to chance, so that many who wait do not come back at once. */

export interface Backoff {
  /** Milliseconds after the first try. */
  first: number;
  /** Milliseconds at most. */
  max: number;
}

/**
 * Milliseconds to wait before the next try.
 * @param attempt the number of the try that failed, from 1
 * @param chance 0 to 1
 */
export function pauseAfter(attempt: number, { first, max }: Backoff, chance = Math.random()): number {
  return Math.min(max, first * 2 ** (attempt - 1)) * (0.5 + chance / 2);
}
