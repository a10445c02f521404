/** From bytes that nobody trusts to pixels; runs in the child. */
import { readFile, stat } from 'node:fs/promises';
import sharp, { type Metadata, type Sharp, type SharpOptions } from 'sharp';
import { framesOfPng } from './chunks.ts';
import { decodeHeic } from './heic.ts';
import { withProfile } from './profile.ts';
import type { PictureFacts, PictureSource } from './tasks.ts';

/**
 * Of all frames that are decoded, together. A progressive JPEG takes 6 bytes of memory for each of its pixels, so this is what the
 * memory of a child allows.
 */
export const MAX_PIXELS = 100_000_000;
/** HEIC is read as a whole, in memory. Bytes. */
const MAX_HEIC = 64 * 2 ** 20;

sharp.cache(false);
sharp.concurrency(1);
// Every loader that is left is a way in. Drawings and documents among them open other files.
sharp.block({ operation: ['VipsForeignLoad'] });
sharp.unblock({
  operation: [
    'VipsForeignLoadJpeg',
    'VipsForeignLoadPng',
    'VipsForeignLoadWebp',
    'VipsForeignLoadNsgif',
    'VipsForeignLoadHeif',
  ],
});

export interface OpenedPicture {
  facts: PictureFacts;
  /** Of the header. */
  metadata: Metadata;
  /** Upright; to be used once. */
  image: Sharp;
}

/** What the header says. Nothing is decoded. */
export async function factsOf(source: PictureSource): Promise<PictureFacts> {
  return toFacts(await open(source, 1).metadata(), source);
}

export interface OpenOptions {
  /** How many are decoded at most: the first, or all. */
  frames?: 'first' | 'all';
  /** What the picture is needed for: it may come smaller, as long as it covers this. */
  covers?: { width?: number; height?: number };
}

export async function openPicture(
  source: PictureSource,
  { frames = 'first', covers }: OpenOptions = {},
): Promise<OpenedPicture> {
  const metadata = await open(source, 1).metadata();
  const facts = await toFacts(metadata, source);
  const pages = frames === 'all' && facts.frames > 1 && facts.format !== 'png' ? -1 : 1;
  // libheif applies all transformations itself.
  if (facts.format === 'heic') return { facts, metadata, image: await openHeic(source, metadata.icc, covers) };
  return { facts, metadata, image: open(source, pages).autoOrient() };
}

function open(source: PictureSource, pages: number): Sharp {
  if (isPixels(source)) {
    const { pixels, width, height, channels } = source;
    return sharp(pixels, { raw: { width, height, channels }, limitInputPixels: MAX_PIXELS });
  }
  const options: SharpOptions = { limitInputPixels: MAX_PIXELS, failOn: 'error', pages };
  return sharp(source, options);
}

function isPixels(source: PictureSource): source is Exclude<PictureSource, string | Uint8Array> {
  return typeof source === 'object' && 'pixels' in source;
}

async function toFacts(metadata: Metadata, source: PictureSource): Promise<PictureFacts> {
  const format = isPixels(source) ? 'raw' : formatOf(metadata);
  return {
    format,
    ...metadata.autoOrient,
    orientation: metadata.orientation ?? 1,
    frames: await framesOf(format, metadata, source),
    hasAlpha: metadata.hasAlpha,
  };
}

/** A HEIC or AVIF may hold several pictures, which are no frames. */
async function framesOf(
  format: PictureFacts['format'],
  { pages = 1 }: Metadata,
  source: PictureSource,
): Promise<number> {
  if (format === 'png') return framesOfPng(source);
  return format === 'gif' || format === 'webp' ? pages : 1;
}

function formatOf({ format, compression }: Metadata): Exclude<PictureFacts['format'], 'raw'> {
  if (format === 'heif') return compression === 'av1' ? 'avif' : 'heic';
  if (format === 'jpeg' || format === 'png' || format === 'webp' || format === 'gif') return format;
  throw new Error('the file is no picture that can be read');
}

async function openHeic(
  source: PictureSource,
  profile: Uint8Array | undefined,
  covers: OpenOptions['covers'],
): Promise<Sharp> {
  if (isPixels(source)) throw new Error('pixels are no file');
  const size = typeof source === 'string' ? (await stat(source)).size : source.length;
  if (size > MAX_HEIC) throw new Error('the file is too large to be decoded');
  const decoded = await decodeHeic(typeof source === 'string' ? await readFile(source) : source, MAX_PIXELS);
  const { pixels, width, height, hasAlpha } = decoded;
  const image = sharp(pixels, { raw: { width, height, channels: 4 }, limitInputPixels: MAX_PIXELS });
  const upright = hasAlpha ? image : image.removeAlpha();
  if (profile === undefined) return upright;
  // The profile goes by way of a file in memory, which would be as large as the pixels once more.
  const small = covers && upright.resize({ ...covers, fit: 'outside', withoutEnlargement: true });
  return withProfile(small ?? upright, profile, MAX_PIXELS);
}
