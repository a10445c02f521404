/** Reads QR codes as a camera would: from pixels. */
import decodeQR from 'qr/decode.js';
import sharp from 'sharp';

/** @param picture PNG or SVG */
export async function readCode(picture: Uint8Array): Promise<string> {
  const { data, info } = await sharp(picture).ensureAlpha().raw().toBuffer({ resolveWithObject: true });
  return decodeQR({ width: info.width, height: info.height, data });
}
