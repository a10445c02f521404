/**
 * GIF89a: images stay with their control blocks, and of applications' blocks the number of repetitions and the colour
 * profile. Comments, text to be drawn (which no browser draws), XMP and all else go, and so does what follows the trailer.
 */
import type { Changes } from './changes.ts';
import { bytes, Unstrippable, view, type Walk } from './walk.ts';

const TRAILER = 0x3b;
const EXTENSION = 0x21;
const IMAGE = 0x2c;
const GRAPHIC_CONTROL = 0xf9;
const APPLICATION = 0xff;

const LOOPS = new Set(['NETSCAPE2.0', 'ANIMEXTS1.0']);
const COLOUR_PROFILE = 'ICCRGBG1012';
/** Of a block that tells how often the animation is shown: two bytes, the size of the name, the name. */
const LOOP_HEAD = 14;
/** What follows them: `03 01`, the number, and the empty sub-block. */
const LOOP_LENGTH = LOOP_HEAD + 5;

export function* gif(size: number, changes: Changes): Walk<void> {
  const screen = yield* bytes(0, 13);
  if (!/^GIF8[79]a$/.test(screen.toString('latin1', 0, 6))) throw new Unstrippable('The file is no GIF.');
  for (let at = 13 + colourTable(screen.readUInt8(10)); ; ) {
    const block = (yield* bytes(at, 1)).readUInt8(0);
    if (block === TRAILER) return changes.cut(at + 1, size);
    if (block === EXTENSION) at = yield* extension(at, changes);
    else if (block === IMAGE) {
      const image = yield* bytes(at, 10);
      at = yield* endOfBlocks(at + 10 + colourTable(image.readUInt8(9)) + 1);
    } else throw new Unstrippable('The GIF has a block that does not exist.');
  }
}

function colourTable(flags: number): number {
  return flags & 0x80 ? 3 * 2 ** ((flags & 7) + 1) : 0;
}

/** @returns where it ends */
function* extension(at: number, changes: Changes): Walk<number> {
  const label = (yield* bytes(at, 2)).readUInt8(1);
  const end = yield* endOfBlocks(at + 2);
  if (label === GRAPHIC_CONTROL) return end;
  const name = label === APPLICATION && end - at >= LOOP_HEAD ? (yield* bytes(at + 3, 11)).toString('latin1') : '';
  if (LOOPS.has(name)) yield* loop(at, end, changes);
  else if (name !== COLOUR_PROFILE) changes.cut(at, end);
  return end;
}

/** Leaves the number of repetitions and nothing beside it. */
function* loop(at: number, end: number, changes: Changes): Walk<void> {
  if (end - at < LOOP_LENGTH) return changes.cut(at, end);
  const start = Buffer.from(yield* bytes(at, LOOP_LENGTH));
  if (start[2] !== 11 || start[LOOP_HEAD] !== 3 || start[LOOP_HEAD + 1] !== 1) return changes.cut(at, end);
  if (end - at === LOOP_LENGTH) return;
  changes.replace(at, end, Buffer.concat([start.subarray(0, -1), Buffer.alloc(1)]));
}

/** Sub-blocks, each led by its length, up to and including the empty one. */
function* endOfBlocks(from: number): Walk<number> {
  for (let at = from; ; ) {
    const seen = yield* view(at, 1);
    let index = 0;
    while (index < seen.length) {
      const length = seen.readUInt8(index);
      index += 1 + length;
      if (length === 0) return at + index;
    }
    at += index;
  }
}
