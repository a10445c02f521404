/**
 * JPEG, ITU-T T.81 annex B: segments, between which the scans lie. Only what a decoder needs is kept, and with it the colour
 * profile; progressive pictures have segments between their scans too, so all of them are walked.
 *
 * Whatever follows the end of the image goes: phones append films there (motion photos), and whole pictures with an Exif of
 * their own: previews (MPF) and the gain map of Ultra HDR.
 */
import type { Changes } from './changes.ts';
import { EXIF_PREFIX, MAX_EXIF, onlyOrientationOf, startsWith } from './exif.ts';
import { bytes, Unstrippable, view, type Walk } from './walk.ts';

const START_OF_IMAGE = 0xd8;
const END_OF_IMAGE = 0xd9;
const START_OF_SCAN = 0xda;
const APP0 = 0xe0;
const APP1 = 0xe1;
const APP2 = 0xe2;
const APP14 = 0xee;

const JFIF = Buffer.from('JFIF\0', 'latin1');
/** With its length, without a thumbnail. */
const JFIF_LENGTH = 16;
const ICC_PROFILE = Buffer.from('ICC_PROFILE\0', 'latin1');
/** Tells how the colours are transformed. */
const ADOBE = Buffer.from('Adobe', 'latin1');
const ADOBE_LENGTH = 14;

/** What a segment may say at most, beside its marker. */
interface Segment {
  marker: number;
  /** Where it begins, with the marker; where its content begins; where it ends. */
  at: number;
  body: number;
  end: number;
}

export function* jpeg(size: number, changes: Changes): Walk<void> {
  if ((yield* bytes(0, 2)).readUInt16BE(0) !== 0xff00 + START_OF_IMAGE) throw new Unstrippable('The file is no JPEG.');
  let hasExif = false;
  for (let at = 2; ; ) {
    const found = yield* nextMarker(at);
    // A decoder passes over what stands between two segments; any number of 0xFF may.
    if (!found.isFill) changes.cut(at, found.at);
    if (found.marker === END_OF_IMAGE) return changes.cut(found.at + 2, size);
    const segment = yield* segmentAt(found.at, found.marker, size);
    if (segment.marker === APP1) hasExif = (yield* exif(segment, changes, hasExif)) || hasExif;
    else yield* keepWhatIsNeeded(segment, changes);
    at = segment.marker === START_OF_SCAN ? (yield* nextMarker(segment.end)).at : segment.end;
  }
}

/** Passes over the data of a scan, in which a zero or the number of a restart follows each 0xFF. */
function* nextMarker(from: number): Walk<{ at: number; marker: number; isFill: boolean }> {
  let isFill = true;
  for (let at = from; ; ) {
    const seen = yield* view(at, 2);
    let index = 0;
    while (index + 1 < seen.length) {
      const next = seen.indexOf(0xff, index);
      if (next !== index) isFill = false;
      index = next === -1 ? seen.length : next;
      const marker = seen[index + 1];
      if (marker === undefined) break;
      if (marker === 0xff) index += 1;
      else if (!standsAlone(marker)) return { at: at + index, marker, isFill };
      else {
        isFill = false;
        index += 2;
      }
    }
    at += index;
  }
}

/** No segment, but a stuffed zero, a restart, or TEM. */
function standsAlone(marker: number): boolean {
  return marker <= 0x01 || (marker >= 0xd0 && marker <= 0xd7);
}

function* segmentAt(at: number, marker: number, size: number): Walk<Segment> {
  if (marker === START_OF_IMAGE) throw new Unstrippable('The JPEG holds another before its end.');
  const length = (yield* bytes(at + 2, 2)).readUInt16BE(0);
  const end = at + 2 + length;
  if (length < 2 || end > size) throw new Unstrippable('The JPEG has a segment that cannot be read.');
  return { marker, at, body: at + 4, end };
}

/** Decoders believe the first Exif. @returns whether it is one */
function* exif({ at, body, end }: Segment, changes: Changes, hasExif: boolean): Walk<boolean> {
  const content = yield* bytes(body, Math.min(end - body, MAX_EXIF));
  const isExif = startsWith(content, EXIF_PREFIX);
  const left = isExif && !hasExif ? onlyOrientationOf(content) : undefined;
  if (!left) changes.cut(at, end);
  else if (!content.subarray(EXIF_PREFIX.length).equals(left)) {
    const head = Buffer.from([0xff, APP1, 0, 2 + EXIF_PREFIX.length + left.length]);
    changes.replace(at, end, Buffer.concat([head, EXIF_PREFIX, left]));
  }
  return isExif;
}

function* keepWhatIsNeeded(segment: Segment, changes: Changes): Walk<void> {
  const { marker, at, body, end } = segment;
  if (isOfImage(marker)) return yield* refuseLonger(segment);
  const start = yield* bytes(body, Math.min(end - body, JFIF_LENGTH));
  if (marker === APP0 && startsWith(start, JFIF)) yield* shorten(segment, JFIF_LENGTH, changes);
  else if (marker === APP14 && startsWith(start, ADOBE)) yield* shorten(segment, ADOBE_LENGTH, changes);
  else if (marker !== APP2 || !startsWith(start, ICC_PROFILE)) changes.cut(at, end);
}

/** Frames, tables, restart intervals, scans: all but applications' segments, comments and what is reserved. */
function isOfImage(marker: number): boolean {
  return marker >= 0xc0 && marker <= 0xdd && marker !== 0xc8;
}

/**
 * Behind what a decoder reads of a segment there is nothing (B.2.2 to B.2.5).
 * @throws Unstrippable; decoders refuse it too
 */
function* refuseLonger({ marker, body, end }: Segment): Walk<void> {
  const content = yield* bytes(body, end - body);
  if (!isFull(marker, content)) throw new Unstrippable('The JPEG has a segment that cannot be read.');
}

function isFull(marker: number, content: Buffer): boolean {
  const { length } = content;
  // Restart interval, number of lines.
  if (marker === 0xdd || marker === 0xdc) return length === 2;
  if (marker === START_OF_SCAN) return length === 4 + 2 * (content[0] ?? 0);
  if (marker === 0xdb) return isOfTables(content, 1, (head) => 64 * (1 + ((head[0] ?? 0) >> 4)));
  if (marker === 0xc4)
    return isOfTables(content, 17, (head) => head.subarray(1).reduce((sum, count) => sum + count, 0));
  // Conditioning of arithmetic coding: four tables of two kinds.
  if (marker === 0xcc) return length % 2 === 0 && content.every((byte, at) => at % 2 === 1 || (byte & 0xec) === 0);
  return length === 6 + 3 * (content[5] ?? 0);
}

/** Tables one after the other, each of a head that tells how much follows it. */
function isOfTables(content: Buffer, head: number, sizeAfter: (head: Buffer) => number): boolean {
  let at = 0;
  while (at + head <= content.length) at += head + sizeAfter(content.subarray(at, at + head));
  return at === content.length;
}

/** Leaves the fields that a decoder reads; the thumbnail of JFIF stands behind them, its extents are the last two bytes. */
function* shorten({ marker, at, end }: Segment, length: number, changes: Changes): Walk<void> {
  if (end - at < 2 + length) return changes.cut(at, end);
  if (end - at === 2 + length) return;
  const short = Buffer.from(yield* bytes(at, 2 + length));
  short.writeUInt16BE(length, 2);
  if (marker === APP0) short.fill(0, length);
  changes.replace(at, end, short);
}
