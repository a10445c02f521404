/** Variables of processing. */
import { z } from 'zod';
import { bytes, count, flag, optional, setting } from '../config.ts';

const group = 'Processing';

export const processingSettings = {
  DERIVATIVES: setting(
    group,
    flag,
    'true',
    'false: no facts are read and no thumbnails, posters and waveforms are made. Scanning and stripping go on.',
  ),
  TOOLS_AT_ONCE: setting(
    group,
    count.refine((n) => n >= 1, 'must be at least 1'),
    '2',
    'Processes that read files at once: so many of our own (pictures, models) of up to 640 MiB each, and as many programs (ffmpeg, pdftoppm) of up to 768 MiB. Transcodes have one more.',
  ),
  SCRATCH_DIR: setting(
    group,
    optional(z.string()),
    undefined,
    'Where the files lie that tools read; the directory for temporary files of the system when absent.',
  ),
  SCRATCH_BYTES: setting(
    group,
    bytes,
    '8GiB',
    'Bytes of all files together that lie there; a larger file is not looked into.',
  ),
  THUMBNAIL_WIDTH: setting(
    group,
    count.refine((n) => n >= 16 && n <= 2048, 'must be 16 to 2048'),
    '400',
    'Pixels that a thumbnail is wide at most.',
  ),
  THUMBNAIL_HEIGHT: setting(
    group,
    count.refine((n) => n >= 16 && n <= 2048, 'must be 16 to 2048'),
    '300',
    'Pixels that a thumbnail is high at most.',
  ),
};
