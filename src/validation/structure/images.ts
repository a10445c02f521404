/** Raster images: sound to their end mark, and not larger in pixels than their bytes can be honest about. */
import { crc32 } from 'node:zlib';
import { type Checker, Fault, find, type Position, type Request, skip, skipBlocks, take } from './walk.ts';

/** Pixels of the largest image: 16,384 squared. Decoders need four bytes for each. */
export const MAX_IMAGE_PIXELS = 2 ** 28;
/** Up to here an image may be as small as it likes: one colour compresses to almost nothing. */
const HONEST_PIXELS = 2 ** 24;
/**
 * Above, so many pixels per byte are the most that is believed. One colour in lossless WebP reaches 26,000, in AVIF
 * 175,000 as the image grows. libwebp at its fastest setting writes one colour of any size in 38 bytes: above
 * HONEST_PIXELS that cannot be told from a bomb, and is refused.
 */
const PIXELS_PER_BYTE = 2 ** 15;
const PIXELS_PER_BYTE_AVIF = 2 ** 18;

/** @throws Fault for no pixels, too many, or more than `bytes` of compressed data can be honest about */
function checkPixels(width: number, height: number, bytes: number, perByte = PIXELS_PER_BYTE): void {
  const pixels = width * height;
  if (pixels === 0) throw new Fault('The image has no pixels.');
  if (pixels > MAX_IMAGE_PIXELS)
    throw new Fault(`The image claims ${width} by ${height} pixels; at most ${MAX_IMAGE_PIXELS} pixels are taken.`);
  if (pixels > HONEST_PIXELS && pixels > bytes * perByte)
    throw new Fault(`The image claims ${width} by ${height} pixels, which its few bytes cannot hold.`);
}

/** PNG, third edition: chunks of length, type, data and CRC from IHDR to IEND. APNG has more chunk types. */
export function* png(): Checker {
  yield* take(8);
  const header = yield* take(8 + 13 + 4);
  if (header.readUInt32BE(0) !== 13 || header.toString('latin1', 4, 8) !== 'IHDR')
    throw new Fault('The PNG does not begin with an image header.');
  if (crc32(header.subarray(4, 21)) !== header.readUInt32BE(21)) throw new Fault('The header of the PNG is damaged.');
  const [width, height, depth, colour] = [
    header.readUInt32BE(8),
    header.readUInt32BE(12),
    header[16] ?? 0,
    header[17] ?? 0,
  ];
  const channels = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 }[colour];
  if (channels === undefined || ![1, 2, 4, 8, 16].includes(depth))
    throw new Fault('The PNG has a colour type that does not exist.');
  checkPixels(width, height, Number.POSITIVE_INFINITY);
  let data = 0;
  for (;;) {
    const chunk = yield* take(8);
    const [length, type] = [chunk.readUInt32BE(0), chunk.toString('latin1', 4)];
    if (!/^[A-Za-z]{4}$/.test(type) || length > 0x7fffffff) throw new Fault('The PNG has a chunk that cannot be read.');
    if (type === 'IEND') break;
    if (type === 'IDAT') data += length;
    yield* skip(length + 4);
  }
  yield* skip(4);
  // Deflate makes at most 1032 bytes of one (RFC 1951), and the rows are known exactly.
  const rows = height * (1 + Math.ceil((width * depth * channels) / 8));
  if (data === 0) throw new Fault('The PNG has no image data.');
  if (data * 1032 + 1032 < rows)
    throw new Fault(`The PNG claims ${width} by ${height} pixels, which its few bytes cannot hold.`);
}

const END_OF_IMAGE = Buffer.from([0xff, 0xd9]);

/** JPEG, ITU-T T.81 annex B: marker segments up to the first scan, then entropy-coded data to the end of the image. */
export function* jpeg(position: Position): Checker {
  yield* take(2);
  let pixels = 0;
  let leastData = 0;
  for (;;) {
    const marker = yield* nextMarker();
    if (marker === 0xd9) throw new Fault('The JPEG ends before it shows anything.');
    if (marker === 0x01 || (marker >= 0xd0 && marker <= 0xd7)) continue;
    const length = (yield* take(2)).readUInt16BE(0) - 2;
    if (length < 0) throw new Fault('The JPEG has a segment that cannot be read.');
    const isFrame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    if (isFrame) {
      if (length < 6) throw new Fault('The JPEG has a frame that cannot be read.');
      const frame = yield* take(6);
      const [height, width] = [frame.readUInt16BE(1), frame.readUInt16BE(3)];
      checkPixels(width, height, Number.POSITIVE_INFINITY);
      pixels = width * height;
      // A block of 64 pixels takes a bit at least; half of that is believed. Arithmetic coding may take less.
      leastData = marker >= 0xc9 ? 1 : pixels / 1024;
      yield* skip(length - 6);
    } else yield* skip(length);
    if (marker === 0xda) break;
  }
  if (pixels === 0) throw new Fault('The JPEG has a scan but no frame.');
  const start = position.offset;
  // In entropy-coded data 0xFF is always followed by 0x00 or a restart marker. What follows the end is left alone: phones append to it.
  if (!(yield* find(END_OF_IMAGE))) throw new Fault('The JPEG has no end. It is cut.');
  const data = position.offset - start - 2;
  if (data === 0 || data < leastData) throw new Fault('The JPEG has fewer data than its pixels need.');
}

/** The code of the next marker; any number of 0xFF may stand before it. */
function* nextMarker(): Generator<Request, number, Buffer> {
  const [first, second = 0] = yield* take(2);
  let marker = second;
  while (first === 0xff && marker === 0xff) [marker = 0] = yield* take(1);
  if (first !== 0xff || marker === 0x00) throw new Fault('The JPEG has something between its segments.');
  return marker;
}

/** GIF89a: blocks of sub-blocks up to the trailer. */
export function* gif(position: Position): Checker {
  const screen = (yield* take(13)).subarray(6);
  const [width, height, flags] = [screen.readUInt16LE(0), screen.readUInt16LE(2), screen[4] ?? 0];
  checkPixels(width, height, Number.POSITIVE_INFINITY);
  yield* skip(colourTable(flags));
  let data = 0;
  for (;;) {
    const [block] = yield* take(1);
    if (block === 0x3b) break;
    if (block === 0x21) {
      yield* skip(1);
      yield* skipBlocks();
    } else if (block === 0x2c) {
      const image = yield* take(9);
      checkPixels(image.readUInt16LE(4), image.readUInt16LE(6), Number.POSITIVE_INFINITY);
      yield* skip(colourTable(image[8] ?? 0) + 1);
      const start = position.offset;
      yield* skipBlocks();
      data += position.offset - start - 1;
    } else throw new Fault('The GIF has a block that does not exist.');
  }
  if (data === 0) throw new Fault('The GIF has no image.');
  // A code of LZW stands for at most 4096 pixels, and has at least 3 bits.
  if (width * height > HONEST_PIXELS && data * 11_000 < width * height)
    throw new Fault(`The GIF claims ${width} by ${height} pixels, which its few bytes cannot hold.`);
}

function colourTable(flags: number): number {
  return flags & 0x80 ? 3 * 2 ** ((flags & 7) + 1) : 0;
}

interface WebPCanvas {
  width: number;
  height: number;
  /** Bytes of compressed images. */
  data: number;
}

/** WebP, RFC 9649: a RIFF container with VP8, VP8L or an extended file. */
export function* webp(position: Position): Checker {
  const riff = yield* take(12);
  const canvas = { width: 0, height: 0, data: 0 };
  yield* webpChunks(8 + riff.readUInt32LE(4), position, canvas, false);
  if (canvas.data === 0) throw new Fault('The WebP has no image.');
  checkPixels(canvas.width, canvas.height, canvas.data);
}

/** Chunks of the file, or of one frame of its animation. */
function* webpChunks(
  end: number,
  position: Position,
  canvas: WebPCanvas,
  inFrame: boolean,
): Generator<Request, void, Buffer> {
  while (end - position.offset >= 8) {
    const chunk = yield* take(8);
    const [type, size] = [chunk.toString('latin1', 0, 4), chunk.readUInt32LE(4)];
    const next = position.offset + size + (size & 1);
    if (next > end) throw new Fault('The WebP has a chunk that runs past its end.');
    if (type === 'VP8X' && !inFrame) {
      if (size < 10) throw new Fault('The WebP has a header that cannot be read.');
      const header = yield* take(10);
      [canvas.width, canvas.height] = [1 + header.readUIntLE(4, 3), 1 + header.readUIntLE(7, 3)];
    } else if (type === 'ANMF' && !inFrame) {
      if (size < 16) throw new Fault('The WebP has a frame that cannot be read.');
      const frame = yield* take(16);
      checkOnCanvas(1 + frame.readUIntLE(6, 3), 1 + frame.readUIntLE(9, 3), canvas);
      yield* webpChunks(next, position, canvas, true);
    } else if (type === 'VP8 ' || type === 'VP8L') {
      const seen = yield* take(Math.min(16, next - position.offset));
      const [width, height] = type === 'VP8L' ? losslessSize(seen) : lossySize(seen);
      checkPixels(width, height, size);
      if (canvas.width === 0) [canvas.width, canvas.height] = [width, height];
      checkOnCanvas(width, height, canvas);
      canvas.data += size;
    }
    yield* skip(next - position.offset);
  }
  yield* skip(end - position.offset);
}

function checkOnCanvas(width: number, height: number, canvas: WebPCanvas): void {
  if (width > canvas.width || height > canvas.height)
    throw new Fault('The WebP has an image that is larger than its canvas.');
}

function losslessSize(seen: Buffer): [number, number] {
  if (seen.length < 6 || seen[0] !== 0x2f) throw new Fault('The WebP has an image that cannot be read.');
  const bits = seen.readUInt32LE(1);
  return [1 + (bits & 0x3fff), 1 + ((bits >>> 14) & 0x3fff)];
}

function lossySize(seen: Buffer): [number, number] {
  if (seen.length < 11 || seen.readUIntBE(3, 3) !== 0x9d012a)
    throw new Fault('The WebP has an image that cannot be read.');
  return [seen.readUInt16LE(6) & 0x3fff, seen.readUInt16LE(8) & 0x3fff];
}

/** For AVIF, whose container is that of MP4. */
export function checkAvif(width: number, height: number, bytes: number): void {
  checkPixels(width, height, bytes, PIXELS_PER_BYTE_AVIF);
}
