import type { IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';
import { free } from '../chunks.ts';
import { ObjectStoreUnavailable } from '../object-store.ts';

/** Bytes of an object that wait for whoever reads it. */
const READ_AHEAD = 256 * 1024;

/**
 * The body of an answer: passes the bytes on and fails when fewer or more than `length` come, so that a cut answer never
 * looks whole. Destroying it, or aborting the signal, closes the connection.
 */
export class LengthCheckedStream extends Readable {
  readonly #source: IncomingMessage;
  #seen = 0;

  constructor(length: number, source: IncomingMessage, signal: AbortSignal | undefined) {
    super({ highWaterMark: READ_AHEAD });
    this.#source = source;
    const onBreak = (cause?: unknown) =>
      this.destroy(new ObjectStoreUnavailable('the object store broke off', cause === undefined ? {} : { cause }));
    source.on('data', (chunk: Buffer) => {
      this.#seen += chunk.length;
      if (this.#seen > length) this.destroy(new ObjectStoreUnavailable('the object is longer than announced'));
      else if (!this.push(chunk)) source.pause();
    });
    source.on('end', () => {
      if (this.#seen < length) this.destroy(new ObjectStoreUnavailable('the object ended early'));
      else this.push(null);
    });
    source.on('error', onBreak);
    source.on('close', () => {
      if (!source.readableEnded) onBreak();
    });
    freeWhatTheSocketReads(source);
    const onAbort = () => this.destroy();
    signal?.addEventListener('abort', onAbort, { once: true });
    this.once('close', () => signal?.removeEventListener('abort', onAbort));
  }

  override _read(): void {
    this.#source.resume();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#source.destroy();
    done(error);
  }
}

/** Of what the socket reads the parser makes copies, and this listener is the last to hear of it. */
function freeWhatTheSocketReads(answer: IncomingMessage): void {
  const { socket } = answer;
  const onData = (chunk: Buffer) => free(chunk);
  const stop = () => socket.off('data', onData);
  socket.on('data', onData);
  answer.once('end', stop);
  answer.once('close', stop);
}
