/** A waveform as a drawing: SVG of one path, in a grey that is seen on white and on black. */
import type { Waveform } from './waveform.ts';

export const PICTURE_WIDTH = 800;
export const PICTURE_HEIGHT = 120;

/** In a page that has the SVG in its own document, `color` of CSS is stronger. */
const GREY = '#7b8794';
/** Quiet sound is drawn up to so many times as high as it is, so that noise is not drawn as sound. */
const MAX_GAIN = 8;
const FULL_SCALE = 128;
/** So that silence is a line. */
const HALF_LINE = 0.5;

/** @returns 800 x 120, in a file of at most 20 KiB */
export function waveformPicture(waveform: Waveform): string {
  const columns = columnsOf(waveform);
  const loudest = Math.max(1, ...columns.flatMap(({ lowest, highest }) => [-lowest, highest]));
  const scale = Math.min(MAX_GAIN / FULL_SCALE, 1 / loudest);
  const middle = PICTURE_HEIGHT / 2;
  const pointAt = (column: number, y: number) => `${column} ${y.toFixed(1)}`;
  const above = columns.map(({ highest }, x) =>
    pointAt(x, middle - HALF_LINE - Math.max(0, highest * scale) * (middle - 1)),
  );
  const below = columns.map(({ lowest }, x) =>
    pointAt(x, middle + HALF_LINE + Math.max(0, -lowest * scale) * (middle - 1)),
  );
  const outline = `M${[...above, ...below.toReversed()].join('L')}Z`;
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" width="${PICTURE_WIDTH}" height="${PICTURE_HEIGHT}" ` +
    `viewBox="0 0 ${PICTURE_WIDTH} ${PICTURE_HEIGHT}" preserveAspectRatio="none" color="${GREY}">` +
    `<path fill="currentColor" d="${outline}"/></svg>\n`
  );
}

/** Lowest and highest of what falls on each pixel of the width. */
function columnsOf({ data, length }: Waveform): { lowest: number; highest: number }[] {
  return Array.from({ length: PICTURE_WIDTH + 1 }, (_, column) => {
    const first = Math.min(length - 1, Math.floor((column * length) / (PICTURE_WIDTH + 1)));
    const end = Math.max(first + 1, Math.floor(((column + 1) * length) / (PICTURE_WIDTH + 1)));
    const values = data.slice(2 * first, 2 * end);
    return { lowest: Math.min(...values), highest: Math.max(...values) };
  });
}
