/** Facts of sound and film by ffprobe, which reads headers and a few frames, and by ffmpeg where a header does not tell. */
import { z } from 'zod';
import { asText, type Sandbox, ToolError } from '../tools/sandbox.ts';
import { audioFrom, bitRateFrom, durationFrom, type MediaFacts, videoFrom } from './facts.ts';
import { containerOf, decode, inputOptions, type MediaFile } from './input.ts';
import { lastTime } from './progress.ts';

/** 64 streams are told in 40 KiB. */
const PROBE_LIMITS = { seconds: 30, cpuSeconds: 20, output: 1024 * 1024, fileSize: 0 };
/** Of reading all packets of a file without decoding one: 5 GiB from a disk. */
const MEASURE_LIMITS = { seconds: 120, cpuSeconds: 60, output: 4 * 1024 * 1024, fileSize: 0 };

const ENTRIES = [
  'format=duration,bit_rate',
  'stream=codec_type,codec_name,width,height,avg_frame_rate,r_frame_rate,channels,sample_rate,bit_rate,duration',
  'stream_disposition=attached_pic',
  'stream_side_data=rotation',
].join(':');

const stream = z.object({
  codec_type: z.string().optional(),
  codec_name: z.unknown().optional(),
  width: z.unknown().optional(),
  height: z.unknown().optional(),
  avg_frame_rate: z.unknown().optional(),
  r_frame_rate: z.unknown().optional(),
  channels: z.unknown().optional(),
  sample_rate: z.unknown().optional(),
  bit_rate: z.unknown().optional(),
  duration: z.unknown().optional(),
  disposition: z.object({ attached_pic: z.unknown().optional() }).optional(),
  side_data_list: z.array(z.object({ rotation: z.number().optional() })).optional(),
});
type Stream = z.output<typeof stream>;
const report = z.object({
  format: z.object({ duration: z.unknown().optional(), bit_rate: z.unknown().optional() }).optional(),
  streams: z.array(stream).optional(),
});

export interface MediaOptions {
  signal?: AbortSignal;
}

/** @throws ToolError when the file holds neither sound nor film, or cannot be read as what it is */
export async function probe(sandbox: Sandbox, file: MediaFile, { signal }: MediaOptions = {}): Promise<MediaFacts> {
  const args = ['-v', 'error', ...inputOptions(file), '-of', 'json=compact=1', '-show_entries', ENTRIES];
  const output = await sandbox.run(
    {
      program: 'ffprobe',
      args: [...args, '-i', `file:${file.path}`],
      input: file.path,
      limits: PROBE_LIMITS,
      ...(signal && { signal }),
    },
    asText,
  );
  const { format, streams = [] } = parse(output);
  const [film, sound] = [streams.find(isFilmStream), streams.find(({ codec_type }) => codec_type === 'audio')];
  const [video, audio] = [film && videoOf(film), sound && audioOf(sound)];
  if (!video && !audio) throw new ToolError('refused', 'There is neither sound nor film in the file');
  const duration = durationFrom(format?.duration) ?? (await measure(sandbox, file, { ...(signal && { signal }) }));
  const bitRate = bitRateFrom(format?.bit_rate) ?? bitRateFrom(duration && (file.size * 8) / duration);
  const container = containerOf(file.mediaType);
  return {
    ...(duration !== undefined && { duration }),
    ...(bitRate !== undefined && { bitRate }),
    ...(container !== undefined && { container }),
    ...(video && { video }),
    ...(audio && { audio }),
  };
}

function parse(output: string): z.output<typeof report> {
  try {
    return report.parse(JSON.parse(output));
  } catch {
    throw new ToolError('refused', 'ffprobe does not tell what the file holds');
  }
}

/** The picture of an album is a stream of film to ffmpeg. */
function isFilmStream({ codec_type, disposition }: Stream): boolean {
  return codec_type === 'video' && disposition?.attached_pic !== 1;
}

function videoOf(film: Stream) {
  // Of the display matrix: counter-clockwise.
  const rotation = film.side_data_list?.find(({ rotation }) => rotation !== undefined)?.rotation ?? 0;
  return videoFrom({
    codec: film.codec_name,
    width: film.width,
    height: film.height,
    rotation: -rotation,
    framesPerSecond: film.avg_frame_rate === '0/0' ? film.r_frame_rate : film.avg_frame_rate,
    bitRate: film.bit_rate,
  });
}

function audioOf(sound: Stream) {
  return audioFrom({ codec: sound.codec_name, channels: sound.channels, sampleRate: sound.sample_rate });
}

/**
 * The duration of a file whose header has none, such as what browsers record: the time of its last packet.
 * @returns undefined when that takes too long
 */
async function measure(sandbox: Sandbox, file: MediaFile, { signal }: MediaOptions): Promise<number | undefined> {
  const args = [
    ...decode(file),
    '-map',
    '0:V:0?',
    '-map',
    '0:a:0?',
    '-c',
    'copy',
    '-progress',
    'pipe:1',
    '-f',
    'null',
    '-',
  ];
  const run = { program: 'ffmpeg', args, input: file.path, limits: MEASURE_LIMITS, ...(signal && { signal }) } as const;
  try {
    return durationFrom(await sandbox.run(run, lastTime));
  } catch (error) {
    if (error instanceof ToolError && error.fault !== 'aborted') return undefined;
    throw error;
  }
}
