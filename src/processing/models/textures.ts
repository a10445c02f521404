/**
 * Textures: pictures that lie in the file, decoded by sharp to the size that a small picture needs, with smaller copies
 * of each, so that a texture that is seen from afar does not flicker.
 */
import sharp from 'sharp';
import type { Glb } from './glb.ts';
import type { GltfTextureRef } from './gltf.ts';

// Section 3.9.2 and EXT_texture_webp, EXT_texture_avif. Other loaders, of drawings above all, are ways in.
sharp.cache(false);
sharp.concurrency(1);
sharp.block({ operation: ['VipsForeignLoad'] });
sharp.unblock({
  operation: ['VipsForeignLoadJpeg', 'VipsForeignLoadPng', 'VipsForeignLoadWebp', 'VipsForeignLoadHeif'],
});

/** Pixels of a picture before it is reduced, as its header claims them: 8192 x 8192. */
const MAX_PIXELS = 2 ** 26;
/** Bytes of a picture as it lies in the file. */
const MAX_BYTES = 64 * 1024 * 1024;
/** Pictures that are decoded; a model with more is drawn without the last of them. */
const MAX_PICTURES = 128;
/** Pixels of all decoded pictures together: 2 pictures of 1024 x 1024, 8 of 512 x 512, and so on. */
const SIDES: [pictures: number, side: number][] = [
  [4, 1024],
  [16, 512],
  [MAX_PICTURES, 256],
];

/** Samplers (glTF 2.0 specification, section 5.26). */
const NEAREST = 9728;
const CLAMP = 33_071;
const MIRROR = 33_648;

interface Level {
  width: number;
  height: number;
  /** RGBA as sRGB or data, one byte each. */
  pixels: Uint8Array;
}

/** The light that a byte of sRGB stands for (IEC 61966-2-1). */
const linear = Float32Array.from({ length: 256 }, (_, value) => {
  const share = value / 255;
  return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
});
/** For textures that hold numbers instead of colours. */
const plain = Float32Array.from({ length: 256 }, (_, value) => value / 255);

export class Texture {
  readonly texCoord: number;
  /** Red, green, blue, alpha of the last `sample`. */
  readonly colour = new Float64Array(4);
  readonly #levels: Level[];
  readonly #isNearest: boolean;
  readonly #wrapS: number;
  readonly #wrapT: number;
  readonly #table: Float32Array;
  readonly #transform: readonly number[];

  constructor(
    levels: Level[],
    ref: GltfTextureRef,
    sampler: { magFilter?: number | undefined; wrapS?: number | undefined; wrapT?: number | undefined },
    isColour: boolean,
  ) {
    this.#levels = levels;
    this.#isNearest = sampler.magFilter === NEAREST;
    this.#wrapS = sampler.wrapS ?? 0;
    this.#wrapT = sampler.wrapT ?? 0;
    this.#table = isColour ? linear : plain;
    const moved = ref.extensions?.KHR_texture_transform;
    this.texCoord = moved?.texCoord ?? ref.texCoord ?? 0;
    const [scaleU = 1, scaleV = 1] = moved?.scale ?? [];
    const [offsetU = 0, offsetV = 0] = moved?.offset ?? [];
    const angle = moved?.rotation ?? 0;
    const [sine, cosine] = [Math.sin(angle), Math.cos(angle)];
    this.#transform = [cosine * scaleU, sine * scaleV, offsetU, -sine * scaleU, cosine * scaleV, offsetV];
  }

  /** Which of the copies has about one pixel for each of the screen. @param density how much of u, v a pixel covers */
  levelFor(density: number): number {
    const [first] = this.#levels;
    if (!first || !(density > 0)) return 0;
    const [a = 1, b = 0, , c = 0, d = 1] = this.#transform;
    const texels = density * Math.abs(a * d - b * c) * first.width * first.height;
    return Math.max(0, Math.min(this.#levels.length - 1, Math.round(Math.log2(texels) / 2)));
  }

  /** Looks up a place; the result is in `colour`. */
  sample(u: number, v: number, level: number): void {
    const picture = this.#levels[level];
    if (!picture) return;
    const [a = 1, b = 0, offsetU = 0, c = 0, d = 1, offsetV = 0] = this.#transform;
    const x = (a * u + b * v + offsetU) * picture.width;
    const y = (c * u + d * v + offsetV) * picture.height;
    if (this.#isNearest) {
      this.colour.fill(0);
      this.#add(picture, Math.floor(x), Math.floor(y), 1);
      return;
    }
    const [left, top] = [Math.floor(x - 0.5), Math.floor(y - 0.5)];
    const [right, below] = [x - 0.5 - left, y - 0.5 - top];
    this.colour.fill(0);
    this.#add(picture, left, top, (1 - right) * (1 - below));
    this.#add(picture, left + 1, top, right * (1 - below));
    this.#add(picture, left, top + 1, (1 - right) * below);
    this.#add(picture, left + 1, top + 1, right * below);
  }

  #add({ width, height, pixels }: Level, x: number, y: number, share: number): void {
    const at = (wrap(y, height, this.#wrapT) * width + wrap(x, width, this.#wrapS)) * 4;
    for (let k = 0; k < 3; k++)
      this.colour[k] = (this.colour[k] ?? 0) + share * (this.#table[pixels[at + k] ?? 0] ?? 0);
    this.colour[3] = (this.colour[3] ?? 0) + (share * (pixels[at + 3] ?? 0)) / 255;
  }
}

function wrap(at: number, size: number, mode: number): number {
  if (mode === CLAMP) return Math.max(0, Math.min(size - 1, at)) || 0;
  const period = mode === MIRROR ? size * 2 : size;
  // A place that is no number is the first pixel.
  const within = ((at % period) + period) % period || 0;
  return within < size ? within : period - 1 - within;
}

/** Decodes each picture once, however many materials use it. */
export class TextureReader {
  readonly #glb: Glb;
  readonly #decoded = new Map<number, Level[] | undefined>();
  readonly #side: number;

  constructor(glb: Glb) {
    this.#glb = glb;
    const pictures = glb.gltf.images?.length ?? 0;
    this.#side = SIDES.find(([most]) => pictures <= most)?.[1] ?? 256;
  }

  /** @returns nothing where there is no picture that can be read: the surface then has its plain colour */
  async read(ref: GltfTextureRef | undefined, isColour: boolean): Promise<Texture | undefined> {
    const texture = ref && this.#glb.gltf.textures?.[ref.index];
    if (!texture) return undefined;
    const { source, extensions, sampler } = texture;
    const image = source ?? extensions?.EXT_texture_webp?.source ?? extensions?.EXT_texture_avif?.source;
    const levels = image === undefined ? undefined : await this.#picture(image);
    if (!levels) return undefined;
    return new Texture(levels, ref, this.#glb.gltf.samplers?.[sampler ?? -1] ?? {}, isColour);
  }

  async #picture(image: number): Promise<Level[] | undefined> {
    if (!this.#decoded.has(image) && this.#decoded.size < MAX_PICTURES)
      this.#decoded.set(image, await this.#decode(image).catch(() => undefined));
    return this.#decoded.get(image);
  }

  async #decode(image: number): Promise<Level[] | undefined> {
    const { images = [], bufferViews = [] } = this.#glb.gltf;
    const view = bufferViews[images[image]?.bufferView ?? -1];
    if (view?.buffer !== 0 || view.byteLength > MAX_BYTES) return undefined;
    const bytes = await this.#glb.read(view.byteOffset ?? 0, view.byteLength);
    const { data, info } = await sharp(bytes, { limitInputPixels: MAX_PIXELS })
      .resize({ width: this.#side, height: this.#side, fit: 'inside', withoutEnlargement: true })
      .toColourspace('srgb')
      .ensureAlpha()
      .raw()
      .toBuffer({ resolveWithObject: true });
    if (info.channels !== 4) return undefined;
    return smallerCopies({ width: info.width, height: info.height, pixels: data });
  }
}

/** Each has half the sides of the one before, down to one pixel. */
function smallerCopies(first: Level): Level[] {
  const levels = [first];
  for (let last = first; last.width > 1 || last.height > 1; levels.push(last)) last = halved(last);
  return levels;
}

/** The mean of four bytes: not quite the mean of their light, and close to it where neighbours are alike. */
function halved({ width, height, pixels }: Level): Level {
  const half = { width: Math.max(1, width >> 1), height: Math.max(1, height >> 1) };
  const smaller = new Uint8Array(half.width * half.height * 4);
  for (let y = 0; y < half.height; y++)
    for (let x = 0; x < half.width; x++)
      for (let k = 0; k < 4; k++) {
        let sum = 0;
        for (let corner = 0; corner < 4; corner++) {
          const column = Math.min(width - 1, x * 2 + (corner & 1));
          const row = Math.min(height - 1, y * 2 + (corner >> 1));
          sum += pixels[(row * width + column) * 4 + k] ?? 0;
        }
        smaller[(y * half.width + x) * 4 + k] = (sum + 2) >> 2;
      }
  return { ...half, pixels: smaller };
}
