/**
 * The ISO base media file format (ISO 14496-12) and QuickTime, its ancestor: boxes of size and type, some of which hold
 * others. MP4, MOV, M4A, AVIF, HEIC and HEIF.
 */
import { checkAvif } from './images.ts';
import { type Checker, Fault, type Position, type Request, rest, skip, take, takeUpTo } from './walk.ts';

/** A file type box lists brands, four bytes each; more than this is none. */
const MAX_FILE_TYPE = 4096;

interface Box {
  type: string;
  /** Offset of its end; Infinity when it reaches to the end of the file. */
  end: number;
}

type Visit = (box: Box) => Generator<Request, void, Buffer>;

/** The file itself holds boxes as a box does. */
const FILE: Box = { type: 'file', end: Number.POSITIVE_INFINITY };

/** Visits each box that the parent holds, and passes over what the visit leaves. */
function* children(parent: Box, position: Position, visit: Visit): Generator<Request, void, Buffer> {
  // QuickTime may end a container with four bytes of zero.
  while (parent.end - position.offset >= 8) {
    const box = yield* nextBox(parent, position);
    if (!box) return;
    yield* visit(box);
    // Whatever follows a box that reaches to the end of the file is inside it.
    if (box.end === Number.POSITIVE_INFINITY) yield* rest();
    else yield* skip(box.end - position.offset);
  }
  yield* skip(parent.end - position.offset);
}

/** Visits the boxes at the end of a path of types. Its length bounds the depth, whatever the file nests. */
function* descend(parent: Box, position: Position, path: string[], visit: Visit): Generator<Request, void, Buffer> {
  const [type, ...deeper] = path;
  yield* children(parent, position, function* (box) {
    if (box.type !== type) return;
    if (deeper.length === 0) yield* visit(box);
    else yield* descend(box, position, deeper, visit);
  });
}

/** @returns undefined where a parent that reaches to the end of the file ends */
function* nextBox(parent: Box, position: Position): Generator<Request, Box | undefined, Buffer> {
  const start = position.offset;
  const head = yield* parent.end === Number.POSITIVE_INFINITY ? takeUpTo(8) : take(8);
  // Some writers leave a few bytes of zero behind the last box.
  if ((head[0] ?? 0) === 0 && start > 0 && parent.end === Number.POSITIVE_INFINITY && head.every((byte) => byte === 0))
    return undefined;
  if (head.length < 8) throw new Fault('The file ends in the middle of a box. It is cut, or not what it seems.');
  const size = head.readUInt32BE(0);
  const type = head.toString('latin1', 4, 8);
  let end = start + size;
  if (size === 1) end = start + Number((yield* take(8)).readBigUInt64BE(0));
  else if (size === 0) end = parent.end;
  const readable = end >= position.offset && (end === Number.POSITIVE_INFINITY || Number.isSafeInteger(end));
  if (!readable || end > parent.end || !/^[\x20-\x7e\xa9][\x20-\x7e]{3}$/.test(type))
    throw new Fault('The file has a box that cannot be read, or runs past the one that holds it.');
  return { type, end };
}

function checkFileType(box: Box, position: Position): void {
  if (box.type === 'ftyp' && box.end - position.offset > MAX_FILE_TYPE)
    throw new Fault('The file type box is too large to be one.');
}

/** Whether the box holds anything at all. */
function* isFilled(box: Box, position: Position): Generator<Request, boolean, Buffer> {
  return box.end > position.offset && (yield* takeUpTo(1)).length > 0;
}

/** What the first box of a movie may be. */
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

/** @param audioOnly whether a video track is a fault */
export function movie(audioOnly: boolean) {
  return function* check(position: Position): Checker {
    const found = { first: false, movie: false, media: false, sound: false, track: false };
    yield* children(FILE, position, function* (box) {
      if (!found.first && !topLevel.has(box.type)) throw new Fault('The file does not begin with a box of a movie.');
      found.first = true;
      checkFileType(box, position);
      if (box.type === 'mdat' || box.type === 'imda') found.media ||= yield* isFilled(box, position);
      if (box.type !== 'moov') return;
      found.movie = true;
      yield* descend(box, position, ['trak', 'mdia', 'hdlr'], function* (handler) {
        if (handler.end - position.offset < 12) throw new Fault('The movie has a track that cannot be read.');
        const type = (yield* take(12)).toString('latin1', 8);
        if (audioOnly && type === 'vide') throw new Fault('The file holds a video track, so it is no audio file.');
        found.track = true;
        found.sound ||= type === 'soun';
      });
    });
    if (!found.movie) throw new Fault('The file has no movie box. It is cut, or was never finished.');
    if (!found.media) throw new Fault('The file has no media data.');
    if (!found.track) throw new Fault('The movie has no track.');
    if (audioOnly && !found.sound) throw new Fault('The file has no sound track.');
  };
}

/** AVIF and HEIF (ISO 23008-12): an item or a sequence, whose extents (`ispe`) stand in the metadata. */
export function stillPicture(format: 'AVIF' | 'HEIC' | 'HEIF') {
  return function* check(position: Position): Checker {
    const found = { metadata: false, movie: false, media: false };
    let largest = { width: 0, height: 0 };
    function* extent(box: Box): Generator<Request, void, Buffer> {
      if (box.end - position.offset < 12) throw new Fault(`The ${format} has a size that cannot be read.`);
      const seen = yield* take(12);
      const [width, height] = [seen.readUInt32BE(4), seen.readUInt32BE(8)];
      checkAvif(width, height, Number.POSITIVE_INFINITY);
      if (width * height > largest.width * largest.height) largest = { width, height };
    }
    yield* children(FILE, position, function* (box) {
      checkFileType(box, position);
      if (box.type === 'mdat') found.media ||= yield* isFilled(box, position);
      found.movie ||= box.type === 'moov';
      if (box.type !== 'meta' || box.end - position.offset < 4) return;
      found.metadata = true;
      yield* skip(4);
      yield* children(box, position, function* (inner) {
        if (inner.type === 'idat') found.media ||= yield* isFilled(inner, position);
        if (inner.type === 'iprp') yield* descend(inner, position, ['ipco', 'ispe'], extent);
      });
    });
    if (!found.metadata && !found.movie) throw new Fault(`The ${format} has no metadata.`);
    if (!found.media) throw new Fault(`The ${format} has no image data.`);
    if (!found.metadata) return;
    if (largest.width === 0) throw new Fault(`The ${format} does not tell its size.`);
    checkAvif(largest.width, largest.height, position.offset);
  };
}
