/**
 * Whether a file keeps what its first bytes promise. Each byte is seen once, in order, in chunks of any size; payloads
 * are passed over, so it costs next to nothing and a few kilobytes of memory.
 *
 * It finds magic numbers with nothing behind them, headers that lie about size or pixels, text in disguise, and files
 * that are cut. It does not decode: damage in the middle of compressed data is not found.
 */
import { avif, movie } from './structure/boxes.ts';
import { glb, pdf } from './structure/documents.ts';
import { gif, jpeg, png, webp } from './structure/images.ts';
import { webm } from './structure/matroska.ts';
import { aiff, flac, mpegAudio, ogg, wav } from './structure/sound.ts';
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
  'image/avif': avif,
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
};

/** Bytes for which a step is believed, of formats that are made of small pieces by nature: pages, blocks, frames. */
const SMALL_PIECES = 16;
const bytesPerStep: Record<string, number> = {
  'image/gif': SMALL_PIECES,
  'image/webp': SMALL_PIECES,
  'audio/ogg': SMALL_PIECES,
};

const sound: StructureCheck = { steps: 0, update: () => {}, fault: () => undefined, end: () => undefined };

/** @param mediaType canonical; a type without a checker counts as sound */
export function structureCheck(mediaType: string): StructureCheck {
  const checker = Object.hasOwn(checkers, mediaType) ? checkers[mediaType] : undefined;
  return checker ? new Walker(checker, bytesPerStep[mediaType]) : sound;
}
