/** Streams that the service makes itself, on their way to the store: counted, hashed, and compared with what was announced. */
import { createHash } from 'node:crypto';
import { pipeline, type Readable, Transform, type TransformCallback } from 'node:stream';
import { ContentMismatch, type StreamOptions, type WrittenObject } from './object-store.ts';

type Announced = Pick<StreamOptions, 'size' | 'sha256'>;

/** Passes bytes on, and ends only when they were as many as announced, with the digest that was announced. */
export class MeasuredStream extends Transform {
  readonly #announced: Announced;
  readonly #hash = createHash('sha256');
  #size = 0;
  #written: WrittenObject | undefined;

  constructor(announced: Announced) {
    super();
    this.#announced = announced;
  }

  /** What went through. @throws before the end */
  get written(): WrittenObject {
    if (!this.#written) throw new Error('the stream has not ended');
    return this.#written;
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    const { size = Number.POSITIVE_INFINITY } = this.#announced;
    this.#size += chunk.length;
    if (this.#size > size) {
      done(new ContentMismatch(`more than the announced ${size} bytes`));
      return;
    }
    this.#hash.update(chunk);
    done(null, chunk);
  }

  override _flush(done: TransformCallback): void {
    const { size = this.#size, sha256 } = this.#announced;
    const digest = this.#hash.digest();
    if (this.#size !== size) done(new ContentMismatch(`${this.#size} of the announced ${size} bytes`));
    else if (sha256 && !digest.equals(sha256)) done(new ContentMismatch('other bytes than the announced ones'));
    else {
      this.#written = { size, sha256: digest };
      done();
    }
  }
}

/** Opens the stream. It fails with what `source` fails with, and closes it when it is closed itself. */
export function measure(source: () => Readable, announced: Announced): MeasuredStream {
  // Its listener also keeps a failure that comes before anybody reads from ending the process.
  return pipeline(source(), new MeasuredStream(announced), () => {});
}
