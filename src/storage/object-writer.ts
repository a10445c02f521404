/**
 * Writes one object of unknown length from a stream of chunks, through part buffers.
 *
 * The bytes are copied into a buffer. If the stream ends within the first buffer, the object is written by a single
 * `put`. Otherwise a full buffer becomes a part and travels to the store while the next one fills; a bounded number is
 * under way at once, and when none is free, `write` waits, and so does the client. Nothing is visible in the store
 * before `finish`, and after `abandon` nothing is left.
 *
 * There is no upload manager of the SDK here: it copies what it is given (twice the part size at the moment a part is
 * cut), does not say when a buffer is free again, and answers a lost CompleteMultipartUpload by aborting. Our budget
 * needs the second and our promises the third.
 */
import {
  NoSuchUpload,
  type ObjectAttributes,
  type ObjectStore,
  ObjectStoreUnavailable,
  type UploadedPart,
} from './object-store.ts';
import type { PartBuffer, PartBuffers } from './part-buffers.ts';

export interface ObjectWriterOptions {
  store: ObjectStore;
  buffers: PartBuffers;
  key: string;
  partsInFlight: number;
  /** Asked for once, when the object is begun in the store. */
  attributes: () => ObjectAttributes;
  /**
   * Awaited before anything is sent, and before the object is made whole, with the number of bytes that the object then
   * has at least.
   */
  beforeSending: (bytes: number) => Promise<void>;
}

/** What `abandon` knows: nothing of the object is left, or something may be and its key must be kept to look again. */
export type Abandoned = 'nothing-left' | 'unsure';

export class ObjectWriter {
  readonly #options: ObjectWriterOptions;
  readonly #stop = new AbortController();
  #current: PartBuffer | undefined;
  #filled = 0;
  #sent = 0;
  #atMost = Number.POSITIVE_INFINITY;
  #touchedStore = false;
  #uploadId: string | undefined;
  #parts: Promise<UploadedPart>[] = [];
  #underWay = 0;
  #unlink: () => void = () => {};
  /** Takes over the next buffer whose part has arrived. */
  #handOver: ((buffer: PartBuffer) => void) | undefined;
  #failure: unknown;

  constructor(options: ObjectWriterOptions) {
    this.#options = options;
  }

  /**
   * Waits for the first buffer.
   * @param atMost bytes the object can have; Infinity when nothing is known of it
   * @param wait milliseconds
   * @param signal stops the writer until `finish` is called; from then on it goes through
   * @throws NoBufferFree
   */
  async open(atMost: number, wait: number, signal: AbortSignal): Promise<void> {
    this.#atMost = atMost;
    const onAbort = () => this.#stop.abort(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    this.#unlink = () => signal.removeEventListener('abort', onAbort);
    this.#current = await this.#options.buffers.acquire(Math.min(atMost, this.#options.buffers.partSize), wait, signal);
  }

  /** Bytes written so far. */
  get length(): number {
    return this.#sent + this.#filled;
  }

  /** The first bytes, as long as they are in memory: until the first part was sent. */
  get head(): Buffer {
    return this.#current && this.#sent === 0 ? this.#current.memory.subarray(0, this.#filled) : Buffer.alloc(0);
  }

  /** Copies the chunk; the caller keeps it. Waits when no buffer is free. */
  async write(chunk: Buffer): Promise<void> {
    let rest = chunk;
    while (rest.length > 0) {
      if (this.#failure !== undefined) throw this.#failure;
      let buffer = this.#owned();
      if (this.#filled === buffer.memory.length) {
        await this.#sendPart();
        buffer = this.#owned();
      }
      const copied = rest.copy(buffer.memory, this.#filled);
      this.#filled += copied;
      rest = rest.subarray(copied);
    }
  }

  /**
   * Sends what is left and makes the object whole. A lost answer is settled by looking.
   * @param sha256 of the whole object
   * @throws ObjectStoreUnavailable when the object was not made, or nobody knows
   */
  async finish(sha256: Buffer): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    this.#unlink();
    if (this.#uploadId === undefined) await this.#putWhole(sha256);
    else await this.#completeParts(this.#uploadId);
    this.#release();
  }

  /**
   * Whether the store holds the object. The key is ours alone, so an object of the right size is the one we sent.
   * @throws ObjectStoreUnavailable
   */
  async isWhole(): Promise<boolean> {
    const { store, key } = this.#options;
    return (await store.head(key, {}))?.size === this.length;
  }

  /**
   * Stops everything under way and gives the memory back. Never throws.
   * @returns whether something may have been stored
   */
  async stop(): Promise<boolean> {
    this.#unlink();
    this.#stop.abort(new ObjectStoreUnavailable('the upload was abandoned'));
    await Promise.allSettled(this.#parts);
    this.#release();
    return this.#touchedStore;
  }

  /**
   * Stops, and removes what was stored. Only when nobody can refer to the object any more: whoever keeps the record ends
   * it first. Never throws.
   */
  async abandon(): Promise<Abandoned> {
    if (!(await this.stop())) return 'nothing-left';
    const { store, key } = this.#options;
    try {
      // The answer to CreateMultipartUpload may have been lost: then only the store knows the upload id.
      const uploadIds = this.#uploadId === undefined ? await store.listMultipartUploads(key, {}) : [this.#uploadId];
      for (const uploadId of uploadIds) await store.abortMultipartUpload(key, uploadId, {});
      await store.delete(key, {});
      // A request without an answer may still be on its way to the store, so one look is not proof.
      return this.#uploadId === undefined ? 'unsure' : 'nothing-left';
    } catch {
      return 'unsure';
    }
  }

  /** Gives the memory back and leaves the store as it is. */
  close(): void {
    this.#unlink();
    this.#release();
  }

  #owned(): PartBuffer {
    if (!this.#current) throw new Error('the writer is not open');
    return this.#current;
  }

  async #sendPart(): Promise<void> {
    const { store, key, attributes, beforeSending, buffers } = this.#options;
    const buffer = this.#owned();
    const size = this.#filled;
    await beforeSending(this.#sent + size);
    if (this.#uploadId === undefined) {
      this.#touchedStore = true;
      this.#uploadId = await store.createMultipartUpload(key, attributes(), {
        partSize: buffers.partSize,
        signal: this.#stop.signal,
      });
    }
    const address = { key, uploadId: this.#uploadId, partNumber: this.#parts.length + 1 };
    this.#current = undefined;
    this.#filled = 0;
    this.#sent += size;
    this.#underWay += 1;
    const part = store.uploadPart(address, buffer.memory.subarray(0, size), { signal: this.#stop.signal });
    this.#parts.push(part);
    part.then(
      () => this.#arrived(buffer),
      (error) => {
        this.#failure ??= error;
        this.#arrived(buffer);
      },
    );
    this.#current = await this.#nextBuffer();
    if (this.#failure !== undefined) throw this.#failure;
  }

  #arrived(buffer: PartBuffer): void {
    this.#underWay -= 1;
    const handOver = this.#handOver;
    this.#handOver = undefined;
    if (handOver) handOver(buffer);
    else buffer.release();
  }

  /** A free buffer of the pool, else that of the first own part to arrive: there always is one under way. */
  async #nextBuffer(): Promise<PartBuffer> {
    const { buffers, partsInFlight } = this.#options;
    const free = this.#underWay < partsInFlight ? buffers.tryAcquire(this.#atMost - this.#sent) : undefined;
    return (
      free ??
      new Promise((resolve) => {
        this.#handOver = resolve;
      })
    );
  }

  async #putWhole(sha256: Buffer): Promise<void> {
    const { store, key, attributes, beforeSending } = this.#options;
    const body = this.#owned().memory.subarray(0, this.#filled);
    await beforeSending(body.length);
    this.#touchedStore = true;
    try {
      await store.put(key, body, attributes(), { sha256, signal: this.#stop.signal });
    } catch (error) {
      await this.#requireWhole(error);
    }
  }

  async #completeParts(uploadId: string): Promise<void> {
    const { store, key, beforeSending } = this.#options;
    await beforeSending(this.length);
    if (this.#filled > 0) this.#sendLastPart(uploadId);
    const parts = await Promise.all(this.#parts);
    try {
      await store.completeMultipartUpload(key, uploadId, parts, { signal: this.#stop.signal });
    } catch (error) {
      if (!(error instanceof NoSuchUpload || error instanceof ObjectStoreUnavailable)) throw error;
      await this.#requireWhole(error);
    }
  }

  #sendLastPart(uploadId: string): void {
    const { store, key } = this.#options;
    const size = this.#filled;
    this.#sent += size;
    this.#filled = 0;
    const address = { key, uploadId, partNumber: this.#parts.length + 1 };
    this.#parts.push(store.uploadPart(address, this.#owned().memory.subarray(0, size), { signal: this.#stop.signal }));
  }

  /** The store did not confirm: look. */
  async #requireWhole(cause: unknown): Promise<void> {
    let whole: boolean;
    try {
      whole = await this.isWhole();
    } catch {
      throw new OutcomeUnknown('nobody knows whether the object was made', { cause });
    }
    if (!whole) throw new ObjectStoreUnavailable('the object was not made', { cause });
  }

  #release(): void {
    this.#current?.release();
    this.#current = undefined;
  }
}

/** The store may hold the whole object or not: nothing may be undone before somebody looked (promise 4). */
export class OutcomeUnknown extends ObjectStoreUnavailable {
  override name = 'OutcomeUnknown';
}
