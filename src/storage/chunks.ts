/** The memory of what is passed on. */
import { finished, type Readable, type Writable } from 'node:stream';

/** Bytes; more than a form parser holds back to find its boundary. */
const SMALL = 4096;

/**
 * Frees the memory of a chunk that nobody needs any more, at once instead of at the next collection of garbage. A body
 * comes in chunks of 64 KiB that are copied into part buffers; left to the collector they cost two seconds of processor
 * time per GiB, and 64 MiB. Does nothing unless the chunk is all there is of its memory, as other chunks may share it; and
 * nothing to small ones, which a parser may have handed out of memory that it goes on using.
 */
export function free(chunk: Uint8Array<ArrayBufferLike>): void {
  if (chunk.byteLength < SMALL) return;
  const { buffer } = chunk;
  if (buffer instanceof ArrayBuffer && chunk.byteLength === buffer.byteLength) buffer.transfer(0);
}

/** The stream, such that what it is piped into frees each chunk as soon as it has been written. */
export function freeing(stream: Readable): Readable {
  return Object.assign(stream, {
    pipe<Destination extends Writable>(destination: Destination): Destination {
      stream.on('data', (chunk: Buffer) => {
        if (destination.destroyed || destination.write(chunk, () => free(chunk))) return;
        stream.pause();
        destination.once('drain', () => stream.resume());
      });
      stream.once('end', () => destination.end());
      return destination;
    },
  });
}

/**
 * The chunks of a stream as they came; each is the caller's. The iterator of a stream copies those that wait into one, which
 * leaves all of them to the collector: with bodies that wait their turn that was a megabyte for each. Ending the loop early
 * leaves the stream paused, and does not destroy it.
 * @throws what the stream fails with, also when it ends too early
 */
export async function* chunksOf(stream: Readable): AsyncGenerator<Buffer> {
  let next: Buffer | undefined;
  let end: { error: Error | null | undefined } | undefined;
  let wake = () => {};
  const onData = (chunk: Buffer) => {
    stream.pause();
    next = chunk;
    wake();
  };
  const forget = finished(stream, { writable: false }, (error) => {
    end = { error };
    wake();
  });
  stream.on('data', onData);
  try {
    for (;;) {
      while (!next && !end)
        await new Promise<void>((resolve) => {
          wake = resolve;
          stream.resume();
        });
      if (!next) break;
      const chunk = next;
      next = undefined;
      yield chunk;
    }
    if (end?.error) throw end.error;
  } finally {
    stream.off('data', onData);
    stream.pause();
    forget();
  }
}
