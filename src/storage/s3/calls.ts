/**
 * How a call to the store runs: within its deadline, stopped by the caller's signal, its retries counted, its faults
 * those of the port. There are calls of the SDK's commands and calls by our own requests (`S3Requests`).
 */
import { type CallOptions, ObjectStoreUnavailable } from '../object-store.ts';
import { type S3Options, TRIES } from './client.ts';
import { isDamage, translateFault } from './faults.ts';
import type { S3Request, S3Requests, S3Response } from './s3-requests.ts';

export class S3Calls {
  readonly #requests: S3Requests;
  readonly #options: Pick<S3Options, 'deadline' | 'onRetries'>;

  constructor(requests: S3Requests, options: Pick<S3Options, 'deadline' | 'onRetries'>) {
    this.#requests = requests;
    this.#options = options;
  }

  /** Sends a command of the SDK. @param send must heed the signal that it is given */
  async command<Output>(
    operation: string,
    { signal }: CallOptions,
    send: (signal: AbortSignal) => Promise<Output>,
  ): Promise<Output> {
    signal?.throwIfAborted();
    const deadline = AbortSignal.timeout(this.#options.deadline);
    try {
      const output = await send(signal ? AbortSignal.any([signal, deadline]) : deadline);
      this.#countRetries(operation, output);
      return output;
    } catch (error) {
      this.#countRetries(operation, error);
      signal?.throwIfAborted();
      throw translateFault(operation, error);
    }
  }

  /** Sends a request of our own. The deadline ends with the head of the answer: a body may take its time. */
  async request(operation: string, request: S3Request, { signal }: CallOptions): Promise<S3Response> {
    signal?.throwIfAborted();
    const stop = new AbortController();
    const onAbort = () => stop.abort(signal?.reason);
    signal?.addEventListener('abort', onAbort, { once: true });
    const onDeadline = () => stop.abort(new ObjectStoreUnavailable(`${operation} took too long`));
    const timer = setTimeout(onDeadline, this.#options.deadline);
    try {
      return await this.#requests.send(operation, request, stop.signal);
    } catch (error) {
      signal?.throwIfAborted();
      throw translateFault(operation, error);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    }
  }

  /** For calls that carry bytes: when these arrived as others, which the store noticed, they are sent again. */
  async undamaged<Output>(operation: string, call: () => Promise<Output>): Promise<Output> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await call();
      } catch (error) {
        if (!isDamage(error) || attempt === TRIES) throw error;
        this.#options.onRetries?.(operation, 1);
      }
    }
  }

  #countRetries(operation: string, outcome: unknown): void {
    const metadata = outcome instanceof Object && '$metadata' in outcome ? outcome.$metadata : undefined;
    const attempts = metadata instanceof Object && 'attempts' in metadata ? Number(metadata.attempts) : 1;
    if (attempts > 1) this.#options.onRetries?.(operation, attempts - 1);
  }
}
