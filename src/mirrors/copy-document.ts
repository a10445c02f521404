/** A copy as the record of its asset tells it. */
import { z } from 'zod';
import { copyReasons } from '../database/tables/mirrors.ts';
import { bytesCount, openEnum, timestamp } from '../http/schema-types.ts';
import type { CopyOfAsset } from './repository.ts';

export const copyReason = openEnum('CopyReason', copyReasons, 'Why an object could not be copied.');

export const copyDocument = z
  .object({
    mirror: z.string().meta({ description: 'Name of the mirror', example: 'mirror' }),
    state: openEnum(
      'CopyState',
      ['pending', 'copied', 'failed', 'verified'],
      '`verified` copies were read back and compared with the digest of the file. `failed` ones are tried again.',
    ),
    at: timestamp.meta({ description: 'Since when; of a failed or verified copy, the last time' }),
    attempts: bytesCount.meta({
      override: { type: 'integer', minimum: 0 },
      description: 'Tries to copy it so far',
      example: 1,
    }),
    reason: copyReason.optional(),
  })
  .meta({ id: 'Copy' });

export function toCopyDocument({ mirror, state, at, attempts, reason }: CopyOfAsset): z.input<typeof copyDocument> {
  if (state === 'deleting') throw new Error('a copy that is being removed has no document');
  return { mirror, state, at: at.toISOString(), attempts, ...(state === 'failed' && reason && { reason }) };
}
