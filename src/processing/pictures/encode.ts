/** From pixels to the files that are served; runs in the child. */
import { join } from 'node:path';
import sharp, { type OutputInfo, type Sharp } from 'sharp';
import { rgbaToThumbHash } from 'thumbhash';
import { isLosslessWebp } from './chunks.ts';
import { factsOf, type OpenedPicture, openPicture } from './decode.ts';
import {
  type EncodedPicture,
  type PictureFacts,
  type PictureSource,
  type PreviewSize,
  type Previews,
  type ReencodedPicture,
  type Reencoding,
  TOO_LARGE,
  type UnderstoodPicture,
  type Variant,
} from './tasks.ts';

type Format = Variant['format'];

/** Which look alike, by format; of PNG it says nothing. */
const PREVIEW_QUALITY: Record<Format, number> = { webp: 80, jpeg: 80, avif: 55, png: 100 };
/** Of what is neither the original nor a transcode. Bytes. */
const MAX_BYTES = 4 * 2 ** 20;
/** The hash is made of a picture no larger than this. Pixels. */
const THUMB_HASH_SIZE = 100;
/** 4, the default, takes six to ten times the processor time, for no smaller previews. */
const AVIF_EFFORT = 2;
const WHITE = '#ffffff';
const CLEAR = { r: 0, g: 0, b: 0, alpha: 0 };

export async function previews(source: PictureSource, sizes: readonly PreviewSize[]): Promise<Previews> {
  const largest = {
    width: Math.max(THUMB_HASH_SIZE, ...sizes.map(({ width }) => width)),
    height: Math.max(THUMB_HASH_SIZE, ...sizes.map(({ height }) => height)),
  };
  const { facts, image } = await openPicture(source, { covers: largest });
  // One decoding for all sizes, as small as the largest of them.
  const { data, info } = await image
    .resize({ ...largest, fit: 'inside', withoutEnlargement: true })
    .toColourspace('srgb')
    .raw()
    .toBuffer({ resolveWithObject: true });
  const { width, height, channels } = info;
  const decoded = () => sharp(data, { raw: { width, height, channels } });
  const encoded: EncodedPicture[] = [];
  for (const { format = 'webp', ...size } of sizes)
    encoded.push(await encode(shrink(decoded(), size.width, size.height), format, PREVIEW_QUALITY[format]));
  return { facts, previews: encoded, thumbHash: await thumbHash(decoded()) };
}

/**
 * Megapixels of which previews take less than half a second of a processor, by format and at worst: a progressive JPEG, which
 * is decoded as a whole, and WebP without loss. HEIC and AVIF are never quick.
 */
const QUICK: Partial<Record<PictureFacts['format'], number>> = { jpeg: 32, png: 16, webp: 16, gif: 16 };

export async function understand(source: PictureSource, sizes: readonly PreviewSize[]): Promise<UnderstoodPicture> {
  const facts = await factsOf(source);
  if (facts.width * facts.height > (QUICK[facts.format] ?? 0) * 1e6) return { facts };
  const { facts: _, ...made } = await previews(source, sizes);
  return { facts, previews: made };
}

export async function variant(source: PictureSource, wanted: Variant): Promise<EncodedPicture> {
  const { width, height, fit, position = 'centre', format, quality } = wanted;
  const size = { ...(width !== undefined && { width }), ...(height !== undefined && { height }) };
  const { image } = await openPicture(source, { covers: size });
  const resized = image.resize({
    ...size,
    fit,
    position,
    background: format === 'jpeg' ? WHITE : CLEAR,
    withoutEnlargement: fit === 'inside',
  });
  return encode(resized.toColourspace('srgb'), format, quality);
}

/** @throws Error that tells why the picture stays as it is */
export async function reencode(
  source: PictureSource,
  { maxWidth, maxHeight, quality, format }: Reencoding,
  directory: string,
): Promise<ReencodedPicture> {
  const picture = await openPicture(source, { frames: 'all' });
  const target = targetOf(picture, format);
  const isLossless = format === 'keep' && target === 'webp' && (await isLosslessWebp(source));
  const resized = picture.image.resize({
    ...(maxWidth !== undefined && { width: maxWidth }),
    ...(maxHeight !== undefined && { height: maxHeight }),
    fit: 'inside',
    withoutEnlargement: true,
  });
  // The profile of a picture in the colours of print does not fit what is written.
  const coloured = picture.metadata.space === 'cmyk' ? resized.toColourspace('srgb') : resized.keepIccProfile();
  const output = isLossless ? coloured.webp({ lossless: true }) : toFormat(coloured, target, quality);
  const name = `picture.${target}`;
  const info = await output.toFile(join(directory, name));
  const { width, height } = frameOf(info);
  return { name, width, height, mediaType: `image/${target}`, size: info.size };
}

function targetOf({ facts }: OpenedPicture, format: Reencoding['format']): Format {
  if (facts.format === 'png' && facts.frames > 1) throw new Error('a moving PNG is not encoded again');
  if (format !== 'keep') {
    if (facts.frames > 1 && format !== 'webp')
      throw new Error(`a moving picture cannot become ${format.toUpperCase()}`);
    return format;
  }
  if (facts.format === 'gif' || facts.format === 'heic' || facts.format === 'raw')
    throw new Error(`${facts.format.toUpperCase()} is not encoded again`);
  return facts.format;
}

function shrink(image: Sharp, width: number, height: number): Sharp {
  return image.resize({ width, height, fit: 'inside', withoutEnlargement: true });
}

async function encode(image: Sharp, format: Format, quality: number): Promise<EncodedPicture> {
  const { data, info } = await toFormat(image, format, quality).toBuffer({ resolveWithObject: true });
  if (data.length > MAX_BYTES) throw new Error(TOO_LARGE);
  return { width: info.width, height: info.height, mediaType: `image/${format}`, bytes: data };
}

function toFormat(image: Sharp, format: Format, quality: number): Sharp {
  switch (format) {
    case 'webp':
      return image.webp({ quality });
    case 'avif':
      return image.avif({ quality, effort: AVIF_EFFORT });
    case 'jpeg':
      return image.flatten({ background: WHITE }).jpeg({ quality, mozjpeg: true });
    case 'png':
      return image.png({ compressionLevel: 9 });
  }
}

/** Of one frame. */
function frameOf({ width, height, pageHeight }: OutputInfo): { width: number; height: number } {
  return { width, height: pageHeight ?? height };
}

async function thumbHash(image: Sharp): Promise<string> {
  const { data, info } = await shrink(image, THUMB_HASH_SIZE, THUMB_HASH_SIZE)
    .ensureAlpha()
    .raw()
    .toBuffer({ resolveWithObject: true });
  return Buffer.from(rgbaToThumbHash(info.width, info.height, data)).toString('base64');
}
