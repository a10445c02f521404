/**
 * Writes one object of unknown length from a stream of chunks, through part buffers. Whatever comes through the service
 * is written by this, at one go or in several.
 *
 * The bytes are copied into a buffer. If they end within the first buffer, the object is written by a single `put`.
 * Otherwise a full buffer becomes a part and travels to the store while the next one fills; a bounded number is under way
 * at once, and when none is free, `write` waits, and so does the client. Nothing is visible in the store before `finish`,
 * and after `abandon` nothing is left.
 *
 * An upload that may go on later has each part reported, in order, and `bytesFrom` gives what fills no part yet. With
 * both, another writer resumes, in another request or process. It reads that tail only when a part is made of it: so a
 * request that brings a byte costs as much as a byte, however long the tail is.
 *
 * There is no upload manager of the SDK here: it copies what it is given (twice the part size at the moment a part is
 * cut), does not say when a buffer is free again, and answers a lost CompleteMultipartUpload by aborting. Our budget
 * needs the second and our promises the third.
 */
import { ObjectStoreUnavailable, type UploadedPart } from './object-store.ts';
import type { PartBuffer } from './part-buffers.ts';
import type { Abandoned, PartWriterOptions, ResumePoint } from './part-writer-options.ts';
import { turns } from './turns.ts';
import { completeObject, isWhole, requireWhole } from './whole-object.ts';

/** What is sent in less than half a millisecond of processor time does not wait for a turn. Bytes. */
const SMALL = 1024 * 1024;

export class PartWriter {
  readonly #options: PartWriterOptions;
  readonly #partSize: number;
  readonly #stop = new AbortController();
  readonly #unlink: () => void;
  #current: PartBuffer | undefined;
  #filled = 0;
  /** What an earlier writer has left, and is not in memory yet; its place at the beginning of the buffer is empty. */
  #unread: ResumePoint['tail'] | undefined;
  /** Bytes at the beginning of the part for which the buffer has no place. */
  #omitted = 0;
  /** Bytes and number of the parts that were sent, now or by an earlier writer. */
  #sent = 0;
  #partNumber = 0;
  #atMost = Number.POSITIVE_INFINITY;
  #touchedStore = false;
  /** A call that makes something under the key was not answered: it may be made yet. */
  #isInDoubt = false;
  #uploadId: string | undefined;
  readonly #parts: Promise<UploadedPart>[] = [];
  /** The part that was reported last, and with it all before. */
  #reported: Promise<void> = Promise.resolve();
  #underWay = 0;
  /** Takes over the next buffer whose part has arrived. */
  #handOver: ((buffer: PartBuffer) => void) | undefined;
  #failure: unknown;

  constructor(options: PartWriterOptions) {
    const { buffers, partSize = buffers.partSize, signal } = options;
    if (partSize > buffers.budget) throw new RangeError('a part must fit one buffer');
    this.#options = options;
    this.#partSize = partSize;
    const onAbort = () => this.#stop.abort(signal.reason);
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
    this.#unlink = () => signal.removeEventListener('abort', onAbort);
  }

  /**
   * Waits for the first buffer.
   * @param atMost bytes the object can have; Infinity when nothing is known of it
   * @param wait milliseconds
   * @param signal ends the waiting
   * @param withoutTail takes no memory for the tail: the writer then sends no part and never finishes
   * @throws NoBufferFree
   */
  async open(atMost: number, wait: number, signal: AbortSignal, { withoutTail = false } = {}): Promise<void> {
    this.#atMost = atMost;
    if (withoutTail) this.#omitted = this.#filled;
    const capacity = Math.min(atMost - this.#sent, this.#partSize) - this.#omitted;
    this.#current = await this.#options.buffers.acquire(capacity, wait, signal);
  }

  /** Goes on where another writer has stopped; call before `open`. */
  resume({ uploadId, parts, bytes, tail }: ResumePoint): void {
    this.#uploadId = uploadId;
    this.#partNumber = parts;
    this.#sent = bytes;
    this.#touchedStore = uploadId !== undefined;
    this.#filled = tail.size;
    if (tail.size > this.#partSize) throw new RangeError('the tail is larger than a part');
    if (tail.size > 0) this.#unread = tail;
  }

  /** Whether the tail of an earlier writer is not in memory yet. */
  get hasUnreadTail(): boolean {
    return this.#unread !== undefined;
  }

  /** Whether `write` with so many bytes would send a part, for which the tail must be in memory. */
  wouldSend(bytes: number): boolean {
    return this.#filled + bytes > this.#room(this.#owned());
  }

  /** Reads the tail of the earlier writer, if there is one. */
  async readTail(): Promise<void> {
    if (!this.#unread) return;
    const { size, read } = this.#unread;
    if (this.#omitted > 0) throw new Error('there is no memory for the tail');
    const { memory } = this.#owned();
    let length = 0;
    for await (const bytes of read()) {
      if (length + bytes.length > size) throw new Error('the tail is longer than it was');
      length += bytes.copy(memory, length);
    }
    if (length !== size) throw new Error('the tail is shorter than it was');
    this.#unread = undefined;
  }

  /** Bytes of the object so far, those before `resume` included. */
  get length(): number {
    return this.#sent + this.#filled;
  }

  /** Bytes that are in parts, of which some may be under way. */
  get inParts(): number {
    return this.#sent;
  }

  /** The first bytes, as long as they are in memory: until the first part was sent. */
  get head(): Buffer {
    return this.#sent === 0 && !this.#unread ? this.#part : Buffer.alloc(0);
  }

  /** Whether all bytes so far are in the first buffer. */
  get isInMemory(): boolean {
    return this.#sent === 0 && !this.#unread && this.#omitted === 0;
  }

  /**
   * Lets a function change the object while it is in memory; nothing is written meanwhile. What it leaves is the object from then on.
   * @param change gets the bytes, and returns how many are left, from the first on; undefined when it has changed nothing
   * @returns whether something was changed
   */
  async rewrite(change: (bytes: Buffer) => Promise<number | undefined>): Promise<boolean> {
    if (!this.isInMemory) throw new Error('the object is not in memory');
    const left = await change(this.#part);
    if (left !== undefined) this.#filled = left;
    return left !== undefined;
  }

  /**
   * What is in no part yet, from this byte of the object on. Valid until the next `write`.
   * @throws RangeError when it is not in memory
   */
  bytesFrom(position: number): Buffer {
    const begin = position - this.#sent - this.#omitted;
    const inMemory = (this.#unread?.size ?? 0) - this.#omitted;
    if (begin < inMemory || position > this.length) throw new RangeError('these bytes are not in memory');
    return this.#current ? this.#current.memory.subarray(begin, this.#filled - this.#omitted) : Buffer.alloc(0);
  }

  /** What is in no part yet, all of it. */
  get #part(): Buffer {
    return this.#filled === 0 ? Buffer.alloc(0) : this.bytesFrom(this.#sent);
  }

  /** Copies the chunk; the caller keeps it. Waits when no buffer is free. */
  async write(chunk: Buffer): Promise<void> {
    let rest = chunk;
    while (rest.length > 0) {
      if (this.#failure !== undefined) throw this.#failure;
      let buffer = this.#owned();
      if (this.#filled === this.#room(buffer)) {
        await this.#sendPart();
        buffer = this.#owned();
      }
      const copied = rest.copy(buffer.memory, this.#filled - this.#omitted, 0, this.#room(buffer) - this.#filled);
      this.#filled += copied;
      rest = rest.subarray(copied);
    }
  }

  /** Waits until all parts that were sent have arrived and are reported. @throws what one of them failed with */
  async flush(): Promise<void> {
    await this.#reported;
    if (this.#failure !== undefined) throw this.#failure;
  }

  /**
   * Sends what is left and makes the object whole. A lost answer is settled by looking.
   * @param sha256 of the whole object; needed unless parts were sent
   * @param allParts adds the parts of earlier writers to the own ones
   * @throws ObjectStoreUnavailable when the object was not made, or nobody knows (OutcomeUnknown);
   *   NoSuchUpload when somebody else completed or aborted the upload before its last part was sent
   */
  async finish(
    sha256: Buffer | undefined,
    allParts: (own: UploadedPart[]) => Promise<UploadedPart[]> = async (own) => own,
  ): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    this.#unlink();
    if (this.#uploadId !== undefined) await this.#completeParts(this.#uploadId, allParts);
    else if (sha256) await this.#putWhole(sha256);
    else throw new TypeError('an object that is written at once needs its digest');
    this.#release();
  }

  /** Whether the store holds the object. The key is ours alone, so an object of the right size is the one we sent. */
  isWhole(): Promise<boolean> {
    const { store, key } = this.#options;
    return isWhole(store, key, this.length);
  }

  /**
   * Stops everything under way and gives the memory back. Never throws.
   * @returns whether something may have been stored
   */
  async stop(): Promise<boolean> {
    this.#stop.abort(new ObjectStoreUnavailable('the upload was abandoned'));
    await this.close();
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
      const uploadIds = this.#isInDoubt ? await store.listMultipartUploads(key, {}) : [];
      if (this.#uploadId !== undefined && !uploadIds.includes(this.#uploadId)) uploadIds.push(this.#uploadId);
      for (const uploadId of uploadIds) await store.abortMultipartUpload(key, uploadId, {});
      await store.delete(key, {});
      // A request without an answer may still be on its way to the store, so one look is not proof.
      return this.#isInDoubt ? 'unsure' : 'nothing-left';
    } catch {
      return 'unsure';
    }
  }

  /** Whether something may come to be under the key that is not known here: then it must be looked at again, later. */
  get isInDoubt(): boolean {
    return this.#isInDoubt;
  }

  /** Waits for the parts under way, gives the memory back, and leaves the store as it is. Never throws. */
  async close(): Promise<void> {
    this.#unlink();
    await Promise.allSettled([...this.#parts, this.#reported]);
    this.#release();
  }

  #owned(): PartBuffer {
    if (!this.#current) throw new Error('the writer is not open');
    return this.#current;
  }

  #room({ memory }: PartBuffer): number {
    return Math.min(this.#omitted + memory.length, this.#partSize);
  }

  async #sendPart(): Promise<void> {
    await this.readTail();
    const buffer = this.#owned();
    const size = this.#filled;
    await this.#options.beforeSending(this.#sent + size);
    const uploadId = this.#uploadId ?? (await this.#begin());
    await this.#takeTurn(size);
    this.#current = undefined;
    this.#filled = 0;
    this.#underWay += 1;
    const part = this.#send(uploadId, buffer.memory.subarray(0, size));
    this.#report(part, this.#sent);
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

  async #begin(): Promise<string> {
    const { onBegun, onDoubt } = this.#options;
    this.#touchedStore = true;
    this.#isInDoubt = true;
    const { uploadId, isOnly } = await this.#create();
    this.#isInDoubt = false;
    if (!isOnly) await onDoubt?.(uploadId);
    await onBegun?.(uploadId);
    this.#uploadId = uploadId;
    return uploadId;
  }

  /** Whether it is the only one that may be open under the key is known only if no try of the call was left unanswered. */
  async #create(): Promise<{ uploadId: string; isOnly: boolean }> {
    const { store, key, attributes, onBegun, onDoubt } = this.#options;
    let isOnly = true;
    try {
      const uploadId = await store.createMultipartUpload(key, attributes(), {
        partSize: this.#partSize,
        onDoubt: () => {
          isOnly = false;
        },
        // Where the id is written down, it is waited for: nobody but the answer tells it.
        ...(!onBegun && { signal: this.#stop.signal }),
      });
      return { uploadId, isOnly };
    } catch (error) {
      await onDoubt?.(undefined);
      throw error;
    }
  }

  #send(uploadId: string, body: Buffer): Promise<UploadedPart> {
    const { store, key } = this.#options;
    this.#partNumber += 1;
    this.#sent += body.length;
    const address = { key, uploadId, partNumber: this.#partNumber };
    const part = store.uploadPart(address, body, { signal: this.#stop.signal });
    this.#parts.push(part);
    return part;
  }

  /** Several parts are under way at once; they are reported in their order. */
  #report(part: Promise<UploadedPart>, end: number): void {
    const { onPart } = this.#options;
    const reported = Promise.all([part, this.#reported]).then(([arrived]) => onPart?.(arrived, end));
    reported.catch((error) => {
      this.#failure ??= error;
    });
    this.#reported = reported;
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
    const capacity = Math.min(this.#atMost - this.#sent, this.#partSize);
    const free = this.#underWay < partsInFlight ? buffers.tryAcquire(capacity) : undefined;
    if (free) return free;
    return new Promise((resolve) => {
      this.#handOver = resolve;
    });
  }

  async #putWhole(sha256: Buffer): Promise<void> {
    const { store, key, attributes, beforeSending } = this.#options;
    await this.readTail();
    const body = this.#part;
    await beforeSending(body.length);
    await this.#takeTurn(body.length);
    this.#touchedStore = true;
    this.#isInDoubt = true;
    try {
      await store.put(key, body, attributes(), { sha256, signal: this.#stop.signal });
    } catch (error) {
      await requireWhole(store, key, body.length, error);
    }
    this.#isInDoubt = false;
  }

  async #completeParts(uploadId: string, allParts: (own: UploadedPart[]) => Promise<UploadedPart[]>): Promise<void> {
    const { store, key, beforeSending } = this.#options;
    await beforeSending(this.length);
    if (this.#filled > 0) {
      await this.readTail();
      const body = this.#part;
      await this.#takeTurn(body.length);
      this.#filled = 0;
      void this.#send(uploadId, body);
    }
    const own = await Promise.all(this.#parts);
    await this.#reported;
    const parts = await allParts(own);
    this.#isInDoubt = true;
    await completeObject(store, { key, uploadId, parts, size: this.length }, this.#stop.signal);
    this.#isInDoubt = false;
  }

  /** Before so many bytes are sent: of what is large, one in a turn of the event loop. @throws what has stopped the writer */
  async #takeTurn(bytes: number): Promise<void> {
    if (bytes >= SMALL) await turns.take(bytes);
    this.#stop.signal.throwIfAborted();
  }

  #release(): void {
    this.#current?.release();
    this.#current = undefined;
  }
}
