/**
 * The ISO base media file format (ISO 14496-12) and QuickTime, its ancestor: boxes of size and type, some of which hold
 * others. MP4, MOV, M4A and AVIF.
 */
import { checkAvif } from './images.ts';
import { type Checker, Fault, type Position, type Request, rest, skip, take } from './walk.ts';

/** A file type box lists brands, four bytes each; more than this is none. */
const LARGEST_FILE_TYPE = 4096;

interface Box {
  type: string;
  /** Offset of its end; Infinity when it reaches to the end of the file. */
  end: number;
}

function* nextBox(position: Position, parentEnd: number): Generator<Request, Box, Buffer> {
  const start = position.offset;
  const head = yield* take(8);
  const type = head.toString('latin1', 4);
  let size = head.readUInt32BE(0);
  if (size === 1) size = Number((yield* take(8)).readBigUInt64BE(0));
  else if (size === 0) size = parentEnd - start;
  if (!/^[\x20-\x7e\xa9][\x20-\x7e]{3}$/.test(type) || size < position.offset - start || start + size > parentEnd) {
    throw new Fault('The file has a box that cannot be read, or runs past the one that holds it.');
  }
  return { type, end: start + size };
}

/** Whatever follows a box that reaches to the end of the file is inside it. */
function* passOver(box: Box, position: Position): Generator<Request, void, Buffer> {
  if (box.end === Number.POSITIVE_INFINITY) yield* rest();
  else yield* skip(box.end - position.offset);
}

const topLevel = new Set([
  'ftyp',
  'styp',
  'moov',
  'moof',
  'mdat',
  'free',
  'skip',
  'wide',
  'uuid',
  'sidx',
  'ssix',
  'mfra',
  'meta',
  'pdin',
  'emsg',
  'prft',
  'udta',
  'pnot',
  'meco',
  'junk',
  'pict',
  'PICT',
  'bloc',
  'imda',
  'strk',
]);
const containers = new Set(['moov', 'trak', 'mdia']);

/** @param audioOnly whether a video track is a fault */
export function movie(audioOnly: boolean) {
  return function* check(position: Position): Checker {
    const found = new Set<string>();
    const tracks = new Set<string>();
    for (let first = true; ; first = false) {
      const more = yield* atEnd(position, first);
      if (!more) break;
      found.add(more.type);
      if (!topLevel.has(more.type) && first) throw new Fault('The file does not begin with a box of a movie.');
      if (more.type === 'ftyp' && more.end - position.offset > LARGEST_FILE_TYPE)
        throw new Fault('The file type box is too large to be one.');
      if (more.type === 'moov') yield* walkMovie(more.end, position, tracks);
      else yield* passOver(more, position);
      if (audioOnly && tracks.has('vide')) throw new Fault('The file holds a video track, so it is no audio file.');
      if (more.end === Number.POSITIVE_INFINITY) break;
    }
    if (!found.has('moov')) throw new Fault('The file has no movie box. It is cut, or was never finished.');
    if (!found.has('mdat') && !found.has('moof') && !found.has('imda')) throw new Fault('The file has no media data.');
    if (tracks.size === 0) throw new Fault('The movie has no track.');
    if (audioOnly && !tracks.has('soun')) throw new Fault('The file has no sound track.');
  };
}

/** The next top-level box, or undefined where the file ends between two. */
function* atEnd(position: Position, first: boolean): Generator<Request, Box | undefined, Buffer> {
  const start = position.offset;
  const head = yield { kind: 'takeUpTo', count: 8 };
  // Some writers leave a few bytes of zero behind the last box.
  if (!first && (head.length < 8 || head.every((byte) => byte === 0))) {
    if (head.every((byte) => byte === 0)) return undefined;
    throw new Fault('The file ends in the middle of its structure. It is cut, or not what it seems.');
  }
  if (head.length < 8) throw new Fault('The file is too short for what it seems to be.');
  const type = head.toString('latin1', 4);
  let size = head.readUInt32BE(0);
  if (size === 1) size = Number((yield* take(8)).readBigUInt64BE(0));
  else if (size === 0) size = Number.POSITIVE_INFINITY;
  if (
    !/^[\x20-\x7e\xa9][\x20-\x7e]{3}$/.test(type) ||
    size < position.offset - start ||
    (size !== Number.POSITIVE_INFINITY && !Number.isSafeInteger(size))
  ) {
    throw new Fault('The file has a box that cannot be read.');
  }
  return { type, end: start + size };
}

/** Finds the handlers of the tracks: `vide`, `soun`, and others. */
function* walkMovie(end: number, position: Position, tracks: Set<string>): Generator<Request, void, Buffer> {
  while (position.offset < end) {
    // QuickTime may end a container with four bytes of zero.
    if (end - position.offset < 8) return yield* skip(end - position.offset);
    const box = yield* nextBox(position, end);
    if (box.type === 'hdlr' && box.end - position.offset >= 12) {
      const handler = (yield* take(12)).toString('latin1', 8);
      tracks.add(handler);
    }
    if (containers.has(box.type)) yield* walkMovie(box.end, position, tracks);
    else yield* passOver(box, position);
  }
}

/** AVIF: an item or a sequence, whose extents (`ispe`) stand in the metadata. */
export function* avif(position: Position): Checker {
  const found = new Set<string>();
  const extents: { width: number; height: number }[] = [];
  for (let first = true; ; first = false) {
    const box = yield* atEnd(position, first);
    if (!box) break;
    found.add(box.type);
    if (box.type === 'ftyp' && box.end - position.offset > LARGEST_FILE_TYPE)
      throw new Fault('The file type box is too large to be one.');
    if (box.type === 'meta' && box.end !== Number.POSITIVE_INFINITY) {
      yield* skip(4);
      yield* walkMetadata(box.end, position, extents);
    } else yield* passOver(box, position);
    if (box.end === Number.POSITIVE_INFINITY) break;
  }
  if (!found.has('meta') && !found.has('moov')) throw new Fault('The AVIF has no metadata.');
  if (!found.has('mdat') && !found.has('idat')) throw new Fault('The AVIF has no image data.');
  if (found.has('meta') && extents.length === 0) throw new Fault('The AVIF does not tell its size.');
  for (const { width, height } of extents) checkAvif(width, height, position.offset);
}

function* walkMetadata(
  end: number,
  position: Position,
  extents: { width: number; height: number }[],
): Generator<Request, void, Buffer> {
  while (position.offset < end) {
    const box = yield* nextBox(position, end);
    if (box.type === 'ispe' && box.end - position.offset >= 12) {
      const seen = yield* take(12);
      extents.push({ width: seen.readUInt32BE(4), height: seen.readUInt32BE(8) });
    }
    if (box.type === 'iprp' || box.type === 'ipco') yield* walkMetadata(box.end, position, extents);
    else yield* passOver(box, position);
  }
}
