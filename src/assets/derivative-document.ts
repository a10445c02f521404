/** A derivative as the API shows it. */
import { z } from 'zod';
import { bytesCount, openEnum, timestamp } from '../http/schema-types.ts';
import type { Derivative } from '../processing/derivatives.ts';
import { derivativeName } from './derivative-names.ts';

export const derivativeDocument = z
  .object({
    name: derivativeName,
    state: openEnum('DerivativeState', ['making', 'ready', 'failed'], 'Only what is `ready` can be fetched.'),
    reason: z.string().optional().meta({ description: 'Why it failed, in one word', example: 'timed-out' }),
    kind: openEnum('DerivativeKind', ['derivative', 'transcode'], 'How it came about.').optional(),
    mediaType: z.string().optional().meta({ example: 'image/webp' }),
    size: bytesCount.optional(),
    sha256: z.string().optional().meta({ description: 'Hexadecimal' }),
    width: z.number().int().min(0).optional().meta({ description: 'Pixels' }),
    height: z.number().int().min(0).optional().meta({ description: 'Pixels' }),
    createdAt: timestamp.optional(),
  })
  .meta({ id: 'Derivative' });
export const derivativeDocuments = z.object({ data: z.array(derivativeDocument) }).meta({ id: 'Derivatives' });

export type DerivativeDocument = z.input<typeof derivativeDocument>;

export function toDerivativeDocument(
  made: Derivative | { name: string; state: 'making' },
): z.input<typeof derivativeDocument> {
  if (!('id' in made)) return made;
  const { name, state, reason, kind, mediaType, size, sha256, width, height, createdAt } = made;
  return {
    name,
    state,
    ...(reason !== null && { reason }),
    ...((kind === 'derivative' || kind === 'transcode') && { kind }),
    ...(mediaType !== null && { mediaType }),
    ...(size !== null && { size }),
    ...(sha256 && { sha256: sha256.toString('hex') }),
    ...(width !== null && { width }),
    ...(height !== null && { height }),
    createdAt: createdAt.toISOString(),
  };
}
