/**
 * The bytes of an archive, or of a range of it: one object is open at a time, and near its end the next one is opened, or its
 * checksum found out, so that many small files do not each cost the way to the store. What comes is compared with the
 * checksum that was told before it: an archive that would be damaged breaks off.
 */
import { crc32 } from 'node:zlib';
import type { ObjectBody } from '../storage/object-store.ts';
import { ObjectStoreUnavailable } from '../storage/object-store.ts';
import type { ArchivedFile } from './archived-file.ts';
import type { Checksums } from './checksums.ts';
import type { PlacedPiece, ZipLayout } from './layout.ts';
import type { FileRange, ObjectReader } from './object-reader.ts';

/** Bytes of an object that are left when the next one is opened: no longer, as stores close connections that nobody reads. */
const NEAR_THE_END = 256 * 1024;

export interface ArchiveSource {
  files: readonly ArchivedFile[];
  layout: ZipLayout;
  checksums: Checksums;
  reader: ObjectReader;
  /** Told of a file whose bytes are not those of the checksum that was kept. */
  onWrongChecksum: (file: ArchivedFile) => Promise<void>;
}

export class ArchiveStream {
  readonly #source: ArchiveSource;
  #next: { index: number; body: Promise<ObjectBody> } | undefined;
  /** Position of the last byte that is wanted. */
  #last = -1;

  constructor(source: ArchiveSource) {
    this.#source = source;
  }

  /** Fails here for what would be missing at the very beginning, while there is another answer than an end. */
  async begin({ first, last }: FileRange): Promise<void> {
    this.#last = last;
    for (const { piece } of this.#source.layout.pieces(first, last)) {
      if (piece.kind === 'header') await this.#source.checksums.of(piece.index);
      else {
        if (piece.kind === 'data') await this.#open(piece.index, piece);
        return;
      }
    }
  }

  /** @param range within the length of the archive, both positions inclusive */
  async *bytes(range: FileRange): AsyncGenerator<Buffer> {
    this.#last = range.last;
    try {
      for (const placed of this.#source.layout.pieces(range.first, range.last)) yield* this.#bytesOf(placed);
    } finally {
      this.close();
    }
  }

  /** Closes what was opened and is not read. */
  close(): void {
    this.#next?.body.then(
      ({ stream }) => stream.destroy(),
      () => {},
    );
    this.#next = undefined;
  }

  async *#bytesOf({ piece, from, to }: PlacedPiece): AsyncGenerator<Buffer> {
    const { layout, checksums } = this.#source;
    if (piece.kind === 'data') yield* this.#data(piece.index, piece);
    else if (piece.kind === 'header')
      yield layout.header(piece.index, await checksums.of(piece.index)).subarray(from, to);
    else if (piece.kind === 'end') yield layout.end().subarray(from, to);
    else {
      for (let index = piece.from; index < piece.to; index += 1) await checksums.of(index);
      yield layout.directory(piece.from, piece.to, (index) => checksums.known(index) ?? 0).subarray(from, to);
    }
  }

  async *#data(index: number, range: FileRange): AsyncGenerator<Buffer> {
    const { files, checksums, reader, onWrongChecksum } = this.#source;
    const file = files[index];
    if (!file) throw new Error(`the archive has no file ${index}`);
    const isWhole = range.first === 0 && range.last === file.size - 1;
    const body = await this.#opened(index, range);
    let left = body.length;
    let sum = 0;
    for await (const chunk of reader.chunks(body)) {
      left -= chunk.length;
      if (left <= NEAR_THE_END) this.#prepare(index + 1);
      if (isWhole) sum = crc32(chunk, sum);
      // Before the last of it is sent, so that no file of the archive is whole and wrong.
      if (left === 0 && isWhole && sum !== checksums.known(index)) {
        await onWrongChecksum(file);
        throw new ObjectStoreUnavailable(`asset ${file.id} of an archive: its object is not what its checksum says`);
      }
      yield chunk;
    }
  }

  /** What was opened before, or is opened now. A connection that was lost meanwhile is made again. */
  async #opened(index: number, range: FileRange): Promise<ObjectBody> {
    const prepared = this.#next;
    this.#next = undefined;
    const body = prepared?.index === index ? await prepared.body.catch(() => undefined) : undefined;
    if (body && !body.stream.destroyed && body.length === range.last - range.first + 1) return body;
    body?.stream.destroy();
    const opened = await this.#open(index, range);
    this.#next = undefined;
    return opened;
  }

  /** So that the next file is there when this one ends, if all of it is wanted. */
  #prepare(index: number): void {
    const { files, checksums, layout } = this.#source;
    const file = files[index];
    if (!file || file.size === 0 || this.#next?.index === index || layout.endOf(index) > this.#last + 1) return;
    if (checksums.known(index) === undefined) checksums.prepare(index);
    else this.#open(index, { first: 0, last: file.size - 1 }).catch(() => {});
  }

  #open(index: number, { first, last }: FileRange): Promise<ObjectBody> {
    const { files, reader } = this.#source;
    const file = files[index];
    if (!file) throw new Error(`the archive has no file ${index}`);
    const body = reader.open(file, { first, last });
    this.#next = { index, body };
    return body;
  }
}
