/** A PNG of black and white pixels (PNG specification, third edition). It only writes; no bytes of others are read. */
import { promisify } from 'node:util';
import { crc32, deflate } from 'node:zlib';

const compress = promisify(deflate);

const SIGNATURE = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
/** Section 9.2: filter "none", which suits pixels of less than 8 bits (section 12.7). */
const NO_FILTER = 0;
const GREYSCALE = 0;

/**
 * A square picture.
 * @param size pixels on each side
 * @param rowAt the pixels of a row, one bit each, 1 for white, the first in the highest bit, in whole bytes
 */
export async function writeBitmap(size: number, rowAt: (y: number) => Buffer): Promise<Buffer> {
  const stride = 1 + Math.ceil(size / 8);
  const lines = Buffer.alloc(stride * size, NO_FILTER);
  for (let y = 0; y < size; y++) rowAt(y).copy(lines, y * stride + 1);
  const header = Buffer.alloc(13);
  header.writeUInt32BE(size, 0);
  header.writeUInt32BE(size, 4);
  header.set([1, GREYSCALE, 0, 0, 0], 8);
  const data = await compress(lines, { level: 9 });
  return Buffer.concat([SIGNATURE, chunk('IHDR', header), chunk('IDAT', data), chunk('IEND', Buffer.alloc(0))]);
}

/** Section 5.3: length, type, data, and the CRC of type and data. */
function chunk(type: string, data: Buffer): Buffer {
  const named = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(data.length);
  const sum = Buffer.alloc(4);
  sum.writeUInt32BE(crc32(named));
  return Buffer.concat([length, named, sum]);
}
