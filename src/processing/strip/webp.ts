/**
 * WebP, RFC 9649: chunks in a RIFF container, of which those of images, animation and colour stay, also within the frames of
 * an animation. The flags of the header tell which chunks there are, and the container how long it is.
 */
import type { Changes } from './changes.ts';
import { MAX_EXIF, onlyOrientationOf } from './exif.ts';
import { bytes, Unstrippable, type Walk } from './walk.ts';

const inFile = new Set(['VP8X', 'VP8 ', 'VP8L', 'ALPH', 'ANIM', 'ANMF', 'ICCP']);
const single = new Set(['VP8X', 'ANIM', 'ICCP']);
const inFrame = new Set(['VP8 ', 'VP8L', 'ALPH']);
/** Bytes of a frame before its chunks: place, extents, duration, flags. */
const FRAME_HEADER = 16;
/** Bytes of VP8X, which must have these, and of ANIM, which may have more. */
const HEADER_LENGTH = 10;
const ANIMATION_LENGTH = 6;
/** Flags of VP8X. */
const HAS_EXIF = 0x08;
const HAS_XMP = 0x04;

interface Chunk {
  type: string;
  at: number;
  body: number;
  /** Bytes of the content. */
  length: number;
  /** With the byte that makes its length even. */
  end: number;
}

interface Header {
  /** Where the flags of VP8X stand. */
  at: number;
  flags: number;
}

export function* webp(size: number, changes: Changes): Walk<void> {
  const riff = yield* bytes(0, 12);
  if (riff.toString('latin1', 0, 4) !== 'RIFF' || riff.toString('latin1', 8) !== 'WEBP')
    throw new Unstrippable('The file is no WebP.');
  const end = 8 + riff.readUInt32LE(4);
  if (end > size) throw new Unstrippable('The WebP is shorter than it says.');
  let header: Header | undefined;
  let hasExif = false;
  const seen = new Set<string>();
  yield* eachChunk(12, end, changes, function* (chunk) {
    // Of what belongs to the whole picture there is one; decoders pass over a second.
    const isSecond = single.has(chunk.type) && seen.has(chunk.type);
    seen.add(chunk.type);
    if (isSecond) changes.cut(chunk.at, chunk.end);
    else if (chunk.type === 'VP8X') header = yield* headerIn(chunk);
    else if (chunk.type === 'ANIM') yield* shorten(chunk, ANIMATION_LENGTH, changes);
    else if (chunk.type === 'ANMF') yield* frame(chunk, changes);
    // Only a file with this header may hold Exif.
    else if (chunk.type === 'EXIF' && header && !hasExif) hasExif = yield* exif(chunk, changes);
    else if (!inFile.has(chunk.type)) changes.cut(chunk.at, chunk.end);
  });
  if (header) changeFlags(header, hasExif, changes);
  changeLength(4, end - 8, changes.removed, changes);
  changes.cut(end, size);
}

function* headerIn({ body, length }: Chunk): Walk<Header> {
  if (length !== HEADER_LENGTH) throw new Unstrippable('The WebP has a header that cannot be read.');
  return { at: body, flags: (yield* bytes(body, 1)).readUInt8(0) };
}

function* shorten({ at, length, end }: Chunk, atMost: number, changes: Changes): Walk<void> {
  if (length <= atMost) return;
  const short = Buffer.from(yield* bytes(at, 8 + atMost));
  short.writeUInt32LE(atMost, 4);
  changes.replace(at, end, short);
}

function* eachChunk(
  from: number,
  end: number,
  changes: Changes,
  visit: (chunk: Chunk) => Walk<void> | undefined,
): Walk<void> {
  let at = from;
  while (end - at >= 8) {
    const head = yield* bytes(at, 8);
    const length = head.readUInt32LE(4);
    const chunk = {
      type: head.toString('latin1', 0, 4),
      at,
      body: at + 8,
      length,
      end: at + 8 + length + (length & 1),
    };
    if (chunk.end > end) throw new Unstrippable('The WebP has a chunk that runs past its end.');
    const walk = visit(chunk);
    if (walk) yield* walk;
    at = chunk.end;
  }
  changes.cut(at, end);
}

function* frame({ at, body, length, end }: Chunk, changes: Changes): Walk<void> {
  if (length < FRAME_HEADER) throw new Unstrippable('The WebP has a frame that cannot be read.');
  const before = changes.removed;
  yield* eachChunk(body + FRAME_HEADER, end, changes, (chunk) => {
    if (!inFrame.has(chunk.type)) changes.cut(chunk.at, chunk.end);
    return undefined;
  });
  changeLength(at + 4, length, changes.removed - before, changes);
}

/** @returns whether something is left of it */
function* exif({ at, body, length, end }: Chunk, changes: Changes): Walk<boolean> {
  const content = yield* bytes(body, Math.min(length, MAX_EXIF));
  const left = onlyOrientationOf(content);
  if (!left) changes.cut(at, end);
  else if (!content.equals(left)) {
    const chunk = Buffer.alloc(8 + left.length);
    chunk.write('EXIF', 'latin1');
    chunk.writeUInt32LE(left.length, 4);
    left.copy(chunk, 8);
    changes.replace(at, end, chunk);
  }
  return left !== undefined;
}

function changeFlags({ at, flags }: Header, hasExif: boolean, changes: Changes): void {
  const truth = (flags & ~(HAS_EXIF | HAS_XMP)) | (hasExif ? HAS_EXIF : 0);
  if (flags !== truth) changes.replace(at, at + 1, Buffer.from([truth]));
}

function changeLength(at: number, length: number, removed: number, changes: Changes): void {
  if (removed === 0) return;
  const field = Buffer.alloc(4);
  field.writeUInt32LE(length - removed);
  changes.replace(at, at + 4, field);
}
