/** Files to send, sound enough to be accepted. */
import { randomFillSync } from 'node:crypto';
import { closeSync, ftruncateSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { png } from '../tests/support/files.ts';
import { MiB } from './stage.ts';

const movie = readFileSync(new URL('../tests/fixtures/moov-first.mp4', import.meta.url));

/** An MP4 of `size` bytes: a movie, and a free box (ISO 14496-12) with random bytes, or with a hole that takes no disk. */
export function writeMovie(path: string, size: number, filling: 'random' | 'hole'): void {
  const file = openSync(path, 'w');
  const head = Buffer.alloc(16);
  head.writeUInt32BE(1, 0);
  head.write('free', 4, 'latin1');
  head.writeBigUInt64BE(BigInt(size - movie.length), 8);
  let written = writeSync(file, movie) + writeSync(file, head);
  if (filling === 'hole') ftruncateSync(file, size);
  const chunk = Buffer.alloc(MiB);
  while (filling === 'random' && written < size)
    written += writeSync(file, randomFillSync(chunk), 0, Math.min(chunk.length, size - written));
  closeSync(file);
}

export function writePng(path: string, size: number): void {
  writeFileSync(path, png(size));
}
