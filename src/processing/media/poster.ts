/**
 * A picture of a film: the frame at one second, or the first that shows something. Films open with black, or fade in from
 * white, so a frame counts only when it is bright and not all of one colour. Each attempt is a run of ffmpeg that ends with
 * the first such frame; the first attempt is enough for most films and costs 0.1 to 0.3 s.
 */
import { asBytes, type Sandbox, ToolError } from '../tools/sandbox.ts';
import type { MediaFacts } from './facts.ts';
import { cpuSecondsFor, decode, type MediaFile, WITHOUT_METADATA } from './input.ts';
import { jpegSize } from './jpeg.ts';
import type { MediaOptions } from './probe.ts';

/** Pixels of the longer side. */
export const POSTER_SIZE = 1280;
/** Bytes; no derivative but a transcode is larger. */
const MAX_POSTER = 4 * 1024 * 1024;

/** Mean luminance of 255 from which a frame is bright: night scenes have 30 and more, titles on black have 10. */
const BRIGHT = 24;
/** Normalised entropy of luminance (0 to 1) from which a frame shows something: a wall has 0.3, one colour has 0. */
const VARIED = 0.1;

interface Attempt {
  /** Options of the input: from where, for how long, and whether key frames only. */
  seek: string[];
  /** What a frame must have. */
  wanted: string[];
}

const isBright = `signalstats,${select('lavfi.signalstats.YAVG', BRIGHT)}`;
const isVaried = `entropy,${select('lavfi.entropy.normalized_entropy.normal.Y', VARIED)}`;
/** JFIF: the matrix of BT.601, luminance from 0 to 255. */
const JPEG_COLOURS = 'out_color_matrix=bt601:out_range=full';
const KEY_FRAMES = ['-skip_frame', 'nokey'];
/** Seconds of one attempt: at the beginning of a film of 2160 lines they take 2, in the middle of nowhere 20. */
const CPU = { base: 20, perMiB: 1, longest: 60 };
const SECONDS = 60;

const attempts: Attempt[] = [
  // The frames from one second on, which come after a key frame that may be far from it.
  { seek: ['-ss', '1', '-t', '0.5'], wanted: [isBright, isVaried] },
  { seek: [...KEY_FRAMES, '-t', '900'], wanted: [isBright, isVaried] },
  // Encoders may go without a key frame for ten seconds, whatever happens in the picture.
  { seek: ['-t', '12'], wanted: [isBright, isVaried] },
  { seek: [...KEY_FRAMES, '-t', '900'], wanted: [isVaried] },
  // A film that is dark or of one colour has a picture that is.
  { seek: [], wanted: [] },
];

export interface Poster {
  /** JPEG, upright, with square pixels, at most 1280 wide and high, never enlarged. */
  bytes: Buffer;
  width: number;
  height: number;
}

/** @throws ToolError when not one frame can be had */
export async function poster(
  sandbox: Sandbox,
  file: MediaFile,
  facts: Pick<MediaFacts, 'video'>,
  { signal }: MediaOptions = {},
): Promise<Poster> {
  if (!facts.video) throw new ToolError('refused', 'There is no film in the file');
  const cpuSeconds = cpuSecondsFor(file, CPU.base, CPU.perMiB, CPU.longest);
  const limits = { seconds: SECONDS, cpuSeconds, output: MAX_POSTER, fileSize: 0 };
  let fault: unknown;
  for (const attempt of attempts)
    try {
      const args = commandLine(file, attempt);
      const bytes = await sandbox.run(
        { program: 'ffmpeg', args, input: file.path, limits, ...(signal && { signal }) },
        asBytes,
      );
      const size = jpegSize(bytes);
      if (size && Math.max(size.width, size.height) <= POSTER_SIZE) return { bytes, ...size };
    } catch (error) {
      if (!(error instanceof ToolError) || !isOfAttempt(error)) throw error;
      // That a tool took too long or crashed tells more than that it found nothing.
      if (error.fault !== 'refused') fault = error;
    }
  throw fault ?? new ToolError('refused', 'There is no frame in the film that can be decoded');
}

/** Whether another attempt may go better: less of the film may take less time and memory. */
function isOfAttempt({ fault }: ToolError): boolean {
  return fault !== 'not-installed' && fault !== 'aborted';
}

function commandLine(file: MediaFile, { seek, wanted }: Attempt): string[] {
  const fit = `scale=w='min(${POSTER_SIZE},iw)':h='min(${POSTER_SIZE},ih)':force_original_aspect_ratio=decrease`;
  // ffmpeg turns the picture upright before its filters. Pixels may be oblong; those of a JPEG are square.
  const filters = [
    "scale=w='max(1,trunc(iw*sar))':h=ih",
    'setsar=1',
    `${fit}:${JPEG_COLOURS}`,
    'format=yuvj420p',
    ...wanted,
  ];
  return [
    ...decode(file, { seek }),
    // V: what is film, and no picture of an album.
    ...['-map', '0:V:0', '-an', '-sn', '-dn', '-vf', filters.join(','), '-frames:v', '1', ...WITHOUT_METADATA],
    ...['-c:v', 'mjpeg', '-q:v', '3', '-huffman', 'optimal', '-f', 'image2pipe', 'pipe:1'],
  ];
}

/** A filter that lets frames pass of which this is greater than the value. */
function select(key: string, value: number): string {
  return `metadata=mode=select:key=${key}:value=${value}:function=greater`;
}
