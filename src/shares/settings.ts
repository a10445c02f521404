/** Settings of shares. */
import { count, setting } from '../config.ts';

export const shareSettings = {
  SHARES_PER_CALLER: setting(
    'Limits',
    count.refine((n) => n >= 1, 'must be at least 1'),
    '10000',
    'Shares that a caller may have, those included that have ended within a week.',
  ),
  SHARES_PER_ASSET: setting(
    'Limits',
    count.refine((n) => n >= 1, 'must be at least 1'),
    '100',
    'Shares that may name one asset, those included that have ended within a week.',
  ),
  SHARE_PASSWORD_TRIES: setting(
    'Limits',
    count.refine((n) => n >= 1 && n <= 1000, 'must be 1 to 1000'),
    '10',
    'Wrong passwords of one share that an address may send in 15 minutes, over all instances; all addresses together may send ten times as many.',
  ),
} as const;
