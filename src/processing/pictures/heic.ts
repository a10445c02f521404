/**
 * HEIC, as phones write it. The libvips of sharp reads its header but does not decode it, because of the patents on HEVC; libheif as
 * WebAssembly does. It is loaded with the first such picture.
 */

export interface DecodedHeic {
  /** Four channels. */
  pixels: Uint8Array;
  width: number;
  height: number;
  hasAlpha: boolean;
}

/** The main picture of the file, with its rotations, mirrors and crops applied. */
export async function decodeHeic(bytes: Uint8Array, maxPixels: number): Promise<DecodedHeic> {
  const { default: libheif } = await import('libheif-js/wasm-bundle.js');
  const images = new libheif.HeifDecoder().decode(bytes);
  const image = images.find((one) => one.is_primary()) ?? images[0];
  if (image === undefined) throw new Error('the file holds no picture that can be decoded');
  const width = image.get_width();
  const height = image.get_height();
  if (width * height > maxPixels) throw new Error('the picture has too many pixels');
  const data = new Uint8ClampedArray(width * height * 4);
  await new Promise<void>((resolve, reject) => {
    image.display({ data, width, height }, (shown) => {
      if (shown === null) reject(new Error('the picture cannot be decoded'));
      else resolve();
    });
  });
  return { pixels: new Uint8Array(data.buffer), width, height, hasAlpha: image.has_alpha_channel() };
}
