/** A file as ciphertext, made anew wherever it is read: the same bytes each time, and in memory only what is read. */
import type { UploadSource } from '../source.ts';
import { type Bytes, CHUNK, ciphertextSize, concat, KEY, Message, SEALED_CHUNK } from './cobblestone.ts';
import { CONTENT, type FileInfo, openInfo, readPrefix, writePrefix } from './container.ts';
import { type DecryptionKeys, type EncryptionKeys, unwrapKey, wrapKey } from './envelope.ts';
import { DecryptionFailed } from './failure.ts';
import { Plaintext, SEGMENT } from './plaintext.ts';

/** Bytes that are read at once where the whole of it would be asked for. */
const PIECE = 8 * 1024 * 1024;
/** A segment as ciphertext. */
const SEALED_SEGMENT = (SEGMENT / CHUNK) * SEALED_CHUNK;

export interface Described {
  name: string;
  type: string;
}

export class EncryptedSource implements UploadSource {
  readonly size: number;
  readonly pieceSize = PIECE;
  /** Envelope and info: with it, and a key, the same ciphertext can be made of the same file. */
  readonly prefix: Bytes;
  readonly #start: Bytes;
  readonly #plaintext: Plaintext;
  readonly #message: Message;

  private constructor(prefix: Bytes, plaintext: Plaintext, message: Message) {
    this.prefix = prefix;
    this.#start = concat([prefix, message.header]);
    this.#plaintext = plaintext;
    this.#message = message;
    this.size = prefix.length + ciphertextSize(plaintext.size);
  }

  /** Under a fresh key. */
  static async begin(
    file: Blob,
    { name, type }: Described,
    keys: EncryptionKeys,
    signal?: AbortSignal,
  ): Promise<EncryptedSource> {
    const key = crypto.getRandomValues(new Uint8Array(KEY));
    const envelope = await wrapKey(key, keys);
    const plaintext = await Plaintext.survey(file, signal);
    const info: FileInfo = { name, type, size: file.size, fingerprint: base64(plaintext.fingerprint) };
    if ('lastModified' in file && typeof file.lastModified === 'number') info.lastModified = file.lastModified;
    return EncryptedSource.#of(await writePrefix(key, envelope, info), plaintext, key);
  }

  /**
   * The ciphertext of an earlier time.
   * @param prefix of then
   * @returns undefined when no key opens it, or the file is another one
   */
  static async again(
    file: Blob,
    prefix: Bytes,
    keys: DecryptionKeys,
    signal?: AbortSignal,
  ): Promise<EncryptedSource | undefined> {
    try {
      const { envelope, info } = readPrefix(prefix);
      const key = await unwrapKey(envelope, keys);
      const { fingerprint } = await openInfo(key, info);
      const plaintext = await Plaintext.survey(file, signal);
      return fingerprint === base64(plaintext.fingerprint) ? EncryptedSource.#of(prefix, plaintext, key) : undefined;
    } catch (error) {
      if (error instanceof DecryptionFailed) return undefined;
      throw error;
    }
  }

  static async #of(prefix: Bytes, plaintext: Plaintext, key: Bytes): Promise<EncryptedSource> {
    return new EncryptedSource(prefix, plaintext, await Message.derive(key, await plaintext.salt(key), CONTENT));
  }

  async read(from: number, to: number): Promise<Blob> {
    const pieces: Bytes[] = [this.#start.slice(from, to)];
    const offset = this.#start.length;
    const [first, end] = [Math.max(0, from - offset), Math.min(to, this.size) - offset];
    for (let at = first; at < end; ) {
      const segment = Math.floor(at / SEALED_SEGMENT);
      const begin = segment * SEALED_SEGMENT;
      const piece = await this.#segment(segment, at - begin, end - begin);
      pieces.push(piece);
      at += piece.length;
    }
    return new Blob(pieces);
  }

  /** @param from, to bytes of the segment's ciphertext. A file that ends with a segment has an empty one behind it. */
  async #segment(index: number, from: number, to: number): Promise<Bytes> {
    const isLast = (index + 1) * SEGMENT > this.#plaintext.size;
    const plaintext = await this.#plaintext.segment(index);
    const first = Math.floor(from / SEALED_CHUNK);
    const end = Math.ceil(Math.min(to, SEALED_SEGMENT) / SEALED_CHUNK);
    const chunks = plaintext.subarray(first * CHUNK, end * CHUNK);
    const endsMessage = isLast && end * CHUNK > plaintext.length;
    const sealed = await this.#message.seal((index * SEGMENT) / CHUNK + first, chunks, endsMessage);
    return sealed.subarray(from - first * SEALED_CHUNK, to - first * SEALED_CHUNK);
  }
}

export function base64(bytes: Uint8Array): string {
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''));
}

/** @returns undefined when it is no base64 */
export function fromBase64(text: string): Bytes | undefined {
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch {
    return undefined;
  }
}
