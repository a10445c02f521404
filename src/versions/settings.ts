/** Settings of what becomes of former bytes. */
import { duration, setting } from '../config.ts';

export const versionSettings = {
  REPLACED_GRACE: setting(
    'Storage',
    duration,
    '1m',
    'How long bytes that were replaced and are not kept stay in the store, for those who are reading them or were just led to them. They are served to nobody else, and do not count.',
  ),
} as const;
