/**
 * How the containers of this folder are read: by generators that ask for bytes at any place of the file and say what to
 * change. What is asked for comes from memory at once, or from a file of any size through a window.
 *
 * Nothing is decoded. A walk asks for headers and passes over payloads; where it must look at every byte (the scans of a
 * JPEG, the sub-blocks of a GIF) it sees each once. So the cost is linear in the size, whatever is inside.
 */
import type { FileHandle } from 'node:fs/promises';
import { setImmediate } from 'node:timers/promises';

/** The file cannot be taken apart as its type demands, so nobody knows what it would tell. The message is for the client. */
export class Unstrippable extends Error {
  override name = 'Unstrippable';
}

/** What a walk asks for: at least so many bytes from there on. */
export interface Wanted {
  at: number;
  length: number;
}

/** It ends when all is seen, or throws `Unstrippable`. A view stays as it is until the walk has ended. */
export type Walk<Result> = Generator<Wanted, Result, Buffer>;

/** Bytes that are read from a file at once, unless more are asked for. */
const WINDOW = 64 * 1024;

/** Milliseconds that a walk goes on before others have their turn, and steps between two looks at the clock. */
const TURN = 5;
const STEPS_BETWEEN_LOOKS = 256;

const CUT = 'The file ends in the middle of its structure.';

/** The bytes from here on: at least so many, and as many more as are at hand. */
export function* view(at: number, length: number): Walk<Buffer> {
  return yield { at, length };
}

/** So many bytes. */
export function* bytes(at: number, length: number): Walk<Buffer> {
  return (yield { at, length }).subarray(0, length);
}

/** Asks for nothing, where work is done on bytes that were given: so that others get their turn. */
export function* giveWay(): Walk<void> {
  yield { at: 0, length: 0 };
}

/** Whether all bytes of the range are zero. */
export function* isBlank(from: number, to: number): Walk<boolean> {
  for (let at = from; at < to; ) {
    const seen = (yield* view(at, 1)).subarray(0, to - at);
    if (seen.some((byte) => byte !== 0)) return false;
    at += seen.length;
  }
  return true;
}

export function walkBytes<Result>(walk: Walk<Result>, file: Buffer): Result {
  let step = walk.next();
  while (!step.done) {
    const { at, length } = step.value;
    if (at + length > file.length) throw new Unstrippable(CUT);
    step = walk.next(file.subarray(at));
  }
  return step.value;
}

/** A walk through bytes that lie in others, as a part of the walk through those. */
export function* walkWithin<Result>(walk: Walk<Result>, bytes: Buffer): Walk<Result> {
  let step = walk.next();
  while (!step.done) {
    const { at, length } = step.value;
    if (at + length > bytes.length) throw new Unstrippable(CUT);
    yield* giveWay();
    step = walk.next(bytes.subarray(at, at + Math.max(length, WINDOW)));
  }
  return step.value;
}

/** The same as `walkBytes` in turns with whatever else the process has to do. */
export async function walkInTurns<Result>(walk: Walk<Result>, file: Buffer): Promise<Result> {
  const takeTurns = turns();
  let step = walk.next();
  while (!step.done) {
    const { at, length } = step.value;
    if (at + length > file.length) throw new Unstrippable(CUT);
    const turn = takeTurns();
    if (turn) await turn;
    step = walk.next(file.subarray(at, at + Math.max(length, WINDOW)));
  }
  return step.value;
}

/** @returns a function to be awaited at each step */
function turns(): () => Promise<void> | undefined {
  let [steps, since] = [0, performance.now()];
  const wait = async () => {
    await setImmediate();
    since = performance.now();
  };
  return () => {
    steps += 1;
    if (steps % STEPS_BETWEEN_LOOKS !== 0 || performance.now() - since < TURN) return undefined;
    return wait();
  };
}

export async function walkFile<Result>(walk: Walk<Result>, file: FileHandle, size: number): Promise<Result> {
  const takeTurns = turns();
  let [start, window] = [0, Buffer.alloc(0)];
  let step = walk.next();
  while (!step.done) {
    const turn = takeTurns();
    if (turn) await turn;
    const { at, length } = step.value;
    if (at + length > size) throw new Unstrippable(CUT);
    if (at < start || at + length > start + window.length) {
      window = await readExactly(file, at, Math.min(Math.max(length, WINDOW), size - at));
      start = at;
    }
    step = walk.next(window.subarray(at - start));
  }
  return step.value;
}

/** Memory of its own each time, because a walk may still look at what it was given before. */
async function readExactly(file: FileHandle, at: number, length: number): Promise<Buffer<ArrayBuffer>> {
  const memory = Buffer.allocUnsafeSlow(length);
  for (let filled = 0; filled < length; ) {
    const { bytesRead } = await file.read(memory, filled, length - filled, at + filled);
    if (bytesRead === 0) throw new Error('the file is shorter than it was');
    filled += bytesRead;
  }
  return memory;
}
