/**
 * Public addresses: `/p/{asset}/{name}`, with a query for a picture in another size or for what was made of the file. Each
 * object has one spelling, and it alone may be kept by caches that many share: a stranger who writes it in other ways, in
 * escapes or with parameters that mean nothing, gets the bytes, but fills no cache.
 */
import { z } from 'zod';
import { derivativeName } from '../assets/derivative-names.ts';
import { publicPath } from '../assets/publicity.ts';
import { flag } from '../http/schema-types.ts';
import { Problem } from '../problems.ts';
import { DEFAULTS, LADDER, type VariantOptions } from '../variants/options.ts';
import { variantFormat } from '../variants/query.ts';

const STEPS = `must be one of ${LADDER.join(', ')}`;

/**
 * So few of them that all there can be of one picture are fewer than are kept of it (VARIANTS_PER_ASSET): strangers cannot
 * make it lose what its owner has asked for. Other parameters mean nothing.
 */
export const publicQuery = z.object({
  width: z
    .string()
    .refine((text) => LADDER.some((step) => String(step) === text), STEPS)
    .transform(Number)
    .optional()
    .meta({
      override: { type: 'integer', enum: [...LADDER] },
      description: 'Of a picture: at most so many pixels wide, and never wider than it is',
      example: 512,
    }),
  square: flag.meta({
    override: { type: 'boolean', default: false },
    description: 'Of a picture: exactly `width` on each side, what does not fit is cut off',
  }),
  format: variantFormat.default('webp'),
  derivative: derivativeName.optional().meta({
    description: 'What was made of the file instead of the file itself: thumbnail, poster, waveform, a transcode',
  }),
});
export type PublicQuery = z.output<typeof publicQuery>;

/** What is asked for: the file, a picture in another size, or what was made of it. */
export type Wanted =
  | { kind: 'file' }
  | { kind: 'variant'; options: VariantOptions }
  | { kind: 'derivative'; name: string };

/** @throws Problem invalid-parameter for what contradicts itself */
export function wantedIn({ width, square, format, derivative }: PublicQuery): Wanted {
  if (derivative !== undefined) {
    if (width !== undefined) throw excludes('width');
    return { kind: 'derivative', name: derivative };
  }
  if (width === undefined) {
    if (square || format !== 'webp') throw needsWidth();
    return { kind: 'file' };
  }
  const { position, quality } = DEFAULTS;
  const shape = square ? { width, height: width, fit: 'cover' as const } : { width, fit: DEFAULTS.fit };
  return { kind: 'variant', options: { ...shape, position, quality, format } };
}

/** The one spelling, with its query. */
export function publicAddress(asset: { id: string; name: string }, wanted: Wanted): string {
  return publicPath(asset) + queryOf(wanted);
}

function queryOf(wanted: Wanted): string {
  if (wanted.kind === 'file') return '';
  if (wanted.kind === 'derivative') return `?derivative=${wanted.name}`;
  const { width, fit, format } = wanted.options;
  return `?width=${width}${fit === 'cover' ? '&square=true' : ''}${format === 'webp' ? '' : `&format=${format}`}`;
}

function needsWidth(): Problem {
  const detail = `${STEPS}, to name a shape or a format`;
  return new Problem('invalid-parameter', { detail: `width ${detail}.`, errors: [{ parameter: 'width', detail }] });
}

function excludes(parameter: string): Problem {
  const detail = 'cannot be there with derivative';
  return new Problem('invalid-parameter', { detail: `${parameter} ${detail}.`, errors: [{ parameter, detail }] });
}
