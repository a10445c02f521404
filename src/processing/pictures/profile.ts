/** Gives pixels the colour profile that they came with, which sharp takes from files only: by way of a PNG in memory. */
import { crc32, deflateSync } from 'node:zlib';
import sharp, { type Sharp } from 'sharp';

/** Signature and IHDR; the profile's chunk comes behind (PNG, third edition, section 5.6). */
const BEFORE_PROFILE = 8 + 25;

export async function withProfile(image: Sharp, profile: Uint8Array, maxPixels: number): Promise<Sharp> {
  const png = await image.png({ compressionLevel: 0 }).toBuffer();
  const chunk = profileChunk(profile);
  const parts = [png.subarray(0, BEFORE_PROFILE), chunk, png.subarray(BEFORE_PROFILE)];
  return sharp(Buffer.concat(parts), { limitInputPixels: maxPixels });
}

/** iCCP: a name, the method of compression, the profile (PNG, third edition, section 11.3.2.3). */
function profileChunk(profile: Uint8Array): Buffer {
  const body = Buffer.concat([Buffer.from('iCCPprofile\0\0', 'latin1'), deflateSync(profile)]);
  const chunk = Buffer.alloc(body.length + 8);
  chunk.writeUInt32BE(body.length - 4, 0);
  body.copy(chunk, 4);
  chunk.writeUInt32BE(crc32(body), body.length + 4);
  return chunk;
}
