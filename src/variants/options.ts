/**
 * What a variant looks like, and its one spelling: `w512-h384-cover-top-q70.webp`. Width, height, fit, position and quality
 * stand in this order, what is usual (inside, centre, q80) is left out, and the format is the extension. A spelling that
 * would be written in another way is none, so caches, the store and the records hold one picture under one name.
 *
 * Addresses take their sizes off a ladder: a signature alone would not keep whoever can sign from filling the bucket.
 */

/** Pixels. Two thirds and halves of it are on it too, so pictures of 1:1, 4:3, 3:2 and 2:1 can be cut at many sizes. */
export const LADDER = [16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048] as const;
export const QUALITIES = [40, 55, 70, 80, 90] as const;
export const FORMATS = ['webp', 'avif', 'jpeg', 'png'] as const;
/**
 * `inside`: the whole picture, no larger than the box and never larger than the original. `cover`: fills the box, what does
 * not fit is cut off. `contain`: the whole picture in a box of exactly this size, with margins that are transparent, or
 * white in a JPEG.
 */
export const FITS = ['inside', 'cover', 'contain'] as const;
/** Which part `cover` keeps; `attention` is the part that people look at, as libvips finds it. */
export const POSITIONS = ['centre', 'top', 'right', 'bottom', 'left', 'attention'] as const;

export type Format = (typeof FORMATS)[number];
export type Fit = (typeof FITS)[number];
export type Position = (typeof POSITIONS)[number];
export type Quality = (typeof QUALITIES)[number];

export interface VariantOptions {
  /** Pixels; there is a width or a height, and both where the fit is not `inside`. */
  width?: number;
  height?: number;
  fit: Fit;
  position: Position;
  /** Means nothing to PNG. */
  quality: Quality;
  format: Format;
}

export const DEFAULTS = { fit: 'inside', position: 'centre', quality: 80 } as const;

/** The one spelling. */
export function serialise(options: VariantOptions): string {
  const { width, height, fit, position, quality, format } = options;
  const parts = [
    width !== undefined && `w${width}`,
    height !== undefined && `h${height}`,
    fit !== DEFAULTS.fit && fit,
    fit === 'cover' && position !== DEFAULTS.position && position,
    format !== 'png' && quality !== DEFAULTS.quality && `q${quality}`,
  ];
  return `${parts.filter((part) => part !== false).join('-')}.${format}`;
}

const spelling =
  /^(?:w(?<width>\d{1,4}))?-?(?:h(?<height>\d{1,4}))?(?:-(?<fit>[a-z]+?))?(?:-(?<position>top|right|bottom|left|attention))?(?:-q(?<quality>\d\d))?\.(?<format>[a-z]+)$/;

/** What a spelling means; undefined for one that is not the one spelling, or whose sizes are not on the ladder. */
export function parse(text: string): VariantOptions | undefined {
  const { width, height, fit, position, quality, format } = spelling.exec(text)?.groups ?? {};
  const options = {
    ...(width !== undefined && { width: Number(width) }),
    ...(height !== undefined && { height: Number(height) }),
    fit: oneOf(FITS, fit ?? DEFAULTS.fit),
    position: oneOf(POSITIONS, position ?? DEFAULTS.position),
    quality: oneOf(QUALITIES, Number(quality ?? DEFAULTS.quality)),
    format: oneOf(FORMATS, format),
  };
  return isWhole(options) && isOnLadder(options) && hasBox(options) && serialise(options) === text
    ? options
    : undefined;
}

function oneOf<const Values extends readonly unknown[]>(values: Values, value: unknown): Values[number] | undefined {
  return values.find((each) => each === value);
}

function isWhole(
  options: { [Name in keyof VariantOptions]: VariantOptions[Name] | undefined },
): options is VariantOptions {
  const { fit, position, quality, format } = options;
  return [fit, position, quality, format].every((each) => each !== undefined);
}

/** Whether an address may have these options. */
export function isOnLadder({ width, height }: Pick<VariantOptions, 'width' | 'height'>): boolean {
  return [width, height].every((size) => size === undefined || oneOf(LADDER, size) !== undefined);
}

function hasBox({ width, height, fit }: VariantOptions): boolean {
  return fit === 'inside' ? width !== undefined || height !== undefined : width !== undefined && height !== undefined;
}

/** The first step that is not smaller, or the last one. */
export function stepFor<const Steps extends readonly number[]>(steps: Steps, wanted: number): Steps[number] {
  const [first = 0] = steps;
  return steps.find((step) => step >= wanted) ?? steps.at(-1) ?? first;
}

export const mediaTypeOf = (format: Format): string => `image/${format}`;
