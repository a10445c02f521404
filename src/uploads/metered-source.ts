/**
 * Reads a client's stream chunk by chunk and ends it when it is too slow. Only the time spent waiting for the client
 * counts: while the store or the memory is the bottleneck, the client cannot be blamed. So an honest slow upload of a
 * large file lives, and a socket that sends a byte now and then does not.
 */
import { Problem } from '../problems.ts';
import { turns } from './turns.ts';

export interface MeterOptions {
  /** Bytes per second; 0 for no limit. */
  minimumRate: () => number;
  /** Milliseconds of waiting over which the rate is measured. */
  window: number;
  /** Ends the reading with its reason. */
  signal: AbortSignal;
}

export async function* metered(
  source: AsyncIterable<Buffer>,
  { minimumRate, window, signal }: MeterOptions,
): AsyncGenerator<Buffer> {
  signal.throwIfAborted();
  const iterator = source[Symbol.asyncIterator]();
  let waited = 0;
  let received = 0;
  let waitingSince: number | undefined;
  let fail: ((reason: unknown) => void) | undefined;

  const check = () => {
    const now = performance.now();
    const total = waited + (waitingSince === undefined ? 0 : now - waitingSince);
    if (total < window) return;
    const rate = minimumRate();
    if (received < (rate * total) / 1000) fail?.(tooSlow(rate));
    waited = 0;
    received = 0;
    if (waitingSince !== undefined) waitingSince = now;
  };
  const onAbort = () => fail?.(signal.reason);
  const timer = setInterval(check, Math.max(50, Math.min(1000, window / 4)));
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    for (;;) {
      waitingSince = performance.now();
      const result = await new Promise<IteratorResult<Buffer>>((resolve, reject) => {
        fail = reject;
        if (signal.aborted) reject(signal.reason);
        iterator.next().then(resolve, reject);
      });
      waited += performance.now() - waitingSince;
      waitingSince = undefined;
      if (result.done) return;
      received += result.value.length;
      // The client does not wait here: what it has sent meanwhile is read by the next turn.
      await turns.take(result.value.length);
      yield result.value;
    }
  } finally {
    clearInterval(timer);
    signal.removeEventListener('abort', onAbort);
  }
}

function tooSlow(rate: number): Problem {
  return new Problem('request-timeout', {
    detail: `The body came at less than ${rate} bytes per second. Send it again over a faster connection.`,
    retryAfter: 1,
  });
}

/** The body ended before the file did. */
export function incompleteBody(): Problem {
  return new Problem('incomplete-body', { detail: 'The body ended before the file did. Send it again.' });
}
