/**
 * Facts from what libraries of JavaScript read in headers, for machines without ffprobe: MP4 and MOV by mp4box, all else by
 * music-metadata. Codecs are named as ffmpeg names them, so that a record tells the same with and without it.
 *
 * Runs in a child (tools/workers/sound.ts): the file is untrusted, and both libraries keep in memory what they find.
 */
import { open } from 'node:fs/promises';
import { createFile, type ISOFile, MP4BoxBuffer } from 'mp4box';
import { type IAudioMetadata, parseFile } from 'music-metadata';
import { audioFrom, bitRateFrom, durationFrom, type MediaFacts, videoFrom } from './facts.ts';
import { containerOf, type MediaFile } from './input.ts';

/** By their names in MP4 (RFC 6381), in Matroska, and as music-metadata calls them; all in lower case. */
const codecs: readonly [name: RegExp, codec: string][] = [
  [/^(avc[13]|v_mpeg4\/iso\/avc)/, 'h264'],
  [/^(hvc1|hev1|v_mpegh)/, 'hevc'],
  [/^(av01|v_av1)/, 'av1'],
  [/^(vp08|v_vp8)/, 'vp8'],
  [/^(vp09|v_vp9)/, 'vp9'],
  [/^mp4v/, 'mpeg4'],
  [/^ap(cn|ch|cs|co|4h|4x)/, 'prores'],
  [/^(jpeg|mjp)/, 'mjpeg'],
  [/^(mp4a\.(69|6b)|mpeg [\d.]+ layer 3|a_mpeg\/l3)/, 'mp3'],
  [/^mpeg [\d.]+ layer 2/, 'mp2'],
  [/^(mp4a|aac|a_aac|mpeg-4\/aac)/, 'aac'],
  [/^(a_)?opus/, 'opus'],
  [/^(a_)?vorbis/, 'vorbis'],
  [/^(a_)?flac/, 'flac'],
  [/^alac/, 'alac'],
  [/^ac-?3/, 'ac3'],
  [/^ec-?3/, 'eac3'],
  [/^speex/, 'speex'],
];

function codecNamed(name: unknown): string {
  const text = typeof name === 'string' ? name.toLowerCase() : '';
  return codecs.find(([pattern]) => pattern.test(text))?.[1] ?? 'unknown';
}

/** @throws Error when there is neither sound nor film in it */
export async function headerFacts(file: MediaFile): Promise<MediaFacts> {
  const container = containerOf(file.mediaType);
  const facts = container === 'mp4' || container === 'mov' ? await factsOfMp4(file.path) : await factsByNames(file);
  if (!facts.video && !facts.audio) throw new Error('There is neither sound nor film in the file');
  return { ...facts, ...(container !== undefined && { container }) };
}

async function factsByNames({ path, mediaType }: MediaFile): Promise<MediaFacts> {
  const { format } = await parseFile(path, { duration: true, skipCovers: true });
  const track = format.trackInfo.find(({ video }) => video !== undefined);
  const video =
    mediaType.startsWith('video/') && track?.video
      ? videoFrom({
          codec: codecNamed(track.codecId ?? track.codecName),
          width: track.video.pixelWidth,
          height: track.video.pixelHeight,
          rotation: 0,
          framesPerSecond: Reflect.get(track.video, 'frameRate'),
        })
      : undefined;
  const audio = audioFrom({
    codec: pcmName(format, mediaType) ?? codecNamed(format.codec),
    channels: format.numberOfChannels,
    sampleRate: format.sampleRate,
  });
  // Of Ogg the library gives that of the last page.
  const isOgg = containerOf(mediaType) === 'ogg';
  return facts({ duration: format.duration, bitRate: isOgg ? undefined : format.bitrate, video, audio });
}

/** Of samples as they are: WAV is little-endian, AIFF big-endian. */
function pcmName({ codec = '', bitsPerSample }: IAudioMetadata['format'], mediaType: string): string | undefined {
  if (!/pcm/i.test(codec) || bitsPerSample === undefined) return undefined;
  if (bitsPerSample === 8) return mediaType === 'audio/wav' ? 'pcm_u8' : 'pcm_s8';
  const isBigEndian = mediaType === 'audio/aiff' && !/swapped/i.test(codec);
  return `pcm_s${bitsPerSample}${isBigEndian ? 'be' : 'le'}`;
}

interface Found {
  duration: unknown;
  bitRate: unknown;
  video: MediaFacts['video'];
  audio: MediaFacts['audio'];
}

function facts(found: Found): MediaFacts {
  const [duration, bitRate] = [durationFrom(found.duration), bitRateFrom(found.bitRate)];
  const { video, audio } = found;
  return {
    ...(duration !== undefined && { duration }),
    ...(bitRate !== undefined && { bitRate }),
    ...(video && { video }),
    ...(audio && { audio }),
  };
}

const CHUNK = 256 * 1024;
/** Bytes that are read of a file; the index of a film of three hours has about ten million. */
const MAX_READ = 64 * 1024 * 1024;

async function factsOfMp4(path: string): Promise<MediaFacts> {
  const mp4 = createFile(false);
  const file = await open(path);
  try {
    const { size } = await file.stat();
    let read = 0;
    // The library says from where it wants to go on: it leaves the frames out.
    for (let at = 0; at < size && read < MAX_READ; ) {
      const chunk = new ArrayBuffer(Math.min(CHUNK, size - at));
      const { bytesRead } = await file.read(new Uint8Array(chunk), 0, chunk.byteLength, at);
      if (bytesRead === 0) break;
      read += bytesRead;
      const next = mp4.appendBuffer(MP4BoxBuffer.fromArrayBuffer(chunk, at));
      at = next !== undefined && next > at ? next : at + bytesRead;
    }
    return factsOfMovie(mp4, size);
  } finally {
    await file.close();
  }
}

function factsOfMovie(mp4: ISOFile, size: number): MediaFacts {
  const movie = mp4.getInfo();
  const [film] = movie.videoTracks;
  const [sound] = movie.audioTracks;
  const fragments = movie.fragment_duration;
  const duration = movie.duration > 0 ? movie.duration / movie.timescale : fragments && fragments.num / fragments.den;
  const [a, b] = [film?.matrix[0] ?? 0, film?.matrix[1] ?? 0];
  const filmSeconds = film && film.samples_duration / film.timescale;
  return facts({
    duration,
    bitRate: duration && (size * 8) / duration,
    video:
      film &&
      videoFrom({
        codec: codecNamed(film.codec),
        width: film.video?.width,
        height: film.video?.height,
        // ISO 14496-12, 8.3.2: the first column of the matrix is where the width points to.
        rotation: (Math.atan2(b, a) * 180) / Math.PI,
        framesPerSecond: filmSeconds && film.nb_samples / filmSeconds,
        bitRate: film.bitrate,
      }),
    audio:
      sound &&
      audioFrom({
        codec: codecNamed(sound.codec),
        channels: channelsOfAac(mp4, sound.id) ?? sound.audio?.channel_count,
        sampleRate: sound.audio?.sample_rate,
      }),
  });
}

/** Writers put 2 into the sample entry whatever it is; the decoder's own header tells (ISO 14496-3, AudioSpecificConfig). */
function channelsOfAac(mp4: ISOFile, trackId: number): number | undefined {
  let found: unknown = mp4.getTrackById(trackId);
  for (const key of ['mdia', 'minf', 'stbl', 'stsd', 'entries', 0, 'esds', 'esd', 'descs', 0, 'descs', 0, 'data'])
    found = found instanceof Object ? Reflect.get(found, key) : undefined;
  const channels = found instanceof Uint8Array ? ((found[1] ?? 0) >> 3) & 0xf : 0;
  // 7 stands for eight channels.
  return channels === 7 ? 8 : channels || undefined;
}
