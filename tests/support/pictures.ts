/** Pictures made in code, and what tests look at in those that come back. */
import sharp, { type Metadata } from 'sharp';

/** A photograph, more or less: a wide gradient that no two numbers have in common. */
export async function picture({
  width = 1200,
  height = 800,
  seed = 0,
  format = 'jpeg' as 'jpeg' | 'png' | 'webp',
} = {}): Promise<Buffer<ArrayBuffer>> {
  const side = 16;
  const pixels = Buffer.from({ length: side * side * 3 } as ArrayLike<number>);
  for (let index = 0; index < pixels.length; index++) pixels[index] = (index * 7 + seed * 31 + (index % 3) * 60) % 256;
  const image = sharp(pixels, { raw: { width: side, height: side, channels: 3 } });
  const resized = image.resize({ width, height, fit: 'fill' });
  return Buffer.from(await resized.toFormat(format).toBuffer());
}

/** Upright when orientation 6 is obeyed, with all that tells of its sender, in the colours of a wide screen. */
export async function photoWithSecrets(): Promise<Buffer<ArrayBuffer>> {
  const image = sharp(await picture({ width: 300, height: 200 })).withIccProfile('p3');
  const exif = {
    IFD0: { Make: 'SECRET-CAMERA', Copyright: 'SECRET-OWNER' },
    IFD3: { GPSLatitudeRef: 'N', GPSLatitude: '51/1 30/1 0/1' },
  };
  const bytes = await image.withExif(exif).withMetadata({ orientation: 6 }).withXmp('<x>SECRET-PLACE</x>').toBuffer();
  return Buffer.from(bytes);
}

export function look(bytes: Buffer): Promise<Metadata> {
  return sharp(bytes).metadata();
}

/** Red, green, blue and alpha of one pixel. */
export async function pixelAt(bytes: Buffer, left: number, top: number): Promise<number[]> {
  const region = sharp(bytes).ensureAlpha().extract({ left, top, width: 1, height: 1 });
  return [...(await region.raw().toBuffer())];
}
