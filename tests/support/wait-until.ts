import { setTimeout as delay } from 'node:timers/promises';

/**
 * Resolves with the first truthy answer of `condition`, which is asked every 10 ms. Rejects when `timeout` milliseconds
 * have passed without one. An error thrown by `condition` counts as "not yet" and becomes the cause of the rejection.
 */
export async function waitUntil<Answer>(
  condition: () => Answer | Promise<Answer>,
  { timeout = 10_000 }: { timeout?: number } = {},
): Promise<Answer> {
  const deadline = performance.now() + timeout;
  let cause: unknown;
  do {
    try {
      const answer = await condition();
      if (answer) return answer;
      cause = undefined;
    } catch (error) {
      cause = error;
    }
    await delay(10);
  } while (performance.now() < deadline);
  throw new Error(`Condition not met within ${timeout} ms: ${condition}`, { cause });
}
