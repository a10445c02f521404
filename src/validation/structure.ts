/**
 * Whether a file keeps what its first bytes promise. Each byte is seen once, in order, in chunks of any size; payloads
 * are passed over, so it costs next to nothing and a few kilobytes of memory.
 *
 * It finds magic numbers with nothing behind them, headers that lie about size or pixels, text in disguise, and files
 * that are cut. It does not decode or unpack: damage in the middle of compressed data is not found.
 */
import { movie, stillPicture } from './structure/boxes.ts';
import { glb, pdf } from './structure/documents.ts';
import { ENCRYPTED_TYPE, encrypted } from './structure/encrypted.ts';
import { gif, jpeg, png, webp } from './structure/images.ts';
import { JsonCheck } from './structure/json.ts';
import { webm } from './structure/matroska.ts';
import { zipCheckers } from './structure/office.ts';
import { aiff, flac, mpegAudio, ogg, wav } from './structure/sound.ts';
import { SvgCheck } from './structure/svg.ts';
import { TextCheck } from './structure/text.ts';
import { type Checker, type Position, Walker } from './structure/walk.ts';

export interface StructureCheck {
  /** What the file has cost so far; see `Walker`. */
  readonly steps: number;
  update(chunk: Uint8Array): void;
  /** What is wrong, in a sentence for the client, as soon as it is known. */
  fault(): string | undefined;
  /** The file is at its end. @returns what is wrong, or undefined when it is sound */
  end(): string | undefined;
}

const checkers: Record<string, (position: Position) => Checker> = {
  'image/jpeg': jpeg,
  'image/png': png,
  'image/webp': webp,
  'image/gif': gif,
  'image/avif': stillPicture('AVIF'),
  'image/heic': stillPicture('HEIC'),
  'image/heif': stillPicture('HEIF'),
  'video/mp4': movie(false),
  'video/quicktime': movie(false),
  'audio/mp4': movie(true),
  'video/webm': webm(false),
  'audio/webm': webm(true),
  'audio/mpeg': mpegAudio,
  'audio/wav': wav,
  'audio/aiff': aiff,
  'audio/flac': flac,
  'audio/ogg': ogg,
  'model/gltf-binary': glb,
  'application/pdf': pdf,
  [ENCRYPTED_TYPE]: encrypted,
  ...zipCheckers,
};

/** Media types that no magic number tells: the client says so, and all bytes must be text of that kind. */
const textCheckers: Record<string, new () => StructureCheck> = {
  'text/plain': TextCheck,
  'text/csv': TextCheck,
  'text/markdown': TextCheck,
  'application/json': JsonCheck,
  'image/svg+xml': SvgCheck,
};

/** Bytes for which a step is believed, of formats that are made of small pieces by nature: pages, blocks, frames. */
const SMALL_PIECES = 16;
const bytesPerStep: Record<string, number> = {
  'image/gif': SMALL_PIECES,
  'image/webp': SMALL_PIECES,
  'audio/ogg': SMALL_PIECES,
  // An entry costs five steps and has 80 bytes at least, with names of two letters and no content.
  ...Object.fromEntries(Object.keys(zipCheckers).map((mediaType) => [mediaType, SMALL_PIECES])),
};

const sound: StructureCheck = { steps: 0, update: () => {}, fault: () => undefined, end: () => undefined };

/** Whether files of this type are text, which the client must name. @param mediaType canonical */
export function isTextType(mediaType: string): boolean {
  return Object.hasOwn(textCheckers, mediaType);
}

/** Whether files of this type are zips, and may be taken for nothing more. @param mediaType canonical */
export function isZipType(mediaType: string): boolean {
  return Object.hasOwn(zipCheckers, mediaType);
}

/** Whether only the last byte tells that a file is sound, so that all of it must be read. @param mediaType canonical */
export function needsWholeFile(mediaType: string): boolean {
  return isTextType(mediaType) || isZipType(mediaType);
}

/** @param mediaType canonical; a type without a checker counts as sound */
export function structureCheck(mediaType: string): StructureCheck {
  const TextKind = Object.hasOwn(textCheckers, mediaType) ? textCheckers[mediaType] : undefined;
  if (TextKind) return new TextKind();
  const checker = Object.hasOwn(checkers, mediaType) ? checkers[mediaType] : undefined;
  return checker ? new Walker(checker, bytesPerStep[mediaType]) : sound;
}
