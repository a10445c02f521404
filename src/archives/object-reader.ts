/** Reads the objects of an archive one after the other; what does not come as it should is told by an error, never by an end. */
import { Readable } from 'node:stream';
import { chunksOf, free } from '../storage/chunks.ts';
import { type ObjectBody, type ObjectStore, ObjectStoreUnavailable } from '../storage/object-store.ts';
import type { ArchivedFile } from './archived-file.ts';

/** Milliseconds without a byte from the store after which it is given up. */
const STORE_STALL = 30_000;
const LOOK_EVERY = 5_000;

/** Positions within the file, both inclusive. */
export interface FileRange {
  first: number;
  last: number;
}

export class ObjectReader {
  readonly #store: Pick<ObjectStore, 'get'>;
  readonly #signal: AbortSignal;

  constructor(store: Pick<ObjectStore, 'get'>, signal: AbortSignal) {
    this.#store = store;
    this.#signal = signal;
  }

  /**
   * Opens the bytes of a file that has some.
   * @throws ObjectStoreUnavailable also when there are not as many as the record says
   */
  async open(
    { id, objectKey, size, make }: ArchivedFile,
    range: FileRange = { first: 0, last: size - 1 },
  ): Promise<ObjectBody> {
    const isWhole = range.first === 0 && range.last === size - 1;
    if (make) return { stream: Readable.from(within(make(), range)), length: range.last - range.first + 1 };
    const body = await this.#store.get(objectKey, { signal: this.#signal, ...(!isWhole && { range }) });
    const length = range.last - range.first + 1;
    if (body?.length === length) return body;
    body?.stream.destroy();
    throw new ObjectStoreUnavailable(
      `asset ${id} of an archive: ${body ? `its object has ${body.length} bytes instead of ${length}` : 'its object is missing'}`,
    );
  }

  /** All bytes of a file, for who needs none of them afterwards: each chunk is freed. */
  async *read(file: ArchivedFile): AsyncGenerator<Buffer> {
    if (file.size === 0) return;
    for await (const chunk of this.chunks(await this.open(file))) {
      yield chunk;
      free(chunk);
    }
  }

  /** The chunks of what was opened. Ending the loop early closes it. @throws ObjectStoreUnavailable when nothing comes for too long */
  async *chunks({ stream }: ObjectBody): AsyncGenerator<Buffer> {
    let waitingSince: number | undefined = performance.now();
    const timer = setInterval(() => {
      if (waitingSince !== undefined && performance.now() - waitingSince > STORE_STALL)
        stream.destroy(new ObjectStoreUnavailable('the transfer stalled'));
    }, LOOK_EVERY);
    const end = () => stream.destroy(this.#signal.reason);
    this.#signal.addEventListener('abort', end, { once: true });
    try {
      this.#signal.throwIfAborted();
      for await (const chunk of chunksOf(stream)) {
        waitingSince = undefined;
        yield chunk;
        waitingSince = performance.now();
      }
    } finally {
      clearInterval(timer);
      this.#signal.removeEventListener('abort', end);
      stream.destroy();
    }
  }
}

/** @throws ObjectStoreUnavailable when there are fewer bytes: what they were made of has changed meanwhile */
async function* within(chunks: AsyncIterable<Buffer>, { first, last }: FileRange): AsyncGenerator<Buffer> {
  let at = 0;
  for await (const chunk of chunks) {
    const wanted = chunk.subarray(Math.max(0, first - at), Math.max(0, last + 1 - at));
    at += chunk.length;
    if (wanted.length > 0) yield wanted;
    if (at > last) return;
  }
  throw new ObjectStoreUnavailable('a file of an archive is not what it was');
}
