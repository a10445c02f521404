/** What is known about a sound or film. All of it comes from tools that have read an untrusted file: so it is checked. */
export interface MediaFacts {
  /** Seconds. */
  duration?: number;
  /** Bits per second of the whole file. */
  bitRate?: number;
  /** Such as mp4, webm, mp3, ogg. */
  container?: string;
  video?: VideoFacts;
  audio?: AudioFacts;
}

export interface VideoFacts {
  codec: string;
  /** Pixels as it is shown: after rotation. */
  width: number;
  height: number;
  /** Degrees, clockwise, by which a player turns the picture: 0, 90, 180 or 270. */
  rotation: number;
  framesPerSecond?: number;
  /** Bits per second. */
  bitRate?: number;
}

export interface AudioFacts {
  /** Named as ffmpeg names it: aac, mp3, opus, vorbis, flac, alac, pcm_s16le. */
  codec: string;
  channels: number;
  /** Per second. */
  sampleRate: number;
}

const YEAR = 366 * 24 * 3600;
/** The largest that each may be; what is above is a lie, and is left out. */
const LIMITS = {
  duration: YEAR,
  bitRate: 1e11,
  size: 65_535,
  framesPerSecond: 1000,
  channels: 64,
  sampleRate: 6_144_000,
};

/** @returns a positive number no larger than the limit; undefined for everything else, such as N/A, 1e999 and -1 */
function numberUpTo(limit: number, value: unknown): number | undefined {
  const number = typeof value === 'string' && value.length < 40 ? Number(value) : value;
  return typeof number === 'number' && number > 0 && number <= limit ? number : undefined;
}

function integerUpTo(limit: number, value: unknown): number | undefined {
  const number = numberUpTo(limit, value);
  return number === undefined ? undefined : Math.round(number) || undefined;
}

function toThousandth(value: number | undefined): number | undefined {
  return value === undefined ? undefined : Math.round(value * 1000) / 1000 || undefined;
}

/** Seconds to the millisecond. */
export function durationFrom(value: unknown): number | undefined {
  return toThousandth(numberUpTo(LIMITS.duration, value));
}

export function bitRateFrom(value: unknown): number | undefined {
  return integerUpTo(LIMITS.bitRate, value);
}

/** @param value a number, or a fraction such as 30000/1001 */
export function frameRateFrom(value: unknown): number | undefined {
  const [, above, below] = typeof value === 'string' ? (/^(\d{1,12})\/(\d{1,12})$/.exec(value) ?? []) : [];
  const number = above === undefined ? value : Number(above) / Number(below);
  return toThousandth(numberUpTo(LIMITS.framesPerSecond, number));
}

/** @returns the name; `unknown` when it has anything but lower-case letters, digits, `_` and `-` */
export function codecFrom(value: unknown): string {
  return typeof value === 'string' && /^[a-z0-9][a-z0-9_-]{0,31}$/.test(value) ? value : 'unknown';
}

/** @param value degrees, clockwise */
export function rotationFrom(value: unknown): number {
  const degrees = typeof value === 'string' ? Number(value) : value;
  if (typeof degrees !== 'number' || !Number.isFinite(degrees)) return 0;
  return (((Math.round(degrees / 90) * 90) % 360) + 360) % 360;
}

interface Seen {
  codec: unknown;
  width: unknown;
  height: unknown;
  rotation: unknown;
  framesPerSecond: unknown;
  bitRate?: unknown;
}

/** @param seen with width and height as coded, before rotation. @returns undefined when it has no size */
export function videoFrom(seen: Seen): VideoFacts | undefined {
  const [width, height] = [integerUpTo(LIMITS.size, seen.width), integerUpTo(LIMITS.size, seen.height)];
  if (width === undefined || height === undefined) return undefined;
  const rotation = rotationFrom(seen.rotation);
  const isTurned = rotation % 180 !== 0;
  const [framesPerSecond, bitRate] = [frameRateFrom(seen.framesPerSecond), bitRateFrom(seen.bitRate)];
  return {
    codec: codecFrom(seen.codec),
    width: isTurned ? height : width,
    height: isTurned ? width : height,
    rotation,
    ...(framesPerSecond !== undefined && { framesPerSecond }),
    ...(bitRate !== undefined && { bitRate }),
  };
}

/** @returns undefined when it has no channels or no rate: nothing could be heard */
export function audioFrom(seen: { codec: unknown; channels: unknown; sampleRate: unknown }): AudioFacts | undefined {
  const channels = integerUpTo(LIMITS.channels, seen.channels);
  const sampleRate = integerUpTo(LIMITS.sampleRate, seen.sampleRate);
  if (channels === undefined || sampleRate === undefined) return undefined;
  return { codec: codecFrom(seen.codec), channels, sampleRate };
}
