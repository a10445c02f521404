/** What sound and film can be turned into, and what has to be said for it. A request that says everything is a target. */

import { transcodeFormats } from '../../validation/upload-policies.ts';

export const TRANSCODE_FORMATS = transcodeFormats;
export type TranscodeFormat = (typeof TRANSCODE_FORMATS)[number];

/** Equal targets have equal results. */
export interface Target {
  format: TranscodeFormat;
  /** Kilobits per second, of formats that have it. */
  bitrate?: number;
  /** Pixels, of films. */
  height?: number;
}

interface Choice {
  allowed: readonly number[];
  /** When nothing is asked for. */
  usual: number;
}

interface Format {
  mediaType: string;
  /** Of the name under which it is saved. */
  extension: string;
  bitrate?: Choice;
  height?: Choice;
}

/**
 * The bit rates of MP3 are those of MPEG-1, layer 3 (ISO 11172-3, 2.4.2.3). Opus goes into WebM, which browsers play that do
 * not know it in Ogg (Safari before 18.4).
 */
export const formats: Readonly<Record<TranscodeFormat, Format>> = {
  mp3: {
    mediaType: 'audio/mpeg',
    extension: 'mp3',
    bitrate: { allowed: [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320], usual: 128 },
  },
  aac: {
    mediaType: 'audio/mp4',
    extension: 'm4a',
    bitrate: { allowed: [32, 48, 64, 96, 128, 160, 192, 256, 320], usual: 128 },
  },
  opus: {
    mediaType: 'audio/webm',
    extension: 'weba',
    bitrate: { allowed: [16, 24, 32, 48, 64, 96, 128, 160, 192, 256], usual: 96 },
  },
  flac: { mediaType: 'audio/flac', extension: 'flac' },
  wav: { mediaType: 'audio/wav', extension: 'wav' },
  mp4: {
    mediaType: 'video/mp4',
    extension: 'mp4',
    height: { allowed: [144, 240, 360, 480, 540, 720, 1080, 1440, 2160], usual: 720 },
  },
};

export function isFilmFormat(format: TranscodeFormat): boolean {
  return formats[format].height !== undefined;
}

/** What is wrong with a request. */
export interface TargetFault {
  field: 'bitrate' | 'height';
  detail: string;
}

/** @returns the target with everything said, or what is wrong with what was asked for */
export function targetFrom(asked: Target): { target: Target } | { fault: TargetFault } {
  const target: Target = { format: asked.format };
  for (const field of ['bitrate', 'height'] as const) {
    const [choice, value] = [formats[asked.format][field], asked[field]];
    if (!choice) {
      if (value !== undefined) return { fault: { field, detail: `${asked.format} has no ${field}: leave it out.` } };
    } else if (value !== undefined && !choice.allowed.includes(value)) {
      const unit = field === 'bitrate' ? 'kilobits per second' : 'pixels';
      return { fault: { field, detail: `For ${asked.format} it is one of ${choice.allowed.join(', ')} ${unit}.` } };
    } else target[field] = value ?? choice.usual;
  }
  return { target };
}

/** Of the derivative: mp3-128k, flac, mp4-720p. */
export function nameOf({ format, bitrate, height }: Target): string {
  if (bitrate !== undefined) return `${format}-${bitrate}k`;
  return height === undefined ? format : `${format}-${height}p`;
}
