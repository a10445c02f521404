/** A tier as its caller gets it: with its limits, and what is left of them. */
import { z } from 'zod';
import { type Tier, tierGivers } from '../access/tiers.ts';
import { bytesCount, openEnum, timestamp } from '../http/schema-types.ts';
import type { TierUsage } from './tier-usage.ts';

const number = (description: string) =>
  z
    .number()
    .int()
    .min(0)
    .meta({ override: { type: 'integer', format: 'int32', minimum: 0 }, description });

const limitsDocument = z
  .object({
    quota: bytesCount.meta({ description: 'Bytes, of an account that was given no quota of its own' }),
    maxFileSize: bytesCount.meta({ description: 'Bytes of one file; its upload policy may allow less' }),
    uploadsPerHour: number('Uploads that you may begin in an hour; absent: no limit').optional(),
    requestsPerMinute: number('Requests in a minute, per instance; absent: no limit').optional(),
    maxLinkTtl: number('Seconds that a link may live'),
    variantsPerMinute: number('New variants of your pictures in a minute, per instance'),
    transcodes: number('Transcodes of yours that may wait or be made at once'),
    membersPerProject: number('Members that a project may have when you add one'),
  })
  .meta({ id: 'TierLimits' });

const leftDocument = z
  .object({
    quota: bytesCount.meta({ description: 'Bytes that new uploads may have, as `available`' }),
    uploadsPerHour: number('Uploads that you may still begin in this hour; absent: no limit').optional(),
    hourEndsAt: timestamp
      .optional()
      .meta({ description: 'When that hour ends; absent: it begins with your next upload' }),
    requestsPerMinute: number('Requests that you may still make in this minute, of this instance').optional(),
    transcodes: number('Transcodes that you may still ask for before one is ready'),
  })
  .meta({ id: 'TierLeft' });

export const tierDocument = z
  .object({
    name: z.string().meta({ example: 'free' }),
    givenBy: openEnum(
      'TierGiver',
      tierGivers,
      'Who says that you have it: an administrator, whose word counts most; your token; or nobody.',
    ),
    limits: limitsDocument,
    left: leftDocument,
  })
  .meta({ id: 'Tier' });

/** Of what is left, what is known beside the tier. */
interface Left extends TierUsage {
  /** Bytes. */
  available: number;
  requests: number | undefined;
}

export function toTierDocument(
  { name, givenBy, limits }: Tier,
  { available, uploads, hourEndsAt, transcodes, requests }: Left,
): z.input<typeof tierDocument> {
  const { uploadsPerHour, requestsPerMinute, ...others } = limits;
  return {
    name,
    givenBy,
    limits: {
      ...others,
      ...(uploadsPerHour > 0 && { uploadsPerHour }),
      ...(requestsPerMinute > 0 && { requestsPerMinute }),
    },
    left: {
      quota: available,
      ...(uploadsPerHour > 0 && { uploadsPerHour: Math.max(0, uploadsPerHour - uploads) }),
      ...(uploadsPerHour > 0 && hourEndsAt && { hourEndsAt: hourEndsAt.toISOString() }),
      ...(requestsPerMinute > 0 && requests !== undefined && { requestsPerMinute: requests }),
      transcodes: Math.max(0, limits.transcodes - transcodes),
    },
  };
}
