import { setTimeout as delay } from 'node:timers/promises';

/** Milliseconds: the first pause, and the longest, so that waiting does not keep a busy machine busy. */
const FIRST_PAUSE = 10;
const LONGEST_PAUSE = 50;

/**
 * Resolves with the first truthy answer of `condition`, which is asked again and again. Rejects when `timeout` milliseconds
 * have passed without one; a machine that is busy must not reach it. An error thrown by `condition` counts as "not yet"
 * and becomes the cause of the rejection.
 */
export async function waitUntil<Answer>(
  condition: () => Answer | Promise<Answer>,
  { timeout = 120_000 }: { timeout?: number } = {},
): Promise<Answer> {
  const deadline = performance.now() + timeout;
  let cause: unknown;
  for (let pause = FIRST_PAUSE; ; pause = Math.min(LONGEST_PAUSE, pause * 1.1)) {
    try {
      const answer = await condition();
      if (answer) return answer;
      cause = undefined;
    } catch (error) {
      cause = error;
    }
    if (performance.now() >= deadline) break;
    await delay(pause);
  }
  throw new Error(`Condition not met within ${timeout} ms: ${condition}`, { cause });
}
