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
        // A whole batch that failed is left to the next look, or this would go round and round.
        if (records.length === BATCH && failed.length < BATCH) this.#again = true;
      } catch (error) {
        this.#options.onError(error);
      }
    }
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
