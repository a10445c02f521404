import type { FileHandle } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { type ByteRange, ObjectStoreUnavailable } from '../object-store.ts';

const READ_CHUNK = 256 * 1024;

/** Bytes of an open file, which is closed when they end or nobody wants more. A file that is too short is an error. */
export class FileBytes extends Readable {
  readonly #handle: FileHandle;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort = () => this.destroy(toError(this.#signal?.reason));
  #position: number;
  #left: number;

  constructor(handle: FileHandle, { first, last }: ByteRange, signal: AbortSignal | undefined) {
    super({ highWaterMark: READ_CHUNK });
    this.#handle = handle;
    this.#signal = signal;
    this.#position = first;
    this.#left = last - first + 1;
    signal?.addEventListener('abort', this.#onAbort, { once: true });
    // An abort may come before anybody listens, and must not end the process.
    this.on('error', () => {});
  }

  override _read(): void {
    if (this.#left === 0) {
      this.push(null);
      return;
    }
    const buffer = Buffer.allocUnsafeSlow(Math.min(READ_CHUNK, this.#left));
    this.#handle.read(buffer, 0, buffer.length, this.#position).then(
      ({ bytesRead }) => this.#give(buffer.subarray(0, bytesRead)),
      (cause) => this.destroy(new ObjectStoreUnavailable('the object cannot be read', { cause })),
    );
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#signal?.removeEventListener('abort', this.#onAbort);
    // Waits for a read under way.
    this.#handle.close().then(
      () => done(error),
      (cause) => done(error ?? toError(cause)),
    );
  }

  #give(bytes: Buffer): void {
    if (bytes.length === 0) {
      this.destroy(new ObjectStoreUnavailable('the object ended early'));
      return;
    }
    this.#position += bytes.length;
    this.#left -= bytes.length;
    this.push(bytes);
  }
}

export function toError(reason: unknown): Error {
  return reason instanceof Error ? reason : new Error(String(reason));
}
