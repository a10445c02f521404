/**
 * What sharp alone does: thumbnails of one photo over and over, from a process of its own: `node bench/sharp-loop.ts OPTIONS`, with
 * a JSON object as its only argument, prints a JSON object.
 */
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { Pictures } from '../src/processing/pictures/pictures.ts';
import { ChildPool } from '../src/processing/tools/child-pool.ts';

export interface SharpLoopOptions {
  file: string;
  /** Thumbnails. */
  amount: number;
  /** Thumbnails at once. */
  atOnce: number;
  /** In the processes in which the service makes them, with the placeholder. */
  isConfined?: boolean;
}

const { file, amount, atOnce, isConfined = false } = JSON.parse(process.argv[2] ?? '{}') as SharpLoopOptions;
const size = { width: 400, height: 300 };

/** Calls `make` so many times, after it was called as often as there are at once, so that everything is loaded. */
async function measure(make: () => Promise<unknown>): Promise<void> {
  await Promise.all(Array.from({ length: atOnce }, make));
  let left = amount;
  const began = performance.now();
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      while (left-- > 0) await make();
    }),
  );
  console.log(JSON.stringify({ perSecond: (amount / (performance.now() - began)) * 1000 }));
}

if (isConfined) {
  const scratch = mkdtempSync(join(tmpdir(), 'stowage-bench-'));
  const copy = join(scratch, 'photo');
  copyFileSync(file, copy);
  const pool = new ChildPool({
    size: atOnce,
    memory: 640 * 2 ** 20,
    cpuSeconds: 600,
    recycleAfter: amount * 2,
    scratch,
  });
  const pictures = new Pictures(pool);
  await measure(() => pictures.understand(copy, [size]));
  await pool.close();
  rmSync(scratch, { recursive: true });
} else {
  sharp.cache(false);
  sharp.concurrency(1);
  await measure(() =>
    sharp(file)
      .autoOrient()
      .resize({ ...size, fit: 'inside', withoutEnlargement: true })
      .webp({ quality: 80 })
      .toBuffer(),
  );
}
