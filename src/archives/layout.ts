/**
 * Where each byte of a ZIP archive lies (PKWARE, APPNOTE.TXT 6.3.10), before any is read: files are stored, not compressed, so
 * its length follows from theirs, and each range of it can be made alone. Local headers have the checksum and the sizes of
 * their file, and no data descriptor follows (section 4.3.9): programs that read an archive as it comes cannot tell where a
 * stored file ends by that. So the checksum of a file must be known when its header is sent, and not before.
 *
 * ZIP64 fields are there where they are needed only (section 4.5.3): old programs know the others.
 */

/** A file of the archive. */
export interface LaidFile {
  /** As `namesInArchive` makes it. */
  name: string;
  /** Bytes. */
  size: number;
  modifiedAt: Date;
}

/** A piece of the archive: made here, or of the bytes of a file. */
export type Piece =
  | { kind: 'header'; index: number }
  /** Positions within the file, both inclusive. */
  | { kind: 'data'; index: number; first: number; last: number }
  /** Of the central directory: the headers of these files, `to` exclusive. */
  | { kind: 'directory'; from: number; to: number }
  | { kind: 'end' };

/** A piece and how much of it is meant: positions within it, `to` exclusive. */
export interface PlacedPiece {
  piece: Piece;
  from: number;
  to: number;
}

const MAX_16 = 0xffff;
const MAX_32 = 0xffffffff;
/** General purpose bit 11: the name is UTF-8 (section 4.4.4). */
const UTF8_NAMES = 1 << 11;
const VERSION_PLAIN = 10;
const VERSION_ZIP64 = 45;
/** Made by: Unix, so that the attributes are those of a plain file that its owner may write (section 4.4.2, 4.4.15). */
const UNIX = 3 << 8;
const PLAIN_FILE = 0o100644 * 0x10000;
/** Lengths without name and extra fields. */
const LOCAL_HEADER = 30;
const CENTRAL_HEADER = 46;
const LOCAL_ZIP64 = 20;
const END = 22;
const ZIP64_END = 56 + 20;
/** Info-ZIP, "extended timestamp": the time in UTC, which the DOS time is not. */
const TIME_FIELD = 9;
/** Headers of the central directory that are made at once. */
const DIRECTORY_STEP = 256;

export class ZipLayout {
  /** Bytes. */
  readonly length: number;
  readonly #files: readonly LaidFile[];
  /** Of local headers. */
  readonly #offsets: Float64Array;
  readonly #directoryAt: number;
  readonly #endAt: number;

  constructor(files: readonly LaidFile[]) {
    this.#files = files;
    this.#offsets = new Float64Array(files.length);
    let at = 0;
    for (const [index, file] of files.entries()) {
      this.#offsets[index] = at;
      at += localLength(file) + file.size;
    }
    this.#directoryAt = at;
    for (const index of files.keys()) at += this.#centralLength(index);
    this.#endAt = at;
    this.length = at + (this.#needsZip64End ? ZIP64_END : 0) + END;
  }

  /** The pieces of a range within the length, both positions inclusive. */
  *pieces(first: number, last: number): Generator<PlacedPiece> {
    for (const { piece, at, length } of this.#piecesFrom(first)) {
      if (at > last) return;
      const from = Math.max(0, first - at);
      const to = Math.min(length, last + 1 - at);
      if (to <= from) continue;
      yield piece.kind === 'data'
        ? { piece: { ...piece, first: from, last: to - 1 }, from: 0, to: to - from }
        : { piece, from, to };
    }
  }

  /** Where the bytes of a file end, exclusive. */
  endOf(index: number): number {
    const file = this.#file(index);
    return this.#offset(index) + localLength(file) + file.size;
  }

  /** Whether the first byte of a file is in the range; of a file without bytes, its header. */
  beginsWithin(index: number, { first, last }: { first: number; last: number }): boolean {
    const file = this.#file(index);
    const at = this.#offset(index) + (file.size > 0 ? localLength(file) : 0);
    return at >= first && at <= last;
  }

  /** The local header of a file. @param crc32 of its bytes */
  header(index: number, crc32: number): Buffer {
    const file = this.#file(index);
    const name = Buffer.from(file.name);
    const isLarge = file.size >= MAX_32;
    const header = Buffer.alloc(localLength(file));
    header.writeUInt32LE(0x04034b50, 0);
    header.writeUInt16LE(isLarge ? VERSION_ZIP64 : VERSION_PLAIN, 4);
    this.#writeCommon(header.subarray(6), file, crc32);
    header.writeUInt16LE(name.length, 26);
    header.writeUInt16LE(header.length - LOCAL_HEADER - name.length, 28);
    name.copy(header, LOCAL_HEADER);
    let at = LOCAL_HEADER + name.length;
    if (isLarge) at = writeZip64(header, at, [file.size, file.size]);
    writeTime(header, at, file.modifiedAt);
    return header;
  }

  /** Headers of the central directory. @param crc32 of each file */
  directory(from: number, to: number, crc32: (index: number) => number): Buffer {
    const headers: Buffer[] = [];
    for (let index = from; index < to; index += 1) headers.push(this.#centralHeader(index, crc32(index)));
    return Buffer.concat(headers);
  }

  /** What follows the central directory. */
  end(): Buffer {
    const end = Buffer.alloc(END);
    const count = this.#files.length;
    const size = this.#endAt - this.#directoryAt;
    end.writeUInt32LE(0x06054b50, 0);
    end.writeUInt16LE(Math.min(count, MAX_16), 8);
    end.writeUInt16LE(Math.min(count, MAX_16), 10);
    end.writeUInt32LE(Math.min(size, MAX_32), 12);
    end.writeUInt32LE(Math.min(this.#directoryAt, MAX_32), 16);
    return this.#needsZip64End ? Buffer.concat([this.#zip64End(count, size), end]) : end;
  }

  *#piecesFrom(first: number): Generator<{ piece: Piece; at: number; length: number }> {
    const count = this.#files.length;
    if (first < this.#directoryAt)
      for (let index = this.#indexAt(first); index < count; index += 1) {
        const file = this.#file(index);
        const [at, length] = [this.#offset(index), localLength(file)];
        yield { piece: { kind: 'header', index }, at, length };
        const data: Piece = { kind: 'data', index, first: 0, last: file.size - 1 };
        if (file.size > 0) yield { piece: data, at: at + length, length: file.size };
      }
    let at = this.#directoryAt;
    for (let from = 0; from < count; from += DIRECTORY_STEP) {
      const to = Math.min(count, from + DIRECTORY_STEP);
      let length = 0;
      for (let index = from; index < to; index += 1) length += this.#centralLength(index);
      yield { piece: { kind: 'directory', from, to }, at, length };
      at += length;
    }
    yield { piece: { kind: 'end' }, at: this.#endAt, length: this.length - this.#endAt };
  }

  /** The file in whose header or bytes the position lies. */
  #indexAt(position: number): number {
    let [low, high] = [0, this.#files.length - 1];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (this.#offset(middle) <= position) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  #centralHeader(index: number, crc32: number): Buffer {
    const file = this.#file(index);
    const name = Buffer.from(file.name);
    const offset = this.#offset(index);
    const large = this.#largeFields(index);
    const header = Buffer.alloc(this.#centralLength(index));
    const version = large.length > 0 ? VERSION_ZIP64 : VERSION_PLAIN;
    header.writeUInt32LE(0x02014b50, 0);
    header.writeUInt16LE(UNIX | version, 4);
    header.writeUInt16LE(version, 6);
    this.#writeCommon(header.subarray(8), file, crc32);
    header.writeUInt16LE(name.length, 28);
    header.writeUInt16LE(header.length - CENTRAL_HEADER - name.length, 30);
    header.writeUInt32LE(PLAIN_FILE, 38);
    header.writeUInt32LE(Math.min(offset, MAX_32), 42);
    name.copy(header, CENTRAL_HEADER);
    let at = CENTRAL_HEADER + name.length;
    if (large.length > 0) at = writeZip64(header, at, large);
    writeTime(header, at, file.modifiedAt);
    return header;
  }

  /** From the flags to the size: the same in both headers. */
  #writeCommon(fields: Buffer, { size, modifiedAt }: LaidFile, crc32: number): void {
    const { date, time } = dosTime(modifiedAt);
    fields.writeUInt16LE(UTF8_NAMES, 0);
    fields.writeUInt16LE(time, 4);
    fields.writeUInt16LE(date, 6);
    fields.writeUInt32LE(crc32, 8);
    fields.writeUInt32LE(Math.min(size, MAX_32), 12);
    fields.writeUInt32LE(Math.min(size, MAX_32), 16);
  }

  #zip64End(count: number, size: number): Buffer {
    const end = Buffer.alloc(ZIP64_END);
    end.writeUInt32LE(0x06064b50, 0);
    // Of what follows this field (section 4.3.14.1).
    end.writeBigUInt64LE(44n, 4);
    end.writeUInt16LE(UNIX | VERSION_ZIP64, 12);
    end.writeUInt16LE(VERSION_ZIP64, 14);
    for (const [place, value] of [count, count, size, this.#directoryAt].entries())
      end.writeBigUInt64LE(BigInt(value), 24 + 8 * place);
    end.writeUInt32LE(0x07064b50, 56);
    end.writeBigUInt64LE(BigInt(this.#endAt), 64);
    end.writeUInt32LE(1, 72);
    return end;
  }

  get #needsZip64End(): boolean {
    const size = this.#endAt - this.#directoryAt;
    return this.#files.length >= MAX_16 || size >= MAX_32 || this.#directoryAt >= MAX_32;
  }

  #centralLength(index: number): number {
    const { name, modifiedAt } = this.#file(index);
    const large = this.#largeFields(index).length;
    return CENTRAL_HEADER + Buffer.byteLength(name) + (large > 0 ? 4 + 8 * large : 0) + timeLength(modifiedAt);
  }

  /** What does not fit 32 bits, in the order of section 4.5.3. */
  #largeFields(index: number): number[] {
    const { size } = this.#file(index);
    const offset = this.#offset(index);
    return [...(size >= MAX_32 ? [size, size] : []), ...(offset >= MAX_32 ? [offset] : [])];
  }

  #offset(index: number): number {
    return this.#offsets[index] ?? 0;
  }

  #file(index: number): LaidFile {
    const file = this.#files[index];
    if (!file) throw new Error(`the archive has no file ${index}`);
    return file;
  }
}

function localLength({ name, size, modifiedAt }: LaidFile): number {
  return LOCAL_HEADER + Buffer.byteLength(name) + (size >= MAX_32 ? LOCAL_ZIP64 : 0) + timeLength(modifiedAt);
}

function writeZip64(header: Buffer, at: number, values: readonly number[]): number {
  header.writeUInt16LE(0x0001, at);
  header.writeUInt16LE(8 * values.length, at + 2);
  for (const [place, value] of values.entries()) header.writeBigUInt64LE(BigInt(value), at + 4 + 8 * place);
  return at + 4 + 8 * values.length;
}

/** Seconds since 1970, where they fit the field, which has a sign. */
function unixTime(time: Date): number | undefined {
  const seconds = Math.floor(time.getTime() / 1000);
  return seconds >= 0 && seconds <= 0x7fffffff ? seconds : undefined;
}

function timeLength(time: Date): number {
  return unixTime(time) === undefined ? 0 : TIME_FIELD;
}

function writeTime(header: Buffer, at: number, time: Date): void {
  const seconds = unixTime(time);
  if (seconds === undefined) return;
  header.writeUInt16LE(0x5455, at);
  header.writeUInt16LE(5, at + 2);
  header.writeUInt8(1, at + 4);
  header.writeInt32LE(seconds, at + 5);
}

/** In UTC, as the zone of whoever unpacks it is not known; from 1980 to 2107, by two seconds (section 4.4.6). */
function dosTime(time: Date): { date: number; time: number } {
  const year = time.getUTCFullYear();
  if (year < 1980) return { date: (1 << 5) | 1, time: 0 };
  if (year > 2107) return { date: (127 << 9) | (12 << 5) | 31, time: (23 << 11) | (59 << 5) | 29 };
  return {
    date: ((year - 1980) << 9) | ((time.getUTCMonth() + 1) << 5) | time.getUTCDate(),
    time: (time.getUTCHours() << 11) | (time.getUTCMinutes() << 5) | (time.getUTCSeconds() >> 1),
  };
}
