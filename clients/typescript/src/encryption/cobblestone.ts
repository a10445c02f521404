/**
 * Cobblestone-256 of https://c2sp.org/chunked-encryption: AES-256-GCM in chunks of 16 KiB, any of which is read without the
 * others. By WebCrypto alone, so it runs in browsers, workers and Node alike.
 *
 *   ciphertext = salt (24) | commitment (32) | chunk 0 (16384 + 16) | chunk 1 | ... | last chunk (0 to 16383, + 16)
 *   key | base nonce | commitment = HKDF-Expand-SHA-512(input key, "c2sp.org/chunked-encryption@v1+" | AEAD | 0 | salt | context)
 *   nonce of chunk k = base nonce XOR k
 *
 * The last chunk is shorter than the others, also when it has to be empty for that: so a cut message is no message.
 */

export type Bytes = Uint8Array<ArrayBuffer>;

/** Bytes of plaintext in a chunk that is not the last. */
export const CHUNK = 16_384;
const TAG = 16;
/** The same chunk as ciphertext. */
export const SEALED_CHUNK = CHUNK + TAG;
export const SALT = 24;
const COMMITMENT = 32;
/** Bytes before the first chunk. */
export const HEADER = SALT + COMMITMENT;
export const KEY = 32;
const NONCE = 12;
/** "The message MUST NOT exceed 2^38 chunks." */
const MAX_CHUNKS = 2 ** 38;

/** Bytes of the ciphertext of so many bytes. */
export function ciphertextSize(plaintext: number): number {
  return HEADER + plaintext + (Math.floor(plaintext / CHUNK) + 1) * TAG;
}

/** Bytes of plaintext; undefined when no message has a ciphertext of so many bytes. */
export function plaintextSize(ciphertext: number): number | undefined {
  const body = ciphertext - HEADER;
  const last = body % SEALED_CHUNK;
  return body < TAG || last < TAG ? undefined : Math.floor(body / SEALED_CHUNK) * CHUNK + last - TAG;
}

/** A chunk is not what was encrypted, or the key is another one. */
export class NotAuthentic extends Error {
  override name = 'NotAuthentic';
}

/** The keys of one message, which encrypt it or decrypt it. */
export class Message {
  /** The first bytes of the ciphertext. */
  readonly header: Bytes;
  readonly #key: CryptoKey;
  readonly #nonce: Bytes;

  private constructor(header: Bytes, key: CryptoKey, nonce: Bytes) {
    this.header = header;
    this.#key = key;
    this.#nonce = nonce;
  }

  /**
   * @param inputKey random bytes
   * @param salt never twice with the same key for different plaintexts
   * @param context what the message is for; it does not decrypt under another one
   */
  static async derive(inputKey: Bytes, salt: Bytes, context: Bytes): Promise<Message> {
    if (inputKey.length !== KEY) throw new RangeError(`the key must have ${KEY} bytes`);
    if (salt.length !== SALT) throw new RangeError(`the salt must have ${SALT} bytes`);
    const label = utf8('c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0');
    const derived = await expand(inputKey, concat([label, salt, context]), KEY + NONCE + COMMITMENT);
    const key = await crypto.subtle.importKey('raw', derived.slice(0, KEY), 'AES-GCM', false, ['encrypt', 'decrypt']);
    const header = concat([salt, derived.subarray(KEY + NONCE)]);
    return new Message(header, key, derived.slice(KEY, KEY + NONCE));
  }

  /** @param header of the ciphertext. @throws NotAuthentic when the key, the salt or the context is another one */
  static async open(inputKey: Bytes, header: Bytes, context: Bytes): Promise<Message> {
    const message = await Message.derive(inputKey, header.slice(0, SALT), context);
    if (!equal(message.header, header)) throw new NotAuthentic('the commitment is that of another key');
    return message;
  }

  /**
   * Encrypts chunks that follow each other, at the same time.
   * @param first number of the first one
   * @param endsMessage whether the last byte is that of the message; else the chunks must be whole
   */
  async seal(first: number, plaintext: Bytes, endsMessage: boolean): Promise<Bytes> {
    const whole = Math.floor(plaintext.length / CHUNK);
    if (!endsMessage && whole * CHUNK !== plaintext.length) throw new RangeError('only the last chunk is shorter');
    const chunks = Array.from({ length: whole + (endsMessage ? 1 : 0) }, (_, index) =>
      crypto.subtle.encrypt(this.#of(first + index), this.#key, plaintext.subarray(index * CHUNK, (index + 1) * CHUNK)),
    );
    return concat((await Promise.all(chunks)).map((chunk) => new Uint8Array(chunk)));
  }

  /**
   * Decrypts chunks that follow each other, at the same time.
   * @param sealed whole chunks, of which the last may be the last of the message
   * @throws NotAuthentic; then nothing of them is given out
   */
  async unseal(first: number, sealed: Bytes): Promise<Bytes> {
    const count = Math.ceil(sealed.length / SEALED_CHUNK);
    const chunks = Array.from({ length: count }, (_, index) => {
      const chunk = sealed.subarray(index * SEALED_CHUNK, (index + 1) * SEALED_CHUNK);
      return crypto.subtle.decrypt(this.#of(first + index), this.#key, chunk);
    });
    try {
      return concat((await Promise.all(chunks)).map((chunk) => new Uint8Array(chunk)));
    } catch (cause) {
      throw new NotAuthentic(`one of the chunks ${first} to ${first + count - 1} is not what was encrypted`, { cause });
    }
  }

  #of(chunk: number): AesGcmParams {
    if (chunk >= MAX_CHUNKS) throw new RangeError('the message has too many chunks');
    const iv = this.#nonce.slice();
    const view = new DataView(iv.buffer);
    view.setUint32(NONCE - 4, view.getUint32(NONCE - 4) ^ (chunk % 2 ** 32));
    view.setUint8(NONCE - 5, view.getUint8(NONCE - 5) ^ Math.floor(chunk / 2 ** 32));
    return { name: 'AES-GCM', iv, tagLength: 8 * TAG };
  }
}

/** HKDF-Expand with SHA-512 (RFC 5869 section 2.3), which WebCrypto has only together with HKDF-Extract. */
export async function expand(key: Bytes, info: Bytes, length: number): Promise<Bytes> {
  const hmac = await crypto.subtle.importKey('raw', key, { name: 'HMAC', hash: 'SHA-512' }, false, ['sign']);
  const blocks: Bytes[] = [];
  for (let size = 0; size < length; size += 64) {
    const input = concat([blocks.at(-1) ?? new Uint8Array(), info, Uint8Array.of(blocks.length + 1)]);
    blocks.push(new Uint8Array(await crypto.subtle.sign('HMAC', hmac, input)));
  }
  return concat(blocks).slice(0, length);
}

export function utf8(text: string): Bytes {
  return new TextEncoder().encode(text);
}

export function concat(pieces: readonly Uint8Array[]): Bytes {
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

/** In a time that does not tell where they differ. */
export function equal(one: Uint8Array, other: Uint8Array): boolean {
  let difference = one.length ^ other.length;
  for (let index = 0; index < one.length; index++) difference |= (one[index] ?? 0) ^ (other[index] ?? 0);
  return difference === 0;
}
