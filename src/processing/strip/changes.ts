/** What is to be changed in a file; all else stays. Nothing grows, so the changes can be made where the file lies. */
import type { FileHandle } from 'node:fs/promises';
import { Unstrippable } from './walk.ts';

/** The bytes from `from` up to `to` give way to others, at most as many. */
export interface Change {
  from: number;
  to: number;
  /** `zeros`: as many as there were. */
  put: Buffer | 'zeros';
}

/** Bounds the memory for what hostile files ask to be changed; a camera's file needs a few dozen. */
const MAX_CHANGES = 2 ** 17;
/** Bytes that are copied from file to file at once. */
const COPIED_AT_ONCE = 256 * 1024;
const NOTHING = Buffer.alloc(0);

export class Changes {
  readonly #list: Change[] = [];
  /** Bytes that the file has fewer. */
  #removed = 0;

  get removed(): number {
    return this.#removed;
  }

  cut(from: number, to: number): void {
    const last = this.#list.at(-1);
    if (to <= from) return;
    this.#removed += to - from;
    if (last && last.to === from && last.put === NOTHING) last.to = to;
    else this.#add({ from, to, put: NOTHING });
  }

  replace(from: number, to: number, put: Buffer): void {
    if (put.length > to - from) throw new RangeError('what is put must not be longer than what was there');
    this.#removed += to - from - put.length;
    this.#add({ from, to, put });
  }

  blank(from: number, to: number): void {
    if (to > from) this.#add({ from, to, put: 'zeros' });
  }

  #add(change: Change): void {
    if (this.#list.length === MAX_CHANGES) throw new Unstrippable('The file has too many pieces of metadata.');
    this.#list.push(change);
  }

  /**
   * In the order of the file, without overlaps.
   * @throws Unstrippable when bytes that are changed belong to two things
   */
  sorted(): Change[] {
    const result: Change[] = [];
    for (const change of this.#list.toSorted((a, b) => a.from - b.from)) {
      const last = result.at(-1);
      if (!last || change.from >= last.to) result.push({ ...change });
      else if (change.put === 'zeros' && last.put === 'zeros') last.to = Math.max(last.to, change.to);
      else throw new Unstrippable('Metadata and something else share bytes of the file.');
    }
    return result;
  }
}

/** Makes the changes where the bytes are. @returns how many bytes are left, from the beginning on */
export function changeInPlace(bytes: Buffer, changes: readonly Change[]): number {
  let [at, length] = [0, 0];
  const keep = (to: number) => {
    if (length !== at) bytes.copyWithin(length, at, to);
    length += to - at;
  };
  for (const { from, to, put } of changes) {
    keep(from);
    if (put === 'zeros') bytes.fill(0, length, length + to - from);
    else put.copy(bytes, length);
    length += put === 'zeros' ? to - from : put.length;
    at = to;
  }
  keep(bytes.length);
  return length;
}

/** Writes the changed file. @returns its size */
export async function writeChanged(
  input: FileHandle,
  size: number,
  output: FileHandle,
  changes: readonly Change[],
): Promise<number> {
  const memory = Buffer.allocUnsafeSlow(COPIED_AT_ONCE);
  let [at, length] = [0, 0];
  const write = async (bytes: Buffer) => {
    await output.writeFile(bytes);
    length += bytes.length;
  };
  const keep = async (to: number) => {
    while (at < to) {
      const { bytesRead } = await input.read(memory, 0, Math.min(memory.length, to - at), at);
      if (bytesRead === 0) throw new Error('the file is shorter than it was');
      await write(memory.subarray(0, bytesRead));
      at += bytesRead;
    }
  };
  for (const { from, to, put } of changes) {
    await keep(from);
    if (put !== 'zeros') await write(put);
    else for (let left = to - from; left > 0; left -= memory.length) await write(memory.fill(0).subarray(0, left));
    at = to;
  }
  await keep(size);
  return length;
}
