/**
 * How an untrusted file of sound or film is given to ffmpeg and ffprobe. The demuxer is the one of the media type that was
 * found when the file came in: playlists and the like (hls, concat, dash, image2), which open further files or addresses
 * that the file names, are never tried. Decoders are those of formats that people keep; ffmpeg has hundreds more, mostly
 * of games of the nineties, that nobody has looked at for long.
 */
export interface MediaFile {
  path: string;
  /** Canonical, as validation found it. */
  mediaType: string;
  /** Bytes. */
  size: number;
}

interface Container {
  /** As facts name it. */
  name: string;
  /** As ffmpeg names it. */
  demuxer: string;
}

const containers: Record<string, Container> = {
  'video/mp4': { name: 'mp4', demuxer: 'mov' },
  'video/quicktime': { name: 'mov', demuxer: 'mov' },
  'video/webm': { name: 'webm', demuxer: 'matroska' },
  'video/matroska': { name: 'matroska', demuxer: 'matroska' },
  'video/ogg': { name: 'ogg', demuxer: 'ogg' },
  'audio/mp4': { name: 'mp4', demuxer: 'mov' },
  'audio/webm': { name: 'webm', demuxer: 'matroska' },
  'audio/ogg': { name: 'ogg', demuxer: 'ogg' },
  'audio/mpeg': { name: 'mp3', demuxer: 'mp3' },
  'audio/flac': { name: 'flac', demuxer: 'flac' },
  'audio/wav': { name: 'wav', demuxer: 'wav' },
  'audio/aiff': { name: 'aiff', demuxer: 'aiff' },
};

const DECODERS = [
  ...['h264', 'hevc', 'libdav1d', 'libaom-av1', 'av1', 'vp8', 'vp9', 'libvpx', 'libvpx-vp9'],
  ...[
    'mpeg4',
    'h263',
    'mpeg1video',
    'mpeg2video',
    'theora',
    'mjpeg',
    'prores',
    'dnxhd',
    'dvvideo',
    'png',
    'rawvideo',
    'qtrle',
  ],
  ...[
    'aac',
    'aac_latm',
    'mp3float',
    'mp3',
    'mp2float',
    'mp2',
    'mp1float',
    'mp1',
    'opus',
    'libopus',
    'vorbis',
    'libvorbis',
  ],
  ...['flac', 'alac', 'ac3', 'eac3', 'speex', 'libspeex', 'amrnb', 'amrwb', 'libopencore_amrnb', 'libopencore_amrwb'],
  ...['pcm_u8', 'pcm_s8', 'pcm_s16le', 'pcm_s16be', 'pcm_s24le', 'pcm_s24be', 'pcm_s32le', 'pcm_s32be', 'pcm_s64le'],
  ...['pcm_f32le', 'pcm_f32be', 'pcm_f64le', 'pcm_f64be', 'pcm_alaw', 'pcm_mulaw'],
  ...['adpcm_ms', 'adpcm_ima_wav', 'adpcm_ima_qt', 'gsm', 'gsm_ms'],
].join(',');

/** What makes ffmpeg guess (bytes, microseconds) when headers do not tell. */
const PROBE_SIZE = 5_000_000;
const PROBE_DURATION = 5_000_000;
/** Bytes of one allocation; a frame of 8K with ten bits takes 100 MB. */
const MAX_ALLOCATION = 256 * 1024 * 1024;
/** Of a frame: 8192 x 4320 and a little. A header that claims more is not believed. */
const MAX_PIXELS = 40_000_000;
/** Real films have fewer than ten. */
const MAX_STREAMS = 128;

export function isMedia(mediaType: string): boolean {
  return Object.hasOwn(containers, mediaType);
}

export function isFilm(mediaType: string): boolean {
  return isMedia(mediaType) && mediaType.startsWith('video/');
}

export function containerOf(mediaType: string): string | undefined {
  return Object.hasOwn(containers, mediaType) ? containers[mediaType]?.name : undefined;
}

/** Options of the input for ffprobe, and for ffmpeg before `-i`. @throws RangeError when it is neither sound nor film */
export function inputOptions({ mediaType }: Pick<MediaFile, 'mediaType'>): string[] {
  const demuxer = Object.hasOwn(containers, mediaType) ? containers[mediaType]?.demuxer : undefined;
  if (demuxer === undefined) throw new RangeError(`${mediaType} is neither sound nor film`);
  return [
    ...['-protocol_whitelist', 'file,pipe', '-format_whitelist', demuxer, '-codec_whitelist', DECODERS],
    ...['-probesize', String(PROBE_SIZE), '-analyzeduration', String(PROBE_DURATION)],
    ...['-max_streams', String(MAX_STREAMS), '-f', demuxer],
  ];
}

const MiB = 1024 * 1024;

/**
 * Seconds of processor that a file may take: by its size, so that nobody keeps a machine busy with a small file.
 * @param perMiB of an ordinary file of that kind, many times over
 */
export function cpuSecondsFor({ size }: MediaFile, base: number, perMiB: number, longest: number): number {
  return Math.min(longest, Math.ceil(base + (size / MiB) * perMiB));
}

/** What every command line of ffmpeg begins with, up to the input. @param seek options that say where it is read from */
export function decode(
  file: MediaFile,
  { threads = 1, seek = [] }: { threads?: number; seek?: string[] } = {},
): string[] {
  return [
    ...['-nostdin', '-v', 'error', '-max_alloc', String(MAX_ALLOCATION), '-filter_threads', '1'],
    ...['-threads', String(threads), ...inputOptions(file), '-max_pixels', String(MAX_PIXELS)],
    ...[...seek, '-i', `file:${file.path}`],
  ];
}

/** Nothing that the file says about itself goes into what is made of it: no titles, no place, no chapters. */
export const WITHOUT_METADATA = [
  '-map_metadata',
  '-1',
  '-map_chapters',
  '-1',
  '-fflags',
  '+bitexact',
  '-flags',
  '+bitexact',
];
