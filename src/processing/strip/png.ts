/**
 * PNG, third edition, 5.3 and 11.3, and its animations: chunks, of which those stay that a decoder needs, and those of
 * colour and density. Text, time, Exif, named palettes and private chunks go, and so does what follows the end.
 */
import { crc32 } from 'node:zlib';
import type { Changes } from './changes.ts';
import { MAX_EXIF, onlyOrientationOf } from './exif.ts';
import { bytes, Unstrippable, type Walk } from './walk.ts';

const kept = new Set(
  'IHDR PLTE IDAT IEND tRNS cHRM gAMA iCCP sBIT sRGB cICP mDCV cLLI bKGD hIST pHYs acTL fcTL fdAT'.split(' '),
);
/** Bytes of those that have no more, whatever the picture; decoders pass over one that is longer. */
const longest: Readonly<Record<string, number>> = {
  ...{ tRNS: 256, cHRM: 32, gAMA: 4, sBIT: 4, sRGB: 1, cICP: 4, mDCV: 24, cLLI: 8, bKGD: 6, hIST: 512, pHYs: 9 },
  ...{ acTL: 8, fcTL: 26, IHDR: 13, PLTE: 768, IEND: 0 },
};

export function* png(size: number, changes: Changes): Walk<void> {
  if ((yield* bytes(0, 8)).toString('hex') !== '89504e470d0a1a0a') throw new Unstrippable('The file is no PNG.');
  let hasExif = false;
  for (let at = 8; ; ) {
    const head = yield* bytes(at, 8);
    const type = head.toString('latin1', 4);
    const end = at + 12 + head.readUInt32BE(0);
    if (end > size || !/^[A-Za-z]{4}$/.test(type)) throw new Unstrippable('The PNG has a chunk that cannot be read.');
    if (type === 'eXIf' && !hasExif) {
      hasExif = true;
      yield* exif(at, end, changes);
    } else if (!kept.has(type) || end - at - 12 > (longest[type] ?? Number.POSITIVE_INFINITY)) {
      // A capital letter says that nothing is shown by who does not know the chunk.
      if (/^[A-Z]/.test(type)) throw new Unstrippable(`The PNG has a chunk ${type} that cannot be read.`);
      changes.cut(at, end);
    }
    if (type === 'IEND') return changes.cut(end, size);
    at = end;
  }
}

function* exif(at: number, end: number, changes: Changes): Walk<void> {
  const content = yield* bytes(at + 8, Math.min(end - 4 - (at + 8), MAX_EXIF));
  const left = onlyOrientationOf(content);
  if (!left) return changes.cut(at, end);
  if (content.equals(left)) return;
  const chunk = Buffer.alloc(12 + left.length);
  chunk.writeUInt32BE(left.length, 0);
  chunk.write('eXIf', 4, 'latin1');
  left.copy(chunk, 8);
  chunk.writeUInt32BE(crc32(chunk.subarray(4, -4)), 8 + left.length);
  changes.replace(at, end, chunk);
}
