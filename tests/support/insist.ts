import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import type { Answer } from './client.ts';

const TRIES = 50;
/** Milliseconds. A client would wait as long as it is told to; a test does not have the time. */
const LONGEST_PAUSE = 500;

/**
 * Sends a request again for as long as the answer is to come later, as a busy machine may give at any time: 429, 503, or
 * 409 while the one before is still running. What must happen only once goes under an Idempotency-Key.
 */
export async function insist<Body>(send: () => Promise<Answer<Body>>): Promise<Answer<Body>> {
  for (let attempt = 1; ; attempt++) {
    const answer = await send();
    const retryAfter = answer.headers.get('retry-after') ?? '';
    if (answer.status === 429 || answer.status === 503)
      assert.match(retryAfter, /^\d+$/, `${answer.status} without Retry-After`);
    if (![409, 429, 503].includes(answer.status) || retryAfter === '' || attempt === TRIES) return answer;
    await delay(Math.min(LONGEST_PAUSE, Number(retryAfter) * 1000));
  }
}
