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
/** Bytes of an integer, RFC 8794 section 7.2. */
const MAX_INTEGER = 8;

interface Element {
  id: number;
  /** Infinity when the size is unknown, as in live streams. */
  size: number;
}

/** What no element has: an identifier of more than four bytes, a size of more than eight (RFC 8794 sections 5 and 6). */
const UNREADABLE = 'The WebM has an element that cannot be read.';

/** Both numbers tell their own length by the leading zeros of their first byte; of the size that marker is dropped. */
function* element(): Generator<Request, Element, Buffer> {
  const [first = 0, second = 0] = yield* take(2);
  const idLength = Math.clz32(first) - 23;
  if (idLength > 4) throw new Fault(UNREADABLE);
  if (idLength === 1) return { id: first, size: yield* restOfSize(second) };
  const more = yield* take(idLength - 1);
  const id = (first * 256 + second) * 256 ** (idLength - 2) + (idLength > 2 ? more.readUIntBE(0, idLength - 2) : 0);
  return { id, size: yield* restOfSize(more[idLength - 2] ?? 0) };
}

/** A size of which the first byte was taken. One of nothing but ones is unknown. */
function* restOfSize(first: number): Generator<Request, number, Buffer> {
  const length = Math.clz32(first) - 23;
  if (length > 8) throw new Fault(UNREADABLE);
  const marker = 2 ** (8 - length);
  let size = first - marker;
  let unknown = size === marker - 1;
  if (length > 1)
    for (const byte of yield* take(length - 1)) {
      size = size * 256 + byte;
      unknown &&= byte === 0xff;
    }
  if (unknown) return Number.POSITIVE_INFINITY;
  if (!Number.isSafeInteger(size)) throw new Fault(UNREADABLE);
  return size;
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
      if (child.id === TRACKS && child.size !== Number.POSITIVE_INFINITY) {
        yield* addTrackTypes(position.offset + child.size, position, tracks);
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
      } else if (child.size === Number.POSITIVE_INFINITY) throw new Fault(UNREADABLE);
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

/** The types of the tracks that end there. They are walked like everything else, so that each element counts as a step. */
function* addTrackTypes(end: number, position: Position, types: Set<number>): Generator<Request, void, Buffer> {
  while (position.offset < end) {
    const entry = yield* trackElement(end, position);
    if (entry.id !== TRACK_ENTRY) {
      yield* skip(entry.size);
      continue;
    }
    const endOfEntry = position.offset + entry.size;
    while (position.offset < endOfEntry) {
      const { id, size } = yield* trackElement(endOfEntry, position);
      if (id === TRACK_TYPE && size <= MAX_INTEGER) types.add((yield* take(size)).at(-1) ?? 0);
      else yield* skip(size);
    }
  }
}

function* trackElement(end: number, position: Position): Generator<Request, Element, Buffer> {
  const child = yield* element();
  if (position.offset + child.size > end) throw new Fault('The tracks of the WebM are damaged.');
  return child;
}
