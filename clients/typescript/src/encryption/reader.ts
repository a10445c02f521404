/** Reads an encrypted file, wherever its bytes come from. Nothing is given out before its chunk is authentic. */
import {
  type Bytes,
  CHUNK,
  concat,
  HEADER,
  Message,
  NotAuthentic,
  plaintextSize,
  SEALED_CHUNK,
} from './cobblestone.ts';
import { CONTENT, type FileInfo, MAX_PREFIX, openInfo, readPrefix } from './container.ts';
import { type DecryptionKeys, unwrapKey } from './envelope.ts';
import { DecryptionFailed } from './failure.ts';

/** Chunks that are decrypted at once: enough to keep WebCrypto busy, 512 KiB. */
const AT_ONCE = 32;

/** Where ciphertext is read from. */
export interface Ciphertext {
  /** Bytes from the beginning, at most; and how many there are. */
  start(count: number): Promise<{ bytes: Bytes; size: number }>;
  /** Bytes in order, in pieces of any size. Ended early, it stops reading. */
  read(from: number, to: number): AsyncGenerator<Uint8Array>;
}

/** Bytes of the plaintext. */
export interface PlaintextRange {
  /** The first one. By default 0. */
  start?: number;
  /** Beyond the last one. By default all that follow. */
  end?: number;
}

/** An encrypted file that a key opens. */
export class EncryptedFile {
  readonly name: string;
  /** Media type, as the sender named it: nobody has checked it. */
  readonly type: string;
  /** Bytes. */
  readonly size: number;
  readonly lastModified: Date | undefined;
  /** Of this file alone; whoever has it can read the file, and no other. */
  readonly key: Uint8Array;
  readonly #ciphertext: Ciphertext;
  readonly #message: Message;
  /** Bytes before the first chunk. */
  readonly #offset: number;

  private constructor(ciphertext: Ciphertext, message: Message, offset: number, key: Bytes, info: FileInfo) {
    this.name = info.name;
    this.type = info.type;
    this.size = info.size;
    this.lastModified = info.lastModified === undefined ? undefined : new Date(info.lastModified);
    this.key = key;
    this.#ciphertext = ciphertext;
    this.#message = message;
    this.#offset = offset;
  }

  /** @throws DecryptionFailed, also when the length of the file is not that of what was encrypted */
  static async open(ciphertext: Ciphertext, keys: DecryptionKeys): Promise<EncryptedFile> {
    const { bytes, size } = await ciphertext.start(MAX_PREFIX + HEADER);
    const prefix = readPrefix(bytes);
    const key = await unwrapKey(prefix.envelope, keys);
    const info = await openInfo(key, prefix.info);
    const header = bytes.slice(prefix.length, prefix.length + HEADER);
    if (header.length < HEADER || plaintextSize(size - prefix.length) !== info.size)
      throw new DecryptionFailed('truncated', 'the file is shorter or longer than what was encrypted');
    const message = await Message.open(key, header, CONTENT).catch((cause) => {
      throw new DecryptionFailed('damaged', 'the content belongs to another file', { cause });
    });
    return new EncryptedFile(ciphertext, message, prefix.length + HEADER, key, info);
  }

  /**
   * The plaintext, or some of it: only the chunks that hold it are read, as fast as the stream is read.
   * The stream fails with DecryptionFailed where a chunk is not what was encrypted.
   * @throws RangeError
   */
  stream(range: PlaintextRange = {}): ReadableStream<Uint8Array> {
    const { start = 0, end = this.size } = range;
    const isRange = Number.isSafeInteger(start) && Number.isSafeInteger(end) && start >= 0 && start <= end;
    if (!isRange || end > this.size) throw new RangeError(`the file has the bytes 0 to ${this.size}`);
    const bytes = this.#plaintext(start, end);
    return new ReadableStream(
      {
        pull: async (controller) => {
          const { value, done } = await bytes.next();
          if (done) controller.close();
          else controller.enqueue(value);
        },
        cancel: async () => {
          await bytes.return(undefined);
        },
      },
      { highWaterMark: 0 },
    );
  }

  /** The plaintext in memory: for small files and ranges. @throws DecryptionFailed; RangeError */
  async bytes(range: PlaintextRange = {}): Promise<Uint8Array<ArrayBuffer>> {
    return new Uint8Array(await new Response(this.stream(range)).arrayBuffer());
  }

  async *#plaintext(start: number, end: number): AsyncGenerator<Bytes> {
    let chunk = Math.floor(start / CHUNK);
    for await (const sealed of this.#sealed(start, end)) {
      const plaintext = await this.#message.unseal(chunk, sealed).catch((cause) => {
        if (!(cause instanceof NotAuthentic)) throw cause;
        throw new DecryptionFailed('damaged', 'the content is not what was encrypted', { cause });
      });
      const wanted = plaintext.subarray(Math.max(0, start - chunk * CHUNK), Math.max(0, end - chunk * CHUNK));
      if (wanted.length > 0) yield wanted;
      chunk += Math.ceil(sealed.length / SEALED_CHUNK);
    }
  }

  /** Whole chunks, some at a time. All of a file includes its last chunk, even if that is empty: it tells the end. */
  async *#sealed(start: number, end: number): AsyncGenerator<Bytes> {
    const count = Math.floor(this.size / CHUNK) + 1;
    const first = Math.floor(start / CHUNK);
    const beyond = end === this.size ? count : Math.ceil(end / CHUNK);
    if (beyond <= first) return;
    const lastBytes = (this.size % CHUNK) + SEALED_CHUNK - CHUNK;
    const to = beyond === count ? (count - 1) * SEALED_CHUNK + lastBytes : beyond * SEALED_CHUNK;
    let missing = to - first * SEALED_CHUNK;
    let held: Uint8Array[] = [];
    let length = 0;
    for await (const piece of this.#ciphertext.read(this.#offset + first * SEALED_CHUNK, this.#offset + to)) {
      held.push(piece);
      length += piece.length;
      missing -= piece.length;
      if (length < AT_ONCE * SEALED_CHUNK && missing > 0) continue;
      const all = concat(held);
      const whole = missing > 0 ? length - (length % SEALED_CHUNK) : length;
      for (let at = 0; at < whole; at += AT_ONCE * SEALED_CHUNK)
        yield all.slice(at, Math.min(whole, at + AT_ONCE * SEALED_CHUNK));
      held = [all.subarray(whole)];
      length -= whole;
    }
    if (missing !== 0) throw new DecryptionFailed('truncated', 'the file ends before its content does');
  }
}

/** Of a file that is here: one that was saved as ciphertext, or comes out of a backup. */
export function ciphertextOf(file: Blob): Ciphertext {
  return {
    start: async (count) => ({ bytes: new Uint8Array(await file.slice(0, count).arrayBuffer()), size: file.size }),
    async *read(from, to) {
      for (let at = from; at < to; ) {
        const bytes = await file.slice(at, Math.min(to, at + AT_ONCE * SEALED_CHUNK)).arrayBuffer();
        if (bytes.byteLength === 0) return;
        yield new Uint8Array(bytes);
        at += bytes.byteLength;
      }
    },
  };
}
