/** A child that reads the headers of sound and film, where there is no ffprobe. */
import { headerFacts } from '../../media/headers.ts';
import type { MediaFile } from '../../media/input.ts';
import { serve } from './serve.ts';

serve<Omit<MediaFile, 'path'>>((media, { file }) => headerFacts({ ...media, path: file }));
