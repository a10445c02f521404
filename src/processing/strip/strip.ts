/**
 * Takes metadata out of pictures and films without decoding them: what is shown and played stays bit for bit, and so do the
 * orientation and the colour profile. Where a file went and by whom it was made does not: places, serial numbers, names,
 * captions, histories, previews, whatever follows the end. Lists say what is kept, so what nobody has heard of goes.
 *
 * What is stripped holds nothing to strip. A file that cannot be taken apart is `Unstrippable`: nobody knows what it tells.
 */
import { open } from 'node:fs/promises';
import { type Change, Changes, changeInPlace, writeChanged } from './changes.ts';
import { gif } from './gif.ts';
import { jpeg } from './jpeg.ts';
import { mediaFile } from './media-file.ts';
import { png } from './png.ts';
import { svg } from './svg.ts';
import { Unstrippable, type Walk, walkBytes, walkFile, walkInTurns, walkWithin } from './walk.ts';
import { webp } from './webp.ts';

export { Unstrippable } from './walk.ts';

/** Notes what is to be changed in a file of that size. */
type Strip = (size: number, changes: Changes) => Walk<void>;

/** Drawings in drawings in drawings: nobody has seen more than one in another. */
const MAX_NESTING = 3;

const strips: Record<string, Strip> = {
  'image/jpeg': jpeg,
  'image/png': png,
  'image/webp': webp,
  'image/gif': gif,
  'image/avif': mediaFile,
  'image/heic': mediaFile,
  'image/heif': mediaFile,
  'image/svg+xml': svgWithin(MAX_NESTING),
  'video/mp4': mediaFile,
  'video/quicktime': mediaFile,
  'audio/mp4': mediaFile,
};

function svgWithin(depth: number): Strip {
  return svg(function* (picture, saysPicture) {
    const strip = embeddedStrip(picture, depth - 1);
    if (!strip && !saysPicture) return undefined;
    if (!strip) throw new Unstrippable('The SVG holds a picture of a type that cannot be stripped.');
    if (depth === 0) throw new Unstrippable('The SVG holds others inside each other.');
    const changes = new Changes();
    yield* walkWithin(strip(picture.length, changes), picture);
    return changed(picture, changes.sorted());
  });
}

/** Browsers go by the bytes too, whatever the address says. */
function embeddedStrip(picture: Buffer, depth: number): Strip | undefined {
  const start = picture.toString('latin1', 0, 12);
  if (start.startsWith('\xff\xd8')) return jpeg;
  if (start.startsWith('\x89PNG')) return png;
  if (start.startsWith('GIF8')) return gif;
  if (/^RIFF.{4}WEBP/s.test(start)) return webp;
  if (start.slice(4, 8) === 'ftyp') return mediaFile;
  if (/^[^\0]*<[a-z:]*svg[ \t\r\n>]/.test(picture.toString('latin1', 0, 4096))) return svgWithin(depth);
  return undefined;
}

/** Whether metadata can be taken out of files of this type. @param mediaType canonical */
export function canStrip(mediaType: string): boolean {
  return Object.hasOwn(strips, mediaType);
}

/**
 * Takes metadata out of a file that lies in memory.
 * @param mediaType canonical, one that `canStrip` knows
 * @returns a new file; undefined when the file holds nothing to strip
 * @throws Unstrippable
 */
export function stripMetadata(bytes: Buffer, mediaType: string): Buffer | undefined {
  const changes = new Changes();
  walkBytes(stripOf(mediaType)(bytes.length, changes), bytes);
  return changed(bytes, changes.sorted());
}

/**
 * The same where the file lies, without memory for a second one, and in turns with the other work of the process.
 * @param bytes the file; changed
 * @returns how many bytes are left, from the first on; undefined when the file holds nothing to strip
 * @throws Unstrippable, and nothing is changed
 */
export async function stripInPlace(bytes: Buffer, mediaType: string): Promise<number | undefined> {
  const changes = new Changes();
  await walkInTurns(stripOf(mediaType)(bytes.length, changes), bytes);
  const list = changes.sorted();
  return list.length === 0 ? undefined : changeInPlace(bytes, list);
}

/**
 * Whether there is something to take out, found out in turns with the other work of the process.
 * @throws Unstrippable
 */
export async function holdsMetadata(bytes: Buffer, mediaType: string): Promise<boolean> {
  const changes = new Changes();
  await walkInTurns(stripOf(mediaType)(bytes.length, changes), bytes);
  return changes.sorted().length > 0;
}

/**
 * Takes metadata out of a file of any size.
 * @param input path
 * @param output path of a file that is not there yet; written only when there is something to strip
 * @throws Unstrippable, and then there is no output
 */
export async function stripFile(
  input: string,
  output: string,
  mediaType: string,
): Promise<{ changed: boolean; size: number }> {
  const strip = stripOf(mediaType);
  await using file = await open(input, 'r');
  const { size } = await file.stat();
  const changes = new Changes();
  await walkFile(strip(size, changes), file, size);
  const list = changes.sorted();
  if (list.length === 0) return { changed: false, size };
  await using written = await open(output, 'wx', 0o600);
  return { changed: true, size: await writeChanged(file, size, written, list) };
}

function changed(bytes: Buffer, changes: readonly Change[]): Buffer | undefined {
  if (changes.length === 0) return undefined;
  const copy = Buffer.from(bytes);
  return copy.subarray(0, changeInPlace(copy, changes));
}

function stripOf(mediaType: string): Strip {
  const strip = Object.hasOwn(strips, mediaType) ? strips[mediaType] : undefined;
  if (!strip) throw new TypeError(`metadata of ${mediaType} cannot be stripped`);
  return strip;
}
