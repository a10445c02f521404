/** QR codes (ISO/IEC 18004) as pictures: the modules come from uqr, the pictures are written here. */
import { encode } from 'uqr';
import { writeBitmap } from './png.ts';

export type CodeFormat = 'svg' | 'png';

/** ISO/IEC 18004 table 7: bytes that the largest code, version 40, holds at error correction level M. */
export const MAX_TEXT = 2331;
/** ISO/IEC 18004 section 6.3.8: modules on each side that must be light, else readers do not find the code. */
const QUIET_ZONE = 4;
/** Part of entity tags: raise it when the same text becomes another picture. */
export const WRITER = 'qr.1';

export interface Code {
  /** Modules on each side, the quiet zone included. */
  modules: number;
  /** Rows from the top; true is dark. Without the quiet zone. */
  rows: boolean[][];
}

/** @param text at most `MAX_TEXT` bytes */
export function makeCode(text: string): Code {
  const { data, size } = encode(text, { ecc: 'M', border: 0 });
  return { modules: size + 2 * QUIET_ZONE, rows: data };
}

/** @param size pixels on each side, for what does not scale it */
export function toSvg({ modules, rows }: Code, size: number): string {
  const path = rows
    .map((row, y) =>
      runsOf(row)
        .map(({ from, length }) => runPath(from, y, length))
        .join(''),
    )
    .join('');
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${size}" height="${size}" viewBox="0 0 ${modules} ${modules}"`,
    ` role="img" aria-label="QR code" shape-rendering="crispEdges">`,
    `<rect width="${modules}" height="${modules}" fill="#fff"/><path d="${path}"/></svg>\n`,
  ].join('');
}

const runPath = (x: number, y: number, length: number) =>
  `M${x + QUIET_ZONE} ${y + QUIET_ZONE}h${length}v1h-${length}z`;

/** Dark modules side by side. */
function runsOf(row: readonly boolean[]): { from: number; length: number }[] {
  const runs: { from: number; length: number }[] = [];
  for (let x = 0; x < row.length; x++) {
    if (!row[x]) continue;
    const from = x;
    while (row[x + 1]) x++;
    runs.push({ from, length: x + 1 - from });
  }
  return runs;
}

/**
 * Every module has the same whole number of pixels, as blurred or uneven edges are hard to read; what is left over
 * widens the quiet zone.
 * @param size pixels on each side, at least `code.modules`
 */
export function toPng({ modules, rows }: Code, size: number): Promise<Buffer> {
  const scale = Math.floor(size / modules);
  if (scale < 1) throw new RangeError(`the code has ${modules} modules on each side and does not fit ${size} pixels`);
  const margin = Math.floor((size - rows.length * scale) / 2);
  const light = rowOf(size, []);
  const pictured = rows.map((row) =>
    rowOf(
      size,
      runsOf(row).map(({ from, length }) => ({ from: margin + from * scale, length: length * scale })),
    ),
  );
  return writeBitmap(size, (y) => pictured[Math.floor((y - margin) / scale)] ?? light);
}

/** Pixels of one bit each, the first in the highest bit; 1 is white. */
function rowOf(size: number, dark: readonly { from: number; length: number }[]): Buffer {
  const row = Buffer.alloc(Math.ceil(size / 8), 0xff);
  for (const { from, length } of dark)
    for (let x = from; x < from + length; x++) row[x >> 3] = (row[x >> 3] ?? 0) & ~(0x80 >> (x & 7));
  return row;
}
