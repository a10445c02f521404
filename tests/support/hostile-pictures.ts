/** Small files that make a decoder ask for a lot, or stop in the middle. */
import { readFileSync } from 'node:fs';
import { crc32, deflateSync } from 'node:zlib';

const fixture = (name: string) => readFileSync(new URL(`../fixtures/${name}`, import.meta.url));

function chunk(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
  length.writeUInt32BE(data.length);
  sum.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, sum]);
}

/** A PNG of this size with pixels that take next to nothing. */
function vastPng(width: number, height: number, rows: number): Buffer {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 6, 0, 0, 0], 8);
  const pixels = deflateSync(Buffer.alloc((1 + width * 4) * rows), { level: 9 });
  const signature = Buffer.from('\x89PNG\r\n\x1a\n', 'latin1');
  return Buffer.concat([signature, chunk('IHDR', header), chunk('IDAT', pixels), chunk('IEND', Buffer.alloc(0))]);
}

/** A lossless WebP of 34 bytes that claims 16383 x 16383 pixels (RFC 9649 section 3.4). */
function lyingWebp(): Buffer {
  const webp = Buffer.alloc(34);
  webp.write('RIFF', 0, 'latin1');
  webp.writeUInt32LE(26, 4);
  webp.write('WEBPVP8L', 8, 'latin1');
  webp.writeUInt32LE(14, 16);
  webp[20] = 0x2f;
  webp.writeUInt32LE(16_382 + 16_382 * 2 ** 14, 21);
  return webp;
}

/** A GIF of 65535 frames, each as large as the screen (GIF89a, sections 18 and 20). */
function endlessGif(width: number, height: number): Buffer {
  const screen = Buffer.from('GIF89a\0\0\0\0\x80\0\0\0\0\0\xff\xff\xff', 'latin1');
  screen.writeUInt16LE(width, 6);
  screen.writeUInt16LE(height, 8);
  const frame = Buffer.from('\x2c\0\0\0\0\0\0\0\0\0\x02\x02\x44\x01\0', 'latin1');
  frame.writeUInt16LE(width, 5);
  frame.writeUInt16LE(height, 7);
  const frames = Array.from({ length: 65_535 }, () => frame);
  return Buffer.concat([screen, ...frames, Buffer.from(';')]);
}

const cut = (file: Buffer) => file.subarray(0, Math.floor(file.length * 0.6));

/** By what they are. None has a picture to show. */
export const hostilePictures: Readonly<Record<string, () => Buffer>> = {
  'a PNG that claims 30000 x 30000': () => vastPng(30_000, 30_000, 10),
  'a PNG of 400 megapixels in 400 KB': () => vastPng(20_000, 20_000, 2000),
  'a WebP of 34 bytes that claims 16383 x 16383': lyingWebp,
  'an AVIF that was cut': () => cut(fixture('photo.avif')),
  'a HEIC that was cut': () => cut(fixture('photo.heic')),
  'a JPEG that was cut': () => cut(fixture('progressive.jpg')),
  'a drawing that names a file': () =>
    Buffer.from(
      '<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd" width="9" height="9"/></svg>',
    ),
  nothing: () => Buffer.alloc(0),
};

/** Whose first frame can be shown, but not all of them. */
export const endlessAnimation = (): Buffer => endlessGif(1000, 1000);
