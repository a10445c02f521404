/**
 * CRC-32 of the files of an archive. Those that came by one request are known since then; of the others each is found out
 * when an archive needs it first, by reading the object once more, and is kept with the asset.
 */
import { crc32 } from 'node:zlib';
import type { ArchivedFile } from './archived-file.ts';
import type { ObjectReader } from './object-reader.ts';

export type KeepChecksum = (file: ArchivedFile, crc32: number) => Promise<void>;

export class Checksums {
  readonly #files: readonly ArchivedFile[];
  readonly #reader: ObjectReader;
  readonly #keep: KeepChecksum;
  readonly #found = new Map<number, number>();
  #finding: { index: number; checksum: Promise<number> } | undefined;

  constructor(files: readonly ArchivedFile[], reader: ObjectReader, keep: KeepChecksum) {
    this.#files = files;
    this.#reader = reader;
    this.#keep = keep;
  }

  /** What is known already. */
  known(index: number): number | undefined {
    return this.#files[index]?.crc32 ?? this.#found.get(index);
  }

  /** @throws what reading the object fails with */
  async of(index: number): Promise<number> {
    return this.known(index) ?? this.#find(index);
  }

  /** Begins to find it out, if it is not known, so that it is there when it is needed. Never throws. */
  prepare(index: number): void {
    if (index >= this.#files.length || this.known(index) !== undefined) return;
    this.#find(index).catch(() => {});
  }

  #find(index: number): Promise<number> {
    if (this.#finding?.index === index) return this.#finding.checksum;
    const checksum = this.#read(index);
    this.#finding = { index, checksum };
    return checksum;
  }

  async #read(index: number): Promise<number> {
    const file = this.#files[index];
    if (!file) throw new Error(`the archive has no file ${index}`);
    let sum = 0;
    for await (const chunk of this.#reader.read(file)) sum = crc32(chunk, sum);
    this.#found.set(index, sum);
    await this.#keep(file, sum);
    return sum;
  }
}
