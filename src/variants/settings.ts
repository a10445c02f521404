/** Variables of variants. */

import { z } from 'zod';
import { count, duration, MAX_LINK, setting } from '../config.ts';

const group = 'Variants';

export const variantSettings = {
  VARIANTS_PER_ASSET: setting(
    group,
    count.refine((n) => n >= 1 && n <= 10_000, 'must be 1 to 10000'),
    '200',
    'Variants that are kept of one picture; the least recently asked for goes first.',
  ),
  VARIANTS_AT_ONCE: setting(
    group,
    count.refine((n) => n >= 1 && n <= 64, 'must be 1 to 64'),
    '4',
    'Variants that the process makes at once; pictures of one owner leave some of the places to others.',
  ),
  VARIANTS_PER_MINUTE: setting(
    group,
    count.refine((n) => n >= 1 && n <= 100_000, 'must be 1 to 100000'),
    '300',
    'New variants of the pictures of one owner that the process makes in a minute; a page full of new pictures needs one each.',
  ),
  VARIANT_WAIT: setting(
    group,
    duration.refine((ms) => ms >= 1000 && ms <= 120_000, 'must be 1s to 2m'),
    '30s',
    'How long a request waits for a variant that is not made yet before it is refused.',
  ),
  VARIANT_LEASE: setting(
    group,
    duration.refine((ms) => ms >= 1000 && ms <= 600_000, 'must be 1s to 10m'),
    '20s',
    'An instance that makes a variant and gives no sign of life for this long is taken for dead, and another makes it.',
  ),
  VARIANT_LINK_TTL: setting(
    group,
    duration.refine((ms) => ms >= 1000 && ms <= MAX_LINK * 1000, 'must be 1s to 7d'),
    '24h',
    'Life of an address of a variant when the caller names none, at most 7d; it is the same address for half of that time.',
  ),
  VARIANT_CACHE: setting(
    group,
    z.enum(['private', 'public'], { error: 'must be private or public' }),
    'private',
    'Who may keep what an address of a variant leads to: private is browsers, public is caches and CDNs too, also after the asset was deleted.',
  ),
};
