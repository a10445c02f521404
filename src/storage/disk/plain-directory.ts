/**
 * A directory of plain files for people and other programs, as backups are: each is there whole or not at all, and outlives
 * a loss of power.
 */
import { createReadStream } from 'node:fs';
import { mkdir, readdir, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Readable } from 'node:stream';
import { createEmpty, DIRECTORY_MODE, ifThere, removeFile, statIfThere, syncDirectory, writeAt } from './files.ts';

export class PlainDirectory {
  readonly #path: string;

  /** @param path is made when the first file is written */
  constructor(path: string) {
    this.#path = path;
  }

  /** Writes a file. What a crash leaves of it ends with `.part`, and the next one under the name takes its place. */
  async write(name: string, source: Readable): Promise<void> {
    const path = join(this.#path, name);
    const unfinished = `${path}.part`;
    await mkdir(dirname(path), { recursive: true, mode: DIRECTORY_MODE });
    try {
      await createEmpty(unfinished);
      await writeAt(unfinished, source, 0);
      await rename(unfinished, path);
    } catch (error) {
      await removeFile(unfinished);
      throw error;
    }
    await syncDirectory(dirname(path));
    await syncDirectory(this.#path);
  }

  /** Undefined where there is no such file. */
  async read(name: string): Promise<Readable | undefined> {
    const path = join(this.#path, name);
    const facts = await statIfThere(path);
    return facts?.isFile() ? createReadStream(path) : undefined;
  }

  /** Names of the directories in one of its directories, or in itself. */
  async folders(below = ''): Promise<string[]> {
    const entries = (await ifThere(readdir(join(this.#path, below), { withFileTypes: true }))) ?? [];
    return entries.flatMap((entry) => (entry.isDirectory() ? [entry.name] : [])).sort();
  }
}
