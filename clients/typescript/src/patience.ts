/**
 * When to try again, and when to give up. A try may pass later that had no answer, or was answered 408, 425, 429 or 5xx; so
 * may one that is refused because its own earlier try still runs. Pauses double up to a limit, wait at least as long as
 * Retry-After says, and end when the browser is online again.
 */
import { problemIn, UploadFailed } from './failure.ts';

export interface Backoff {
  /** Milliseconds after the first failure. */
  first: number;
  /** Milliseconds at most. */
  longest: number;
}

export interface PatienceOptions {
  backoff: Backoff;
  /** Milliseconds of failures in a row. */
  patience: number;
  /** Milliseconds a single try can fail in vain. */
  stallTimeout: number;
  signal: AbortSignal;
}

/** What a try came to. `ok` has what was asked for. */
export type Outcome<Data> =
  | { ok: Data }
  | { status: number; body?: unknown; retryAfter?: string | null | undefined; mayPass?: boolean };

const transient = new Set([0, 408, 425, 429]);

export class Patience {
  readonly options: PatienceOptions;
  /** Bytes that have arrived, on whichever connection; in no unit, for it is only compared. */
  #successes = 0;

  constructor(options: PatienceOptions) {
    this.options = options;
  }

  /** Bytes have arrived: whoever waits has all his patience again. */
  succeeded(): void {
    this.#successes += 1;
  }

  /**
   * Asks until the answer is yes, or no for good.
   * @throws UploadFailed; the reason of the signal
   */
  async insist<Data>(ask: () => Promise<Outcome<Data>>, signal = this.options.signal): Promise<Data> {
    const tries = this.begin(signal);
    for (;;) {
      signal.throwIfAborted();
      const outcome = await ask();
      if ('ok' in outcome) return outcome.ok;
      signal.throwIfAborted();
      await tries.failed(outcome);
    }
  }

  /** The tries of one request. */
  begin(signal = this.options.signal): Tries {
    return new Tries(this.options, signal, () => this.#successes);
  }
}

/**
 * Counts the time that failures took. Not the clock: a computer that slept for a night has not tried for a night. A try
 * counts at most its `stallTimeout`, because a slow one that broke off late was not in vain for all its time.
 */
export class Tries {
  readonly #options: PatienceOptions;
  readonly #signal: AbortSignal;
  readonly #successes: () => number;
  #seen: number;
  #failures = 0;
  #spent = 0;
  #began = Date.now();

  constructor(options: PatienceOptions, signal: AbortSignal, successes: () => number) {
    this.#options = options;
    this.#signal = signal;
    this.#successes = successes;
    this.#seen = successes();
  }

  /** Pauses before the next try. @throws UploadFailed when there is none */
  async failed({ status, body, retryAfter, mayPass }: Exclude<Outcome<never>, { ok: never }>): Promise<void> {
    const problem = problemIn(body);
    const isTransient = mayPass ?? (transient.has(status) || status >= 500 || isInProgress(problem?.type));
    // A token that has expired meanwhile is no end of the upload.
    if (!isTransient) throw new UploadFailed(status, problem, { resumable: status === 401 });
    const { patience, stallTimeout } = this.#options;
    if (this.#seen === this.#successes()) this.#spent += Math.min(Math.max(0, Date.now() - this.#began), stallTimeout);
    else this.#spent = 0;
    this.#seen = this.#successes();
    const left = patience - this.#spent;
    const told = milliseconds(retryAfter) ?? 0;
    if (left <= 0 || told > left) throw new UploadFailed(status, problem, { resumable: true });
    const wait = Math.min(left, Math.max(told, this.#backoff()));
    await pause(wait, this.#signal, told === 0);
    this.#spent += wait;
    this.#began = Date.now();
  }

  /** Half of each pause is left to chance, so that many who wait do not come back at once. */
  #backoff(): number {
    const { first, longest } = this.#options.backoff;
    return Math.min(longest, first * 2 ** Math.min(this.#failures++, 30)) * (0.5 + Math.random() / 2);
  }
}

function isInProgress(type: string | undefined): boolean {
  return type === 'urn:stowage:problem:request-in-progress';
}

/** RFC 9110 10.2.3: seconds, or a date. */
function milliseconds(retryAfter: string | null | undefined): number | undefined {
  if (!retryAfter) return undefined;
  if (/^\d+$/.test(retryAfter)) return Number(retryAfter) * 1000;
  const date = Date.parse(retryAfter);
  return Number.isNaN(date) ? undefined : Math.max(0, date - Date.now());
}

/** @param wakes whether the event `online` ends it */
export function pause(duration: number, signal: AbortSignal, wakes = false): Promise<void> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const target = wakes && typeof globalThis.addEventListener === 'function' ? globalThis : undefined;
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', stop);
      target?.removeEventListener('online', wake);
    };
    const wake = () => {
      end();
      resolve();
    };
    const stop = () => {
      end();
      reject(signal.reason);
    };
    const timer = setTimeout(wake, duration);
    signal.addEventListener('abort', stop, { once: true });
    target?.addEventListener('online', wake, { once: true });
  });
}
