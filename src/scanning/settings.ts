/** Variables of scanning. */
import { z } from 'zod';
import { bytes, count, duration, optional, setting } from '../config.ts';
import { clamdAddress } from './clamd.ts';

const group = 'Scanning';

export const scanSettings = {
  CLAMD: setting(
    group,
    optional(
      z
        .string()
        .refine((text) => clamdAddress(text) !== undefined, 'must be host:port or the absolute path of a socket'),
    ),
    undefined,
    'clamd, as host:port or the path of its socket; with it every file is scanned for viruses.',
  ),
  SCAN_INLINE: setting(
    group,
    bytes,
    '1MiB',
    'Largest file that is scanned while it comes, at most PART_SIZE; larger ones are scanned by a job.',
  ),
  SCANS_AT_ONCE: setting(
    group,
    count.refine((n) => n >= 1 && n <= 256, 'must be 1 to 256'),
    '8',
    'Scans of the process in progress; all processes together need no more than MaxThreads of clamd.',
  ),
  SCAN_PATIENCE: setting(
    group,
    duration.refine((ms) => ms >= 1000, 'must be at least 1s'),
    '24h',
    'How long clamd is tried before a file that must be scanned is rejected.',
  ),
};
