/**
 * What sharp alone does: thumbnails of one photo over and over, from a process of its own: `node bench/sharp-loop.ts OPTIONS`, with
 * a JSON object as its only argument, prints a JSON object.
 */
import sharp from 'sharp';

export interface SharpLoopOptions {
  file: string;
  /** Thumbnails. */
  amount: number;
  /** Thumbnails at once. */
  atOnce: number;
}

const { file, amount, atOnce } = JSON.parse(process.argv[2] ?? '{}') as SharpLoopOptions;
sharp.cache(false);
sharp.concurrency(1);
const thumbnail = () =>
  sharp(file)
    .autoOrient()
    .resize({ width: 400, height: 300, fit: 'inside', withoutEnlargement: true })
    .webp({ quality: 80 })
    .toBuffer();
// Once, so that everything is loaded.
await thumbnail();
let left = amount;
const began = performance.now();
await Promise.all(
  Array.from({ length: atOnce }, async () => {
    while (left-- > 0) await thumbnail();
  }),
);
console.log(JSON.stringify({ perSecond: (amount / (performance.now() - began)) * 1000 }));
