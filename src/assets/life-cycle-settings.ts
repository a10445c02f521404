/** Settings of what becomes of assets with time. */
import { count, setting } from '../config.ts';
import { MAX_DAYS } from '../validation/life-cycle.ts';

export const lifeCycleSettings = {
  TEMPORARY_DAYS: setting(
    'Uploads',
    count.refine((days) => days >= 1 && days <= MAX_DAYS, `must be 1 to ${MAX_DAYS}`),
    '30',
    'Days after which a temporary asset is deleted for good, unless somebody keeps it.',
  ),
} as const;
