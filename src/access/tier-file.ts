/** The file that TIERS names: tiers by name, each with its limits. What a tier does not say is as the settings say. */
import { z } from 'zod';
import { bytes, duration, MAX_LINK } from '../config.ts';
import { DEFAULT_TIER, type TierLimits } from './tiers.ts';

/** A number, or text with a unit, as in settings. @param divisor of what the text says */
const withUnit = (unit: z.ZodType<number, string>, divisor = 1) =>
  z.union([z.number(), unit.transform((value) => value / divisor)], { error: 'must be a number, or text with a unit' });
const whole = (least: number, most: number) =>
  z
    .number(`must be a number from ${least} to ${most}`)
    .int('must be a whole number')
    .min(least, `must be at least ${least}`)
    .max(most, `must be at most ${most}`);
const MAX_NUMBER = 1_000_000_000;

const tierSchema = z.strictObject({
  quota: withUnit(bytes).pipe(whole(0, Number.MAX_SAFE_INTEGER)).exactOptional(),
  maxFileSize: withUnit(bytes).pipe(whole(1, Number.MAX_SAFE_INTEGER)).exactOptional(),
  uploadsPerHour: whole(0, MAX_NUMBER).exactOptional(),
  requestsPerMinute: whole(0, MAX_NUMBER).exactOptional(),
  maxLinkTtl: withUnit(duration, 1000).pipe(whole(1, MAX_LINK)).exactOptional(),
  variantsPerMinute: whole(1, 100_000).exactOptional(),
  transcodes: whole(0, MAX_NUMBER).exactOptional(),
  membersPerProject: whole(1, 100_000).exactOptional(),
});

/** Tiers that there may be: each is in the memory of every process, and in statements. */
const MAX_TIERS = 100;
const NAME = /^[a-z][a-z0-9-]{0,63}$/;
const tierFile = z
  .record(z.string().regex(NAME, 'names of tiers are lower-case letters, digits and hyphens'), tierSchema)
  .refine((named) => Object.keys(named).length <= MAX_TIERS, `must name at most ${MAX_TIERS} tiers`);

/** A fault of the file TIERS names. */
export class TierError extends Error {
  override name = 'TierError';
}

/**
 * @param text of the file
 * @param settings what a tier has that does not say otherwise; `maxFileSize` is also the most that one may have
 * @throws TierError that lists every fault by the field
 */
export function parseTiers(text: string, settings: TierLimits): ReadonlyMap<string, TierLimits> {
  const result = tierFile.safeParse(asJson(text));
  if (!result.success) throw new TierError(result.error.issues.map((issue) => `TIERS: ${wordsOf(issue)}`).join('\n'));
  const tiers = new Map(Object.entries(result.data).map(([name, limits]) => [name, { ...settings, ...limits }]));
  const tooLarge = [...tiers].filter(([, { maxFileSize }]) => maxFileSize > settings.maxFileSize);
  if (tooLarge.length > 0)
    throw new TierError(
      tooLarge
        .map(
          ([name]) => `TIERS: ${name}.maxFileSize is more than MAX_FILE_SIZE allows: raise MAX_FILE_SIZE or lower it`,
        )
        .join('\n'),
    );
  if (!tiers.has(DEFAULT_TIER)) tiers.set(DEFAULT_TIER, settings);
  return tiers;
}

function asJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new TierError(`TIERS: the file is no JSON (${error instanceof Error ? error.message : 'unknown fault'})`);
  }
}

function wordsOf(issue: z.core.$ZodIssue): string {
  if (issue.code === 'invalid_key')
    return `${JSON.stringify(issue.path.at(-1))}: ${issue.issues[0]?.message ?? issue.message}`;
  if (issue.code === 'unrecognized_keys')
    return `${[...issue.path, issue.keys[0]].join('.')}: there is no such limit. There are ${Object.keys(tierSchema.shape).join(', ')}`;
  return `${issue.path.join('.') || 'the file'}: ${issue.message}`;
}
