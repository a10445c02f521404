/**
 * Streams that the service makes itself, written by the upload manager of the SDK (`Upload` of lib-storage). It cuts the
 * stream into parts, or into one PutObject where there is but one, and sends two at a time. Around it stands what it
 * leaves open:
 *
 * - It copies: at the moment in which a part is cut, memory of four parts is in use (the one before, which the rest of its
 *   bytes keeps; the one on its way; what was read; the part). That is taken out of the budget of the part buffers first.
 *   Copies that are done with stay until the collector comes by: 10 to 60 MiB of the process, measured with 512 MiB.
 * - Its requests have no deadline and no signal, and its `abort` returns while they run on. So it is never aborted. Its
 *   requests go through `S3Calls`, and it is ended by failing the stream that it reads: then it waits for its requests.
 * - A lost answer to the last request it takes for a failure. Here the store is asked whether it has the bytes.
 * - Parts of what failed are dropped here, when nothing is under way any more, whatever it learned of the upload's id.
 */

import type { Readable } from 'node:stream';
import {
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  PutObjectCommand,
  type PutObjectCommandInput,
  type S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { Upload } from '@aws-sdk/lib-storage';
import { MIN_PART } from '../../config.ts';
import { type MeasuredStream, measure } from '../measured-stream.ts';
import {
  NoSuchUpload,
  type ObjectStore,
  ObjectStoreUnavailable,
  type StreamOptions,
  type WrittenObject,
} from '../object-store.ts';
import type { PartBuffers } from '../part-buffers.ts';
import { objectMatches } from '../verify.ts';
import type { S3Calls } from './calls.ts';

const PARTS_AT_ONCE = 2;
const PARTS_IN_MEMORY = PARTS_AT_ONCE + 2;

export interface UploadTarget {
  store: ObjectStore;
  client: S3Client;
  calls: S3Calls;
}

type ObjectInput = Omit<PutObjectCommandInput, 'Body'> & { Key: string };

/** See `ObjectStore.putStream`. */
export async function uploadStream(
  target: UploadTarget,
  input: ObjectInput,
  source: () => Readable,
  options: StreamOptions,
): Promise<WrittenObject> {
  const { buffers, wait, size, signal = new AbortController().signal } = options;
  const partSize = partSizeFor(buffers, target.store.maxParts, size);
  const memory = Math.min(PARTS_IN_MEMORY * partSize, 2 * (size ?? Number.POSITIVE_INFINITY));
  const release = await buffers.reserve(memory, wait, signal);
  try {
    return await new StreamUpload(target, input, measure(source, options), signal).run(partSize);
  } finally {
    release();
  }
}

/** Parts of the buffers' size, but smaller where the budget is small, and larger where there would be too many of them. */
function partSizeFor({ partSize, budget }: PartBuffers, maxParts: number, size = 0): number {
  const fitting = Math.min(partSize, Math.floor(budget / PARTS_IN_MEMORY));
  return Math.max(MIN_PART, fitting, Math.ceil(size / maxParts));
}

class StreamUpload {
  readonly #target: UploadTarget;
  readonly #input: ObjectInput;
  readonly #body: MeasuredStream;
  readonly #callerSignal: AbortSignal;
  readonly #stop = new AbortController();
  readonly #onAbort = () => this.#fail(this.#callerSignal.reason);
  #begun = false;
  #uploadId: string | undefined;
  /** Whether the request that makes the object was sent: what it did is not undone. */
  #finishing = false;

  constructor(target: UploadTarget, input: ObjectInput, body: MeasuredStream, callerSignal: AbortSignal) {
    this.#target = target;
    this.#input = input;
    this.#body = body;
    this.#callerSignal = callerSignal;
    body.once('error', (error) => this.#fail(error));
    callerSignal.addEventListener('abort', this.#onAbort, { once: true });
    if (callerSignal.aborted) this.#onAbort();
  }

  async run(partSize: number): Promise<WrittenObject> {
    const upload = new Upload({
      client: this.#observedClient(),
      params: { ...this.#input, Body: this.#body },
      partSize,
      queueSize: PARTS_AT_ONCE,
      leavePartsOnError: true,
    });
    try {
      await upload.done();
    } catch (error) {
      // What made us stop is the reason of everything that failed after it.
      await this.#recover(this.#stop.signal.aborted ? this.#stop.signal.reason : error);
    } finally {
      this.#callerSignal.removeEventListener('abort', this.#onAbort);
      this.#body.destroy();
    }
    return this.#body.written;
  }

  #fail(reason: unknown): void {
    this.#stop.abort(reason);
    this.#body.destroy(reason instanceof Error ? reason : new Error(String(reason)));
  }

  /** The client as the manager sees it: its requests are ours. */
  #observedClient(): S3Client {
    const send = (command: unknown) =>
      this.#send(command).catch((error) => {
        this.#fail(error);
        throw error;
      });
    return new Proxy(this.#target.client, {
      get: (client, name) => (name === 'send' ? send : Reflect.get(client, name)),
    });
  }

  async #send(command: unknown): Promise<unknown> {
    const { client, calls } = this.#target;
    const options = { signal: this.#stop.signal };
    if (command instanceof UploadPartCommand)
      return calls.undamaged('UploadPart', () =>
        calls.command('UploadPart', options, (abortSignal) => client.send(command, { abortSignal })),
      );
    if (command instanceof CreateMultipartUploadCommand) {
      this.#begun = true;
      const answer = await calls.command('CreateMultipartUpload', options, (abortSignal) =>
        client.send(command, { abortSignal }),
      );
      this.#uploadId = answer.UploadId;
      return answer;
    }
    return this.#sendLast(command);
  }

  /** The request that makes the object: from here on the upload goes through, whatever the caller wants. */
  async #sendLast(command: unknown): Promise<unknown> {
    const { client, calls } = this.#target;
    this.#callerSignal.throwIfAborted();
    this.#callerSignal.removeEventListener('abort', this.#onAbort);
    if (command instanceof PutObjectCommand) {
      this.#finishing = true;
      return calls.undamaged('PutObject', () =>
        calls.command('PutObject', {}, (abortSignal) => client.send(command, { abortSignal })),
      );
    }
    if (command instanceof CompleteMultipartUploadCommand) {
      this.#finishing = true;
      return calls.command('CompleteMultipartUpload', {}, (abortSignal) => client.send(command, { abortSignal }));
    }
    throw new Error('the upload manager sent a request that it was not known to send');
  }

  /** After a failure: nothing if the object was made all the same, else drops the parts and throws. */
  async #recover(failure: unknown): Promise<void> {
    if (this.#finishing && (await this.#isWhole(failure))) return;
    await this.#dropParts();
    // An upload of ours that is gone was ended by somebody else, who may have been wrong.
    if (this.#finishing || failure instanceof NoSuchUpload)
      throw new ObjectStoreUnavailable('the object was not made', { cause: failure });
    throw failure;
  }

  /** By its bytes: an earlier try may have left an object of the same size. @throws when nobody can tell; then nothing is undone */
  async #isWhole(failure: unknown): Promise<boolean> {
    const { store } = this.#target;
    try {
      return await objectMatches(store, this.#input.Key, this.#body.written, {});
    } catch {
      throw new ObjectStoreUnavailable('nobody knows whether the object was made', { cause: failure });
    }
  }

  async #dropParts(): Promise<void> {
    if (!this.#begun) return;
    const { store } = this.#target;
    const key = this.#input.Key;
    try {
      // The answer to CreateMultipartUpload may have been lost: then only the store knows the upload id.
      const uploadIds = this.#uploadId === undefined ? await store.listMultipartUploads(key, {}) : [this.#uploadId];
      for (const uploadId of uploadIds) await store.abortMultipartUpload(key, uploadId, {});
    } catch {
      // The store is away, which the caller is told; the reconciler ends uploads that nobody wants.
    }
  }
}
