/** Documents and models. */
import { type Checker, Fault, find, type Position, rest, skip, take, takeUpTo } from './walk.ts';

/** ISO 32000-1, implementation notes: viewers accept the header within the first 1024 bytes. */
export const PDF_HEADER_WITHIN = 1024;
const PDF_HEADER = Buffer.from('%PDF-');
/** The end mark stands within the last 1024 bytes, `startxref` shortly before. */
const PDF_END_WITHIN = 1024;
const PDF_TAIL = 2 * PDF_END_WITHIN;

/** PDF, ISO 32000-1 section 7.5: a header, objects, a cross-reference table and where it is. */
export function* pdf(position: Position): Checker {
  if (!(yield* find(PDF_HEADER)) || position.offset > PDF_HEADER_WITHIN)
    throw new Fault('The PDF has no header where it should begin.');
  const start = yield* takeUpTo(PDF_HEADER_WITHIN);
  if (!start.includes('obj') && !(yield* find(Buffer.from('obj')))) throw new Fault('The PDF has no objects.');
  const end = yield* rest(PDF_TAIL);
  if (position.offset < linearizedLength(start)) throw new Fault('The PDF is shorter than it says. It is cut.');
  const tail = Buffer.concat([start, end]).subarray(-PDF_TAIL).toString('latin1');
  if (!tail.slice(-PDF_END_WITHIN).includes('%%EOF')) throw new Fault('The PDF has no end mark. It is cut.');
  const table = /^startxref\s+(\d{1,15})/.exec(tail.slice(tail.lastIndexOf('startxref')))?.[1];
  if (table === undefined) throw new Fault('The PDF does not say where its cross-reference table is.');
  if (Number(table) >= position.offset) throw new Fault('The cross-reference table of the PDF lies beyond its end.');
}

/** Annex F: a PDF arranged for the web has an end mark near its beginning, too, but its first object tells its length. */
function linearizedLength(start: Buffer): number {
  const first = /<<[^>]*\/Linearized\b[^>]*>>/.exec(start.toString('latin1'))?.[0] ?? '';
  return Number(/\/L\s+(\d{1,15})\b/.exec(first)?.[1] ?? 0);
}

const MAX_JSON_START = 256;

/** GLB, glTF 2.0 section 4: a header that knows the length of the file, a JSON chunk, and others. */
export function* glb(position: Position): Checker {
  const header = yield* take(12);
  const [version, length] = [header.readUInt32LE(4), header.readUInt32LE(8)];
  if (version !== 2) throw new Fault(`The GLB is of version ${version}; only version 2 is taken.`);
  for (let first = true; first || position.offset < length; first = false) {
    const chunk = yield* take(8);
    const [size, type] = [chunk.readUInt32LE(0), chunk.toString('latin1', 4)];
    if (position.offset + size > length || size % 4 !== 0)
      throw new Fault('The GLB has a chunk that runs past its end.');
    if (!first) {
      yield* skip(size);
      continue;
    }
    const start = yield* take(Math.min(size, MAX_JSON_START));
    if (type !== 'JSON' || !/^\s*\{/.test(start.toString('latin1')))
      throw new Fault('The GLB does not begin with its description.');
    yield* skip(size - start.length);
  }
  const beyond = (yield* rest(1)).length;
  if (beyond > 0 || position.offset !== length) throw new Fault('The GLB does not have the length it claims.');
}
