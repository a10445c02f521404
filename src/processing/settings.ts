/** Variables of processing. */
import { count, flag, setting } from '../config.ts';

const group = 'Processing';

export const processingSettings = {
  DERIVATIVES: setting(
    group,
    flag,
    'true',
    'false: no facts are read and no thumbnails, posters and waveforms are made. Scanning and stripping go on.',
  ),
  THUMBNAIL_WIDTH: setting(group, count.refine((n) => n >= 16 && n <= 2048, 'must be 16 to 2048'), '400', 'Pixels that a thumbnail is wide at most.'),
  THUMBNAIL_HEIGHT: setting(group, count.refine((n) => n >= 16 && n <= 2048, 'must be 16 to 2048'), '300', 'Pixels that a thumbnail is high at most.'),
};
