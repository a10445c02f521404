/**
 * Zip, APPNOTE.TXT 6.3: entries one after the other, then a directory that lists them. Both are walked and compared, so
 * that what a program shows of the archive is what is in it. Nothing is unpacked; an archive that says of itself that
 * it becomes much larger than any honest one is refused.
 *
 * Documents of offices are zips of certain parts.
 */
import { type Checker, Fault, find, type Position, type Request, skip, take, takeUpTo } from './walk.ts';

const ENTRY = 0x04034b50;
const DIRECTORY_ENTRY = 0x02014b50;
const END_64 = 0x06064b50;
const END = 0x06054b50;
const DESCRIPTOR = Buffer.from('PK\x07\x08', 'latin1');
/** Sizes of the fixed parts, sections 4.3.7, 4.3.12, 4.3.14 to 4.3.16. */
const ENTRY_HEAD = 30;
const DIRECTORY_HEAD = 46;
const LOCATOR = 20;
const END_RECORD = 22;
/** In a field of four bytes: the value is in the extra field; and what such fields count to. */
const IN_EXTRA = 0xffffffff;
const MODULUS = 2 ** 32;

/** Up to here an archive may unpack to what it likes: logs and tables shrink by a factor of a hundred and more. */
const HONEST_BYTES = 100 * 1024 * 1024;
/** Above, so many bytes out of one are the most that is believed. Deflate makes at most 1032 of one (RFC 1951). */
const BYTES_PER_BYTE = 200;

/** A kind of document: the parts that it has, by name. */
export interface Parts {
  /** For the client. */
  name: string;
  /** Each must be there. */
  needed: readonly RegExp[];
  forbidden?: { pattern: RegExp; fault: string };
  /** What the first entry, `mimetype`, must hold (OpenDocument 1.3 part 2, section 3.3; EPUB OCF 4.3). */
  mediaType?: string;
}

/** Sums over the entries, by which the entries and the directory are compared whatever their order is. */
interface Totals {
  count: number;
  /** Modulo 2^32, as some programs write them where they are larger. */
  offsets: number;
  sizes: number;
}

const CUT = 'The zip has something between its entries that cannot be read. It is cut or damaged.';

/** @param parts absent for an archive of anything */
export function zip(parts?: Parts) {
  return function* check(position: Position): Checker {
    const entries: Totals = { count: 0, offsets: 0, sizes: 0 };
    const next = yield* walkEntries(position, entries, parts);
    const start = position.offset - next.length;
    const listed = yield* walkDirectory(next, parts);
    if (listed.count !== entries.count || listed.offsets !== entries.offsets || listed.sizes !== entries.sizes)
      throw new Fault('The directory of the zip does not list the entries that are there.');
    yield* checkEnd(listed.last, start, entries.count, position);
    if (listed.unpacked > HONEST_BYTES && listed.unpacked > position.offset * BYTES_PER_BYTE)
      throw new Fault(`The zip claims to unpack to ${listed.unpacked} bytes, which its few bytes cannot hold.`);
  };
}

/** @returns what was read of the directory by looking for one more entry */
function* walkEntries(
  position: Position,
  totals: Totals,
  parts: Parts | undefined,
): Generator<Request, Buffer, Buffer> {
  let kept: Buffer = Buffer.alloc(0);
  for (;;) {
    const head =
      kept.length > 0 ? Buffer.concat([kept, yield* take(ENTRY_HEAD - kept.length)]) : yield* take(ENTRY_HEAD);
    if (head.readUInt32LE(0) !== ENTRY) return head;
    totals.offsets = (totals.offsets + position.offset - ENTRY_HEAD) % MODULUS;
    const isFirst = totals.count === 0;
    totals.count += 1;
    const [flags, method, nameLength, extraLength] = [
      head.readUInt16LE(6),
      head.readUInt16LE(8),
      head.readUInt16LE(26),
      head.readUInt16LE(28),
    ];
    let size = yield* restOfHead(head, nameLength, extraLength, isFirst ? parts : undefined);
    const hasDescriptor = (flags & 8) !== 0;
    const isOpen = hasDescriptor && size === 0;
    if (isFirst && parts?.mediaType !== undefined) yield* checkMediaType(parts, method, isOpen ? -1 : size);
    else if (isOpen) size = yield* passOpen(position);
    else yield* skip(size);
    kept = hasDescriptor ? yield* passDescriptor(isOpen) : Buffer.alloc(0);
    totals.sizes = (totals.sizes + size) % MODULUS;
  }
}

/** Name and extra field of an entry. @returns bytes of its data, as far as the entry tells */
function* restOfHead(
  head: Buffer,
  nameLength: number,
  extraLength: number,
  parts: Parts | undefined,
): Generator<Request, number, Buffer> {
  const size = head.readUInt32LE(18);
  if (parts?.mediaType !== undefined && (yield* take(nameLength)).toString('latin1') !== 'mimetype')
    throw new Fault(`The file does not begin as ${parts.name} does.`);
  else if (parts?.mediaType === undefined) yield* skip(nameLength);
  if (size !== IN_EXTRA) {
    yield* skip(extraLength);
    return size;
  }
  return sizesIn<[number, number]>(yield* take(extraLength), [head.readUInt32LE(22), size])[1];
}

/** Data whose size comes after them, up to the checksum in the descriptor. @returns their bytes modulo 2^32 */
function* passOpen(position: Position): Generator<Request, number, Buffer> {
  const start = position.offset;
  for (;;) {
    if (!(yield* find(DESCRIPTOR))) throw new Fault('The zip ends in the middle of an entry. It is cut.');
    const size = (position.offset - DESCRIPTOR.length - start) % MODULUS;
    // In data the same four bytes may be there by chance, or of a zip inside.
    if ((yield* take(8)).readUInt32LE(4) === size) return size;
  }
}

/**
 * The descriptor behind an entry, section 4.3.9; some programs announce one that they do not write.
 * @param isBegun whether its signature, checksum and first size were read
 * @returns what was read of the next entry
 */
function* passDescriptor(isBegun: boolean): Generator<Request, Buffer, Buffer> {
  if (!isBegun) {
    const next = yield* take(4);
    if (!next.equals(DESCRIPTOR)) return next;
    yield* skip(8);
  }
  yield* skip(4);
  const next = yield* take(4);
  // With sizes of eight bytes each, what was read ends in the middle of the second.
  if ([ENTRY, DIRECTORY_ENTRY].includes(next.readUInt32LE(0))) return next;
  yield* skip(4);
  return yield* take(4);
}

function* checkMediaType(parts: Parts, method: number, size: number): Generator<Request, void, Buffer> {
  const { mediaType = '', name } = parts;
  if (method !== 0 || size !== mediaType.length || (yield* take(size)).toString('latin1') !== mediaType)
    throw new Fault(`The file does not say at its beginning that it is ${name}.`);
}

/** @param kept its first bytes, more than the end record of an archive without entries has */
function* walkDirectory(
  kept: Buffer,
  parts: Parts | undefined,
): Generator<Request, Totals & { unpacked: number; last: Buffer }, Buffer> {
  const totals = { count: 0, offsets: 0, sizes: 0, unpacked: 0 };
  const missing = new Set(parts?.needed);
  let head = Buffer.concat([kept, yield* take(DIRECTORY_HEAD - kept.length)]);
  for (;;) {
    if (head.readUInt32LE(0) !== DIRECTORY_ENTRY) throw new Fault(CUT);
    const [nameLength, extraLength, commentLength] = [28, 30, 32].map((at) => head.readUInt16LE(at)) as [
      number,
      number,
      number,
    ];
    if (parts) checkName((yield* take(nameLength)).toString('utf8'), parts, missing);
    else yield* skip(nameLength);
    const [unpacked, size, offset] = [24, 20, 42].map((at) => head.readUInt32LE(at)) as [number, number, number];
    let values: [number, number, number] = [unpacked, size, offset];
    if (values.includes(IN_EXTRA)) values = sizesIn(yield* take(extraLength), values);
    else yield* skip(extraLength);
    yield* skip(commentLength);
    totals.count += 1;
    totals.unpacked += values[0];
    totals.sizes = (totals.sizes + values[1]) % MODULUS;
    totals.offsets = (totals.offsets + values[2]) % MODULUS;
    const last = yield* take(END_RECORD);
    if (last.readUInt32LE(0) !== DIRECTORY_ENTRY) {
      if (missing.size > 0) throw new Fault(`The file lacks parts that ${parts?.name} has.`);
      return { ...totals, last };
    }
    head = Buffer.concat([last, yield* take(DIRECTORY_HEAD - END_RECORD)]);
  }
}

function checkName(name: string, { forbidden }: Parts, missing: Set<RegExp>): void {
  if (forbidden?.pattern.test(name)) throw new Fault(forbidden.fault);
  for (const pattern of missing) if (pattern.test(name)) missing.delete(pattern);
}

/** Section 4.5.3: values that do not fit four bytes stand in the extra field 1, in this order. */
function sizesIn<Values extends number[]>(extra: Buffer, values: Values): Values {
  const found = [...values];
  for (let at = 0; at + 4 <= extra.length; at += 4 + extra.readUInt16LE(at + 2)) {
    if (extra.readUInt16LE(at) !== 1) continue;
    let from = at + 4;
    for (const [index, value] of found.entries()) {
      if (value !== IN_EXTRA) continue;
      if (from + 8 > extra.length) throw new Fault(CUT);
      found[index] = Number(extra.readBigUInt64LE(from));
      from += 8;
    }
    break;
  }
  if (!found.every(Number.isSafeInteger)) throw new Fault(CUT);
  return found as Values;
}

/** @param last the first bytes behind the directory @param start where the directory begins */
function* checkEnd(last: Buffer, start: number, count: number, position: Position): Generator<Request, void, Buffer> {
  let end = last;
  if (end.readUInt32LE(0) === END_64) {
    // The record tells its own size, and a locator follows it.
    const left = Number(end.readBigUInt64LE(4)) + 12 - END_RECORD;
    if (left < 0 || !Number.isSafeInteger(left)) throw new Fault(CUT);
    yield* skip(left + LOCATOR);
    end = yield* take(END_RECORD);
  }
  if (end.readUInt32LE(0) !== END) throw new Fault(CUT);
  const [listed, offset] = [end.readUInt16LE(10), end.readUInt32LE(16)];
  if (listed !== (count & 0xffff) && listed !== 0xffff) throw new Fault('The zip does not count its entries right.');
  if (offset !== start % MODULUS && offset !== IN_EXTRA)
    throw new Fault('The zip does not know where its directory is.');
  yield* skip(end.readUInt16LE(20));
  const size = position.offset;
  if ((yield* takeUpTo(1)).length > 0) throw new Fault(`The zip has something behind its end, at byte ${size}.`);
}
