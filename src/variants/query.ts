/** What may be asked of a variant in a query, and the options that it means. */
import { z } from 'zod';
import { expiresIn } from '../assets/downloads.ts';
import { flag } from '../http/schema-types.ts';
import { Problem } from '../problems.ts';
import {
  DEFAULTS,
  FITS,
  FORMATS,
  type Format,
  LADDER,
  POSITIONS,
  QUALITIES,
  stepFor,
  type VariantOptions,
} from './options.ts';

/** Pixels; callers choose any size up to it, addresses only what is on the ladder. */
export const MAX_SIDE = 4096;
const LARGEST_STEP = 2048;

const pixels = (max: number, description: string) =>
  z
    .string()
    .regex(/^[1-9]\d{0,3}$/, `must be 1 to ${max}`)
    .transform(Number)
    .refine((n) => n <= max, `must be 1 to ${max}`)
    .optional()
    .meta({ override: { type: 'integer', minimum: 1, maximum: max }, description, example: 640 });

const fit = z
  .enum(FITS, { error: 'must be inside, cover or contain' })
  .meta({ id: 'VariantFit' })
  .default(DEFAULTS.fit)
  .meta({
    description:
      '`inside`: the whole picture, as large as the box allows and never larger than the original. `cover`: exactly the box, what does not fit is cut off. `contain`: exactly the box with the whole picture in it; the margins are transparent, or white in a JPEG. `cover` and `contain` need a width and a height, and enlarge a small original',
  });

const position = z
  .enum(POSITIONS, { error: 'must be centre, top, right, bottom, left or attention' })
  .meta({ id: 'VariantPosition' })
  .default(DEFAULTS.position)
  .meta({ description: 'What `cover` keeps; `attention` is the part that draws the eye' });

const quality = z
  .string()
  .regex(/^([1-9]\d?|100)$/, 'must be 1 to 100')
  .transform(Number)
  .optional()
  .meta({
    override: { type: 'integer', minimum: 1, maximum: 100, default: DEFAULTS.quality },
    description: `Of what is lossy; the next of ${QUALITIES.join(', ')} that is not lower, and 90 at most`,
  });

const format = (formats: readonly string[]) => ({
  error: `must be ${formats.slice(0, -1).join(', ')} or ${formats.at(-1)}`,
});

export const imageQuery = z.strictObject({
  width: pixels(MAX_SIDE, `Pixels; without a width and a height, ${LARGEST_STEP} at most each way`),
  height: pixels(MAX_SIDE, 'Pixels'),
  fit,
  position,
  quality,
  format: z
    .enum([...FORMATS, 'auto'], format([...FORMATS, 'auto']))
    .meta({ id: 'VariantFormatOrAuto' })
    .default('webp')
    .meta({ description: '`auto` chooses by the header field Accept (RFC 9110 section 12.5.1)' }),
});

const ladder = `Pixels; the next of ${LADDER.join(', ')} that is not smaller`;

export const variantFormat = z.enum(FORMATS, format(FORMATS)).meta({ id: 'VariantFormat' });

export const linkQuery = z.strictObject({
  width: pixels(LARGEST_STEP, ladder),
  height: pixels(LARGEST_STEP, ladder),
  fit,
  position,
  quality,
  format: variantFormat.default('webp'),
  expiresIn,
  srcset: flag.meta({
    override: { type: 'boolean', default: false },
    description: 'Signs one address for each width of the ladder up to `width`, 2048 when absent',
  }),
});

type Wanted = Pick<z.output<typeof linkQuery>, 'width' | 'height' | 'fit' | 'position' | 'quality'>;

/** For callers: sizes as they are. @throws Problem invalid-parameter */
export function optionsFor(query: Wanted, format: Format): VariantOptions {
  const { width, height } = query;
  const isSized = width !== undefined || height !== undefined;
  return complete(query, isSized ? { width, height } : { width: LARGEST_STEP, height: LARGEST_STEP }, format);
}

/**
 * For addresses: sizes from the ladder.
 * @param wholeLadder up to the largest where there is no size
 * @throws Problem invalid-parameter
 */
export function addressedOptions(query: Wanted & { format: Format }, wholeLadder: boolean): VariantOptions {
  const onLadder = (size: number | undefined) => (size === undefined ? undefined : stepFor(LADDER, size));
  const isSized = query.width !== undefined || query.height !== undefined;
  if (!isSized && !wholeLadder) throw needs('width', 'must be there, or a height');
  if (wholeLadder && isSized && query.width === undefined)
    throw needs('width', 'must be there: srcset is a list of widths');
  const width = isSized ? onLadder(query.width) : LARGEST_STEP;
  return complete(query, { width, height: onLadder(query.height) }, query.format);
}

interface Box {
  width: number | undefined;
  height: number | undefined;
}

function complete(query: Wanted, { width, height }: Box, format: Format): VariantOptions {
  const { fit, position, quality = DEFAULTS.quality } = query;
  if (fit !== 'inside' && width === undefined) throw needs('width', `must be there with fit=${fit}`);
  if (fit !== 'inside' && height === undefined) throw needs('height', `must be there with fit=${fit}`);
  return {
    ...(width !== undefined && { width }),
    ...(height !== undefined && { height }),
    fit,
    // What means nothing here is as usual, so that one picture has one name.
    position: fit === 'cover' ? position : DEFAULTS.position,
    quality: format === 'png' ? DEFAULTS.quality : stepFor(QUALITIES, quality),
    format,
  };
}

function needs(parameter: string, detail: string): Problem {
  return new Problem('invalid-parameter', { detail: `The ${parameter} ${detail}.`, errors: [{ parameter, detail }] });
}
