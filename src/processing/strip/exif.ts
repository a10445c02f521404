/**
 * Orientation, the one thing in Exif that changes how a picture looks: 1 is upright, 2 to 8 are turned or mirrored (Exif
 * 3.0, tag 0x0112). Where it is not 1, all Exif gives way to one that says that and nothing else.
 */

/** `Exif` and two zeros, before the TIFF structure in JPEG, and by some writers in WebP and PNG. */
export const EXIF_PREFIX = Buffer.from('Exif\0\0', 'latin1');
/** Bytes in which IFD0 is looked for; in JPEG there is no room for more. */
export const MAX_EXIF = 65_535;

const ORIENTATION = 0x0112;
const SHORT = 3;
const LONG = 4;

/** A little-endian TIFF structure with one directory of one entry, 26 bytes. */
const onlyOrientation = Buffer.from('49492a0008000000010012010300010000000000000000000000', 'hex');
const ORIENTATION_AT = 18;

/**
 * The Exif that is left of another.
 * @param exif a TIFF structure, perhaps behind the prefix
 * @returns undefined when nothing of it changes how the picture looks
 */
export function onlyOrientationOf(exif: Buffer): Buffer | undefined {
  const tiff = startsWith(exif, EXIF_PREFIX) ? exif.subarray(EXIF_PREFIX.length) : exif;
  const orientation = orientationOf(tiff);
  if (orientation === 1) return undefined;
  const result = Buffer.from(onlyOrientation);
  result[ORIENTATION_AT] = orientation;
  return result;
}

/** Follows no offset but that of the first directory. @returns 1 when it is absent or broken */
function orientationOf(tiff: Buffer): number {
  // What is put back must not be longer.
  if (tiff.length < onlyOrientation.length) return 1;
  const isLittle = tiff.toString('latin1', 0, 2) === 'II';
  if (!isLittle && tiff.toString('latin1', 0, 2) !== 'MM') return 1;
  const short = (at: number) => (isLittle ? tiff.readUInt16LE(at) : tiff.readUInt16BE(at));
  const long = (at: number) => (isLittle ? tiff.readUInt32LE(at) : tiff.readUInt32BE(at));
  const directory = long(4);
  if (directory + 2 > tiff.length) return 1;
  const end = Math.min(directory + 2 + 12 * short(directory), tiff.length - 11);
  for (let at = directory + 2; at < end; at += 12) {
    if (short(at) !== ORIENTATION) continue;
    const type = short(at + 2);
    const value = type === SHORT ? short(at + 8) : type === LONG ? long(at + 8) : 1;
    return value >= 1 && value <= 8 ? value : 1;
  }
  return 1;
}

export function startsWith(bytes: Buffer, start: Buffer): boolean {
  return bytes.length >= start.length && bytes.compare(start, 0, start.length, 0, start.length) === 0;
}
