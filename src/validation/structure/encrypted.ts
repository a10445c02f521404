/**
 * Files that only those can read who have their key (docs/encryption.md): a magic number, two lengths, an age file with the
 * key, a message with name and type, and the content, a message of Cobblestone-256 (https://c2sp.org/chunked-encryption).
 * What can be checked without a key is where each begins, and that no byte is missing at the end.
 */
import { type Checker, Fault, type Position, rest, skip, take } from './walk.ts';

/** What such files are to the service, whatever is in them. */
export const ENCRYPTED_TYPE = 'application/vnd.stowage.encrypted';
/** The only ending their names may have. */
export const ENCRYPTED_EXTENSION = 'stowage';
const MAGIC = Buffer.from('8e53544f57454e01', 'hex');
/** Magic number, length of the age file, length of the message with the name. */
const FIXED = MAGIC.length + 8;
/** Bytes of all that comes before the content, at most. */
const MAX_PREFIX = 65_536;
/** https://age-encryption.org/v1 */
const AGE = Buffer.from('age-encryption.org/v1\n');

/** Bytes of Cobblestone-256: salt and commitment; a chunk; what authenticates it. */
const MESSAGE_HEADER = 24 + 32;
const TAG = 16;
const SEALED_CHUNK = 16_384 + TAG;

/** @param head of a file */
export function beginsEncrypted(head: Buffer): boolean {
  return head.subarray(0, MAGIC.length).equals(MAGIC);
}

/** A name that tells nothing: random digits. */
export function isOpaqueName(name: string): boolean {
  return /^[0-9a-f]{16,64}\.stowage$/.test(name);
}

/** Whether a message may have so many bytes. */
function isMessage(size: number): boolean {
  return size >= MESSAGE_HEADER + TAG && (size - MESSAGE_HEADER) % SEALED_CHUNK >= TAG;
}

const CUT = 'The encrypted file is cut: its content cannot have so many bytes. Send all of it.';

export function* encrypted(position: Position): Checker {
  const fixed = yield* take(FIXED);
  const [envelope, info] = lengthsIn(fixed);
  if (!(yield* take(AGE.length)).equals(AGE))
    throw new Fault('The encrypted file does not hold its key in age format.');
  yield* skip(envelope - AGE.length);
  yield* skip(info);
  const begin = position.offset;
  yield* rest();
  if (!isMessage(position.offset - begin)) throw new Fault(CUT);
}

/** @throws Fault */
function lengthsIn(fixed: Buffer): [envelope: number, info: number] {
  const [envelope, info] = [fixed.readUInt32BE(MAGIC.length), fixed.readUInt32BE(MAGIC.length + 4)];
  if (envelope <= AGE.length || !isMessage(info) || FIXED + envelope + info > MAX_PREFIX)
    throw new Fault('The encrypted file begins with lengths that no program writes.');
  return [envelope, info];
}

/**
 * What the size tells of a file of which only the beginning was looked at.
 * @param head sound, as far as it goes
 */
export function sizeFault(head: Buffer, size: number): string | undefined {
  const [envelope, info] = lengthsIn(head);
  return isMessage(size - FIXED - envelope - info) ? undefined : CUT;
}
