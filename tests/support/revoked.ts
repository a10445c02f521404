/** What was revoked, and is tried again and again on several instances. */
import { setTimeout as delay } from 'node:timers/promises';

/** Milliseconds after which nobody may be let in. */
const GRACE = 1000;

/**
 * Call when a revocation was answered. Tries each way in again and again while it is open, so that what is remembered would be
 * kept fresh, and once more when nobody may be let in any more; who is refused does not ask on, for refusals are counted.
 * @returns of those that were let in too late, how many milliseconds after the answer they had begun. It does not depend on
 *   how fast anything is: a request that began too late was judged later still
 */
export async function letInLate<Way>(ways: readonly Way[], isLetIn: (way: Way) => Promise<boolean>): Promise<number[]> {
  const answered = performance.now();
  const late: number[] = [];
  const tryAll = async (way: Way) => {
    for (let begun = 0; begun <= GRACE; ) {
      begun = performance.now() - answered;
      const isOpen = await isLetIn(way);
      if (isOpen && begun > GRACE) late.push(begun);
      if (!isOpen) await delay(Math.max(0, answered + GRACE + 1 - performance.now()));
    }
  };
  await Promise.all(ways.map(tryAll));
  return late;
}
