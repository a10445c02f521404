/**
 * Reads a client's stream chunk by chunk and ends it when it is too slow. Only the time spent waiting for the client
 * counts: while the store or the memory is the bottleneck, the client cannot be blamed. So an honest slow upload of a
 * large file lives, and a socket that sends a byte now and then does not. Only bytes of the file count: what frames them
 * (sizes and extensions of chunks, trailers, boundaries) may come as it likes.
 */
import { Pace } from '../http/pace.ts';
import { CONTENDED_RATE, type SlowClients } from '../http/slow-clients.ts';
import { Problem } from '../problems.ts';
import { turns } from '../storage/turns.ts';

/** While others wait: how long nothing may come. Milliseconds. */
const CONTENDED_GRACE = 3000;

export interface MeterOptions {
  /** Bytes per second; 0 for no limit. */
  minimumRate: number;
  /** Milliseconds of waiting over which the rate is measured. */
  window: number;
  /** Ends the reading with its reason. */
  signal: AbortSignal;
  /** What is read is worked on at once, so it waits for a turn of the event loop. */
  takesTurns: boolean;
  /** Whoever dawdles while others wait for what it holds is ended too. */
  contention?: { callerId: string; slowClients: SlowClients };
}

export async function* metered(
  source: AsyncIterable<Buffer>,
  { minimumRate, window, signal, takesTurns, contention }: MeterOptions,
): AsyncGenerator<Buffer> {
  signal.throwIfAborted();
  const iterator = source[Symbol.asyncIterator]();
  const contended = new Pace({ rate: CONTENDED_RATE, grace: CONTENDED_GRACE });
  let waited = 0;
  let received = 0;
  let waitingSince: number | undefined;
  let fail: ((reason: unknown) => void) | undefined;

  /** Counts the time up to now. */
  const pass = () => {
    if (waitingSince === undefined) return;
    const now = performance.now();
    waited += now - waitingSince;
    contended.waited(now - waitingSince);
    waitingSince = now;
  };
  const check = () => {
    pass();
    if (waited < window) return;
    if (received < (minimumRate * waited) / 1000) fail?.(tooSlow(minimumRate));
    waited = 0;
    received = 0;
  };
  const onAbort = () => fail?.(signal.reason);
  const timer = setInterval(check, Math.max(50, Math.min(1000, window / 4)));
  signal.addEventListener('abort', onAbort, { once: true });
  const forget = contention?.slowClients.add({
    callerId: contention.callerId,
    balance: () => {
      pass();
      // While it does not wait for the client, nothing can be gained by ending it.
      return waitingSince === undefined ? Number.POSITIVE_INFINITY : contended.balance;
    },
    end: () => fail?.(tooSlowForOthers()),
  });
  try {
    for (;;) {
      waitingSince = performance.now();
      const result = await new Promise<IteratorResult<Buffer>>((resolve, reject) => {
        fail = reject;
        if (signal.aborted) reject(signal.reason);
        iterator.next().then(resolve, reject);
      });
      pass();
      waitingSince = undefined;
      if (result.done) return;
      received += result.value.length;
      contended.moved(result.value.length);
      // The client does not wait here: what it has sent meanwhile is read by the next turn.
      const turn = takesTurns ? turns.take(result.value.length) : undefined;
      if (turn) await turn;
      yield result.value;
    }
  } finally {
    clearInterval(timer);
    forget?.();
    signal.removeEventListener('abort', onAbort);
  }
}

function tooSlow(rate: number): Problem {
  return new Problem('request-timeout', {
    detail: `The body came at less than ${rate} bytes per second. Send it again over a faster connection.`,
    retryAfter: 1,
  });
}

function tooSlowForOthers(): Problem {
  return new Problem('request-timeout', {
    detail: `The service is busy, and the body came at less than ${CONTENDED_RATE} bytes per second. Send it again later.`,
    retryAfter: 5,
  });
}

/** The body ended before the file did. */
export function incompleteBody(): Problem {
  return new Problem('incomplete-body', { detail: 'The body ended before the file did. Send it again.' });
}
