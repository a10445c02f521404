/** Settings of holds. */
import { count, setting } from '../config.ts';

export const holdSettings = {
  // What is retained for compliance stays, whoever regrets it: so there is a bound that the operator has set.
  MAX_RETENTION_DAYS: setting(
    'Lifecycle',
    count.refine((days) => days >= 1 && days <= 36_500, 'must be 1 to 36500'),
    '3660',
    'How far ahead an asset may be retained (`PUT /v1/assets/{id}/retention`), 1 to 36500 days.',
  ),
} as const;
