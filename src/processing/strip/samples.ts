/**
 * Where the samples of a track lie, ISO 14496-12, 8.6 and 8.7: in chunks, of which `stco` tells the places, `stsc` how many
 * samples are in each, and `stsz` how large each sample is.
 */
import { type Box, contentOf, findBox } from './boxes.ts';
import type { Range } from './media-data.ts';
import { Unstrippable, type Walk } from './walk.ts';

/** Bytes of a table. Sensors that are read 200 times a second for three hours need half of it. */
const MAX_TABLE = 16 * 1024 * 1024;

/** Where the samples of a track lie. */
export function* samplesOf(track: Box): Walk<Range[]> {
  const tables = yield* findBox(track, 'mdia', 'minf', 'stbl');
  if (!tables) throw unreadable();
  const places = yield* chunkPlaces(tables);
  const counts = yield* samplesInChunks(tables, places.length);
  const sizeOf = yield* sampleSizes(tables);
  let first = 0;
  return places.map((from, chunk) => {
    const count = counts[chunk] ?? 0;
    first += count;
    return { from, to: from + sizeOf(first - count, first) };
  });
}

function* chunkPlaces(tables: Box): Walk<number[]> {
  const short = yield* findBox(tables, 'stco');
  const table = yield* entriesOf(short ?? (yield* findBox(tables, 'co64')), short ? 4 : 8);
  return Array.from({ length: table.count }, (_, index) =>
    short ? table.content.readUInt32BE(8 + 4 * index) : Number(table.content.readBigUInt64BE(8 + 8 * index)),
  );
}

/** The table tells from which chunk on how many samples are in each. */
function* samplesInChunks(tables: Box, chunks: number): Walk<number[]> {
  const { content, count } = yield* entriesOf(yield* findBox(tables, 'stsc'), 12);
  const counts: number[] = [];
  for (let index = 0; index < count; index++) {
    const next = index + 1 < count ? content.readUInt32BE(8 + 12 * (index + 1)) - 1 : chunks;
    const samples = content.readUInt32BE(12 + 12 * index);
    while (counts.length < Math.min(next, chunks)) counts.push(samples);
  }
  return counts;
}

/** @returns a function that tells the size of samples together, from one up to another */
function* sampleSizes(tables: Box): Walk<(first: number, end: number) => number> {
  const box = yield* findBox(tables, 'stsz');
  if (!box) throw unreadable();
  const content = yield* contentOf(box, MAX_TABLE, 12);
  const [size, count] = [content.readUInt32BE(4), content.readUInt32BE(8)];
  if (size === 0 && content.length < 12 + 4 * count) throw unreadable();
  return (first, end) => {
    if (end > count) throw unreadable();
    if (size > 0) return size * (end - first);
    let sum = 0;
    for (let sample = first; sample < end; sample++) sum += content.readUInt32BE(12 + 4 * sample);
    return sum;
  };
}

function* entriesOf(box: Box | undefined, entry: number): Walk<{ content: Buffer; count: number }> {
  if (!box) throw unreadable();
  const content = yield* contentOf(box, MAX_TABLE, 8);
  const count = content.readUInt32BE(4);
  if (content.length < 8 + entry * count) throw unreadable();
  return { content, count };
}

function unreadable(): Unstrippable {
  return new Unstrippable('The film has a track of metadata whose samples cannot be found.');
}
