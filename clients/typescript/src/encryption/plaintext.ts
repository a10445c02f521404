/**
 * The file that is encrypted, read in segments, each of which is what it was at first. The salt of its ciphertext is made of
 * the digests of all segments: so other bytes are never encrypted under a key and a nonce that were used, not even when
 * the file changes while it is uploaded, or an upload goes on after a reload with another file of the same name.
 */
import { type Bytes, CHUNK, concat, equal, expand, SALT, utf8 } from './cobblestone.ts';

/** Bytes of a segment: whole chunks. */
export const SEGMENT = 64 * CHUNK;
const DIGEST = 32;

/** The file is not what it was. */
export class FileChanged extends Error {
  override name = 'FileChanged';
}

export class Plaintext {
  readonly #file: Blob;
  readonly #digests: Bytes;
  /** SHA-256 over the digests of the segments and the size. */
  readonly fingerprint: Bytes;

  private constructor(file: Blob, digests: Bytes, fingerprint: Bytes) {
    this.#file = file;
    this.#digests = digests;
    this.fingerprint = fingerprint;
  }

  /** Reads the file once. @throws FileChanged; the reason of the signal */
  static async survey(file: Blob, signal?: AbortSignal): Promise<Plaintext> {
    // As with chunks, there is always one that is not full.
    const digests = new Uint8Array((Math.floor(file.size / SEGMENT) + 1) * DIGEST);
    for (let index = 0; index * DIGEST < digests.length; index++) {
      signal?.throwIfAborted();
      digests.set(await digestOf(await readSegment(file, index)), index * DIGEST);
    }
    const size = new DataView(new ArrayBuffer(8));
    size.setBigUint64(0, BigInt(file.size));
    const fingerprint = await digestOf(concat([digests, new Uint8Array(size.buffer)]));
    return new Plaintext(file, digests, fingerprint);
  }

  get size(): number {
    return this.#file.size;
  }

  /** @throws FileChanged when it is not what it was */
  async segment(index: number): Promise<Bytes> {
    const bytes = await readSegment(this.#file, index);
    const digest = this.#digests.subarray(index * DIGEST, (index + 1) * DIGEST);
    if (!equal(await digestOf(bytes), digest)) throw new FileChanged('the file has changed since its upload began');
    return bytes;
  }

  /** The same for the same bytes under the same key. */
  salt(key: Bytes): Promise<Bytes> {
    return expand(key, concat([utf8('stowage encrypted file v1 content salt'), this.fingerprint]), SALT);
  }
}

async function readSegment(file: Blob, index: number): Promise<Bytes> {
  const end = Math.min(file.size, (index + 1) * SEGMENT);
  try {
    return new Uint8Array(await file.slice(index * SEGMENT, end).arrayBuffer());
  } catch (cause) {
    // Browsers, and Node, refuse to read a file that was written to since it was chosen.
    throw new FileChanged('the file cannot be read any more', { cause });
  }
}

async function digestOf(bytes: Bytes): Promise<Bytes> {
  return new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
}
