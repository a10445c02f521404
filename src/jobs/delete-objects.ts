/**
 * Deletes the objects of records in state `deleting`, and then the records. The record comes first (the asset is gone
 * for everybody and its quota is free), the object after; so a crash in between leaves a record to go on from. Deleting
 * what is not there is success, so two instances may work on the same record.
 *
 * It runs after every permanent deletion, at start, and now and then for what failed.
 */
import type { AssetsRepository } from '../assets/assets-repository.ts';
import type { ObjectStore } from '../storage/object-store.ts';

const BATCH = 50;
/** Milliseconds between looks for what failed or what another instance left. */
const INTERVAL = 30_000;
/** After a failure it looks again sooner, and then less and less soon. Milliseconds. */
const FIRST_RETRY = 500;

export interface ObjectDeletionOptions {
  assets: AssetsRepository;
  store: ObjectStore;
  onError: (error: unknown) => void;
}

export class ObjectDeletion {
  readonly #options: ObjectDeletionOptions;
  readonly #stop = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;
  #again = false;
  #retry: NodeJS.Timeout | undefined;
  #retryAfter = FIRST_RETRY;

  constructor(options: ObjectDeletionOptions) {
    this.#options = options;
  }

  start(): void {
    this.#timer = setInterval(() => this.soon(), INTERVAL).unref();
    this.soon();
  }

  /** Works off what is there, in the background. */
  soon(): void {
    this.#again = true;
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
    });
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    clearTimeout(this.#retry);
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    while (this.#again && !this.#stop.signal.aborted) {
      this.#again = false;
      try {
        const records = await this.#options.assets.deleting(BATCH);
        const results = await Promise.allSettled(records.map((record) => this.#delete(record)));
        const failed = results.filter((result) => result.status === 'rejected');
        for (const { reason } of failed) if (!this.#stop.signal.aborted) this.#options.onError(reason);
        this.#retryLater(failed.length > 0);
        // A whole batch that failed is left to the next look, or this would go round and round.
        if (records.length === BATCH && failed.length < BATCH) this.#again = true;
      } catch (error) {
        this.#retryLater(true);
        this.#options.onError(error);
      }
    }
  }

  #retryLater(failed: boolean): void {
    clearTimeout(this.#retry);
    if (!failed) this.#retryAfter = FIRST_RETRY;
    if (!failed || this.#stop.signal.aborted) return;
    this.#retry = setTimeout(() => this.soon(), this.#retryAfter).unref();
    this.#retryAfter = Math.min(INTERVAL, 2 * this.#retryAfter);
  }

  async #delete({ id, objectKey }: { id: string; objectKey: string }): Promise<void> {
    const { assets, store } = this.#options;
    const options = { signal: this.#stop.signal };
    for (const uploadId of await store.listMultipartUploads(objectKey, options))
      await store.abortMultipartUpload(objectKey, uploadId, options);
    await store.delete(objectKey, options);
    await assets.forget(id);
  }
}
