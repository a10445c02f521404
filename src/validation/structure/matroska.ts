/** WebM: EBML (RFC 8794) elements of the Matroska kind (RFC 9559), from the header to the first cluster and on to the end. */
import { type Checker, Fault, type Position, type Request, rest, skip, take, takeUpTo } from './walk.ts';

const EBML = 0x1a45dfa3;
const DOC_TYPE = 0x4282;
const SEGMENT = 0x18538067;
const CLUSTER = 0x1f43b675;
const TRACKS = 0x1654ae6b;
const TRACK_ENTRY = 0xae;
const TRACK_TYPE = 0x83;
const VIDEO = 1;
const AUDIO = 2;
const MAX_HEADER = 4096;
/** Tracks with the set-up of their codecs. */
const MAX_TRACKS = 64 * 1024;

interface Element {
  id: number;
  /** Infinity when the size is unknown, as in live streams. */
  size: number;
}

function* element(): Generator<Request, Element, Buffer> {
  return { id: yield* number(false), size: yield* number(true) };
}

/** A number whose first byte tells its length by leading zeros; `size` drops the marker and knows "unknown". */
function* number(size: boolean): Generator<Request, number, Buffer> {
  const [first = 0] = yield* take(1);
  const length = Math.clz32(first) - 23;
  if (length > (size ? 8 : 4)) throw new Fault('The WebM has an element that cannot be read.');
  const more = length > 1 ? yield* take(length - 1) : Buffer.alloc(0);
  const marker = 2 ** (8 - length);
  let value = size ? first - marker : first;
  let unknown = size && first === 2 * marker - 1;
  for (const byte of more) {
    value = value * 256 + byte;
    unknown &&= byte === 0xff;
  }
  if (unknown) return Number.POSITIVE_INFINITY;
  if (!Number.isSafeInteger(value)) throw new Fault('The WebM has an element that cannot be read.');
  return value;
}

/** @param audioOnly whether a video track is a fault */
export function webm(audioOnly: boolean) {
  return function* check(position: Position): Checker {
    yield* header(position);
    const segment = yield* element();
    if (segment.id !== SEGMENT) throw new Fault('The WebM has no segment.');
    const end = position.offset + segment.size;
    let clusters = 0;
    const tracks = new Set<number>();
    while (position.offset < end) {
      if (end === Number.POSITIVE_INFINITY && clusters > 0) {
        // Live streams just stop.
        yield* rest();
        break;
      }
      const child = yield* element();
      if (child.size !== Number.POSITIVE_INFINITY && position.offset + child.size > end)
        throw new Fault('The WebM has an element that runs past its end.');
      if (child.id === TRACKS && child.size <= MAX_TRACKS) {
        for (const type of yield* trackTypes(child.size)) tracks.add(type);
        if (audioOnly && tracks.has(VIDEO)) throw new Fault('The file holds a video track, so it is no audio file.');
      } else if (child.id === CLUSTER) {
        clusters += 1;
        if (child.size === Number.POSITIVE_INFINITY) {
          if ((yield* takeUpTo(1)).length === 0) throw new Fault('The WebM has an empty cluster.');
          yield* rest();
          break;
        }
        if (child.size === 0) throw new Fault('The WebM has an empty cluster.');
        yield* skip(child.size);
      } else if (child.size === Number.POSITIVE_INFINITY)
        throw new Fault('The WebM has an element that cannot be read.');
      else yield* skip(child.size);
    }
    if (clusters === 0) throw new Fault('The WebM has no cluster, so there is nothing to play.');
    if (!tracks.has(VIDEO) && !tracks.has(AUDIO)) throw new Fault('The WebM has no track.');
  };
}

function* header(position: Position): Generator<Request, void, Buffer> {
  const ebml = yield* element();
  if (ebml.id !== EBML || ebml.size > MAX_HEADER) throw new Fault('The WebM has no header.');
  const end = position.offset + ebml.size;
  let docType = '';
  while (position.offset < end) {
    const child = yield* element();
    if (position.offset + child.size > end) throw new Fault('The header of the WebM is damaged.');
    if (child.id === DOC_TYPE) docType = (yield* take(child.size)).toString('latin1').replace(/\0+$/, '');
    else yield* skip(child.size);
  }
  if (docType !== 'webm') throw new Fault('The file is Matroska of another kind than WebM.');
}

function* trackTypes(size: number): Generator<Request, Set<number>, Buffer> {
  const bytes = yield* take(size);
  const types = new Set<number>();
  for (const entry of children(bytes)) {
    if (entry.id !== TRACK_ENTRY) continue;
    for (const { id, content } of children(entry.content)) if (id === TRACK_TYPE) types.add(content.at(-1) ?? 0);
  }
  return types;
}

/** Elements of a master element that is in memory. */
function* children(bytes: Buffer): Generator<{ id: number; content: Buffer }> {
  for (let at = 0; at < bytes.length; ) {
    const idLength = Math.clz32(bytes[at] ?? 0) - 23;
    const sizeLength = Math.clz32(bytes[at + idLength] ?? 0) - 23;
    if (idLength > 4 || sizeLength > 8 || at + idLength + sizeLength > bytes.length)
      throw new Fault('The tracks of the WebM are damaged.');
    const id = bytes.readUIntBE(at, idLength);
    const marked = bytes
      .subarray(at + idLength, at + idLength + sizeLength)
      .reduce((value, byte) => value * 256n + BigInt(byte), 0n);
    const size = Number(BigInt.asUintN(7 * sizeLength, marked));
    const start = at + idLength + sizeLength;
    if (start + size > bytes.length) throw new Fault('The tracks of the WebM are damaged.');
    yield { id, content: bytes.subarray(start, start + size) };
    at = start + size;
  }
}
