/**
 * Sound and film in another format. The result is made anew from what is seen and heard: nothing else of the original comes
 * along, no title, no place, no chapters, no subtitles, no further streams.
 */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Sandbox, ToolError } from '../tools/sandbox.ts';
import type { MediaFacts } from './facts.ts';
import { formats, isFilmFormat, type Target, type TranscodeFormat } from './formats.ts';
import { decode, type MediaFile, WITHOUT_METADATA } from './input.ts';
import { type MediaOptions, probe } from './probe.ts';
import { timesOf } from './progress.ts';

/** Processors that one transcode may keep busy. */
const THREADS = 2;
const MiB = 1024 * 1024;
/** Of a film of 2160 lines. */
const MEMORY = 1536 * MiB;
/** Lines of progress: 300 bytes twice a second. */
const PROGRESS_OUTPUT = 64 * MiB;
/** Seconds for each second of what is made, on a busy machine: films of 1080 lines take 0.5 to 1.5 alone, sound 0.02. */
const PACE = { film: 6, sound: 0.5 };
const SHORTEST = 120;
const LONGEST = 6 * 3600;

export interface TranscodeOptions extends MediaOptions {
  /** Where the result is written; nothing else may lie there. */
  directory: string;
  /** Seconds of the longest that may be made. */
  maxDuration: number;
  /** Bytes of the largest file that may be made. */
  maxBytes: number;
  /** Told at most twice a second: 0 to 1. Not told when nobody knows how long it will be. */
  onProgress?(done: number): void;
}

export interface Transcode {
  path: string;
  /** Bytes. */
  size: number;
  /** Of the result. */
  facts: MediaFacts;
}

/** @throws ToolError */
export async function transcode(
  sandbox: Sandbox,
  file: MediaFile,
  target: Target,
  facts: MediaFacts,
  options: TranscodeOptions,
): Promise<Transcode> {
  const isFilm = isFilmFormat(target.format);
  if (isFilm ? !facts.video : !facts.audio)
    throw new ToolError('refused', `There is no ${isFilm ? 'film' : 'sound'} in the file`);
  const { mediaType, extension } = formats[target.format];
  const path = join(options.directory, `transcode.${extension}`);
  const length = Math.min(facts.duration ?? options.maxDuration, options.maxDuration);
  const seconds = Math.min(LONGEST, SHORTEST + Math.ceil(length * (isFilm ? PACE.film : PACE.sound)));
  const made = await sandbox.run(
    {
      program: 'ffmpeg',
      args: commandLine(file, target, facts, path, options.maxDuration),
      input: file.path,
      outputDirectory: options.directory,
      limits: {
        seconds,
        cpuSeconds: seconds * THREADS,
        memory: MEMORY,
        fileSize: options.maxBytes,
        output: PROGRESS_OUTPUT,
      },
      ...(options.signal && { signal: options.signal }),
    },
    (stdout) => follow(stdout, facts.duration, options.onProgress),
  );
  if (made > options.maxDuration) throw new ToolError('refused', `It lasts longer than ${options.maxDuration} seconds`);
  const signal = options.signal && { signal: options.signal };
  const { size } = await stat(path);
  return { path, size, facts: await probe(sandbox, { path, mediaType, size }, { ...signal }) };
}

/** @returns seconds that were made */
async function follow(
  stdout: AsyncIterable<Buffer>,
  duration: number | undefined,
  onProgress: TranscodeOptions['onProgress'],
): Promise<number> {
  let made = 0;
  for await (const time of timesOf(stdout)) {
    made = time;
    if (duration !== undefined) onProgress?.(Math.min(1, time / duration));
  }
  return made;
}

function commandLine(file: MediaFile, target: Target, facts: MediaFacts, path: string, maxDuration: number): string[] {
  const isFilm = isFilmFormat(target.format);
  return [
    ...decode(file, { threads: THREADS }),
    // V: what is film, and no picture of an album.
    ...(isFilm ? ['-map', '0:V:0', '-map', '0:a:0?'] : ['-map', '0:a:0', '-vn']),
    // A second more than may be, so that it shows when there is more.
    ...['-sn', '-dn', '-t', String(maxDuration + 1), ...encoders[target.format](target, facts), ...WITHOUT_METADATA],
    ...['-threads', String(THREADS), '-progress', 'pipe:1', `file:${path}`],
  ];
}

/** Whoever hears a film or music in a page has two ears; flac and wav keep all channels. */
const twoChannels = ({ audio }: MediaFacts) => (audio && audio.channels > 2 ? ['-ac', '2'] : []);
/** With the index at the beginning, so that it plays before all of it has arrived. */
const MP4 = ['-movflags', '+faststart', '-f', 'mp4'];
/** 16 bits of a sample hold all that there is; ffmpeg would take 24, which take more room than the original. */
const LOSSY = /^(aac|aac_latm|mp[123]|opus|vorbis|ac3|eac3|speex|amr.*|adpcm.*|gsm.*)$/;

const encoders: Record<TranscodeFormat, (target: Target, facts: MediaFacts) => string[]> = {
  mp3: ({ bitrate }, facts) => [
    ...['-c:a', 'libmp3lame', '-b:a', `${bitrate}k`, ...twoChannels(facts)],
    ...['-id3v2_version', '0', '-f', 'mp3'],
  ],
  aac: ({ bitrate }, facts) => ['-c:a', 'aac', '-b:a', `${bitrate}k`, ...twoChannels(facts), ...MP4],
  opus: ({ bitrate }, facts) => ['-c:a', 'libopus', '-b:a', `${bitrate}k`, ...twoChannels(facts), '-f', 'webm'],
  flac: (_, { audio }) => [
    ...['-c:a', 'flac', ...(LOSSY.test(audio?.codec ?? '') ? ['-sample_fmt', 's16'] : [])],
    ...['-f', 'flac'],
  ],
  // RF64 (EBU Tech 3306) where four bytes do not hold the size.
  wav: () => ['-c:a', 'pcm_s16le', '-rf64', 'auto', '-f', 'wav'],
  mp4: ({ height = 0 }, facts) => [
    ...['-vf', filmFilters(height, facts), '-pix_fmt', 'yuv420p'],
    ...['-c:v', 'libx264', '-preset', 'veryfast', '-crf', '23', '-profile:v', 'high'],
    ...['-c:a', 'aac', '-b:a', '128k', ...twoChannels(facts), ...MP4],
  ],
};

const MAX_FRAME_RATE = 60;

/** Never enlarged; with square pixels; even sizes, as the half-sized colours of H.264 need. ffmpeg has turned it upright before. */
function filmFilters(height: number, { video }: MediaFacts): string {
  const even = (size: string) => `max(2,trunc((${size})/2)*2)`;
  const isFast = (video?.framesPerSecond ?? 0) > MAX_FRAME_RATE;
  return [
    ...(isFast ? [`fps=${MAX_FRAME_RATE}`] : []),
    // One more than the exact width before it is made even: so it is rounded to the nearest.
    `scale=w='min(${even('iw*sar')},${even(`iw*sar*min(1,${height}/ih)+1`)})':h='${even(`min(ih,${height})`)}'`,
    'setsar=1',
  ].join(',');
}
