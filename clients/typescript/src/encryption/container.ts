/**
 * An encrypted file as it is stored; docs/encryption.md describes it for other implementations.
 *
 *   magic (8) | length of the envelope (4) | length of the info (4) | envelope | info | content
 *
 * The envelope is an age file whose plaintext is the key of this file alone. Info and content are two messages of
 * Cobblestone-256 under that key, each with a context of its own: the info is JSON with the name, the type and the size,
 * padded with spaces, so that its length tells next to nothing.
 */
import { type Bytes, ciphertextSize, concat, Message, NotAuthentic, plaintextSize, SALT, utf8 } from './cobblestone.ts';
import { DecryptionFailed } from './failure.ts';

/** No text, and no other file begins so. The last byte is the version. */
const MAGIC = Uint8Array.of(0x8e, 0x53, 0x54, 0x4f, 0x57, 0x45, 0x4e, 0x01);
/** Bytes before the envelope. */
const FIXED = MAGIC.length + 8;
/** Bytes of all that comes before the content: it is read in one go. */
export const MAX_PREFIX = 65_536;
const MAX_INFO = ciphertextSize(8192);
/** The JSON is padded to a multiple of so many bytes. */
const PADDING = 256;

const INFO = utf8('stowage encrypted file v1 info');
export const CONTENT = utf8('stowage encrypted file v1 content');

/** What only those can read who have the key. */
export interface FileInfo {
  name: string;
  /** Media type; empty where it is not known. */
  type: string;
  /** Bytes of the plaintext. */
  size: number;
  /** Milliseconds since 1970. */
  lastModified?: number;
  /** Of the plaintext, in base64; see plaintext.ts. Tells the uploader whether it is the same file. */
  fingerprint: string;
}

/** What stands before the content. */
export interface Prefix {
  envelope: Bytes;
  info: Bytes;
  /** Bytes before the content. */
  length: number;
}

/** @throws RangeError when the name, or the recipients, are too many bytes */
export async function writePrefix(key: Bytes, envelope: Bytes, info: FileInfo): Promise<Bytes> {
  const json = utf8(JSON.stringify(info));
  const padded = new Uint8Array(Math.ceil(json.length / PADDING) * PADDING).fill(0x20);
  padded.set(json);
  const message = await Message.derive(key, crypto.getRandomValues(new Uint8Array(SALT)), INFO);
  const sealed = concat([message.header, await message.seal(0, padded, true)]);
  const lengths = new DataView(new ArrayBuffer(8));
  lengths.setUint32(0, envelope.length);
  lengths.setUint32(4, sealed.length);
  const prefix = concat([MAGIC, new Uint8Array(lengths.buffer), envelope, sealed]);
  if (prefix.length > MAX_PREFIX || sealed.length > MAX_INFO)
    throw new RangeError('the name is too long, or there are too many recipients');
  return prefix;
}

/** @param start of the file: MAX_PREFIX bytes, or all there are. @throws DecryptionFailed */
export function readPrefix(start: Bytes): Prefix {
  const { length } = start;
  if (length < FIXED || MAGIC.some((byte, index) => byte !== start[index]))
    throw new DecryptionFailed('not-encrypted', 'the file is not one that was encrypted by this format');
  const view = new DataView(start.buffer, start.byteOffset, length);
  const [envelope, info] = [view.getUint32(MAGIC.length), view.getUint32(MAGIC.length + 4)];
  const end = FIXED + envelope + info;
  if (end > MAX_PREFIX || info > MAX_INFO || plaintextSize(info) === undefined)
    throw new DecryptionFailed('damaged', 'the lengths at the beginning of the file are none that a writer makes');
  if (end > length) throw new DecryptionFailed('truncated', 'the file ends before its content');
  const endOfEnvelope = FIXED + envelope;
  return { envelope: start.slice(FIXED, endOfEnvelope), info: start.slice(endOfEnvelope, end), length: end };
}

/** @throws DecryptionFailed */
export async function openInfo(key: Bytes, sealed: Bytes): Promise<FileInfo> {
  const plaintext = await openWhole(key, sealed).catch((cause) => {
    if (!(cause instanceof NotAuthentic)) throw cause;
    throw new DecryptionFailed('damaged', 'the name of the file is not what was encrypted', { cause });
  });
  return parseInfo(new TextDecoder().decode(plaintext));
}

async function openWhole(key: Bytes, sealed: Bytes): Promise<Bytes> {
  const header = ciphertextSize(0) - 16;
  const message = await Message.open(key, sealed.slice(0, header), INFO);
  return message.unseal(0, sealed.slice(header));
}

/** Authentic, but whoever has a public key can write to it: so nothing of it is believed unseen. */
function parseInfo(json: string): FileInfo {
  let value: Record<string, unknown>;
  try {
    value = Object(JSON.parse(json));
  } catch (cause) {
    throw new DecryptionFailed('damaged', 'what describes the file is no JSON', { cause });
  }
  const { name, type, size, lastModified, fingerprint } = value;
  const isSound =
    typeof name === 'string' &&
    typeof type === 'string' &&
    typeof fingerprint === 'string' &&
    typeof size === 'number' &&
    Number.isSafeInteger(size) &&
    size >= 0;
  if (!isSound) throw new DecryptionFailed('damaged', 'what describes the file is incomplete');
  return { name, type, size, fingerprint, ...(typeof lastModified === 'number' && { lastModified }) };
}
