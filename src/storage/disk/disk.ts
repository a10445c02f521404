/** The directories of the disk store: how its files get into place whole, and how its verbs run. */
import { randomUUID } from 'node:crypto';
import { access, constants, mkdir, readdir, rename, rm, rmdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Readable } from 'node:stream';
import { z } from 'zod';
import { type ObjectAttributes, ObjectStoreUnavailable } from '../object-store.ts';
import {
  closeToOthers,
  codeOf,
  createEmpty,
  DIRECTORY_MODE,
  removeFile,
  statIfThere,
  syncDirectory,
  writeAt,
} from './files.ts';

/** As S3 has it; below the 4,096 bytes of a path. */
const MAX_KEY = 1024;
/** Leftovers of a crash are removed when they are older; a younger file may be another instance's. Milliseconds. */
const STALE_TEMPORARY = 24 * 3600 * 1000;
/** Deletions beside a new object may take its parents away while they are empty, but hardly as often as this in a row. */
const PLACING_TRIES = 50;
/** A disk that is full, read-only, broken or not there. What may be missing in it is looked for, and told otherwise. */
const diskFaults = new Set(
  'ENOSPC EDQUOT EIO EROFS EACCES EPERM EMFILE ENFILE ENOTDIR ENOENT ENXIO ESTALE ETIMEDOUT'.split(' '),
);

export const attributesSchema = z.object({
  contentType: z.string(),
  contentDisposition: z.string(),
  cacheControl: z.string(),
  metadata: z.record(z.string(), z.string()),
});

export class Disk {
  readonly objects: string;
  readonly multipart: string;
  readonly temporary: string;
  readonly #root: string;
  readonly #now: () => Date;
  #ready: Promise<void> | undefined;

  constructor(root: string, now: () => Date) {
    this.#root = root;
    this.#now = now;
    this.objects = join(root, 'objects');
    this.multipart = join(root, 'multipart');
    this.temporary = join(root, 'tmp');
  }

  /** Runs one verb. The directories are made once: if they vanish later, a disk is gone, and must not be made up for. */
  async run<Result>({ signal }: { signal?: AbortSignal | undefined }, work: () => Promise<Result>): Promise<Result> {
    signal?.throwIfAborted();
    try {
      this.#ready ??= this.#prepare().catch((error) => {
        this.#ready = undefined;
        throw error;
      });
      await this.#ready;
      return await work();
    } catch (cause) {
      signal?.throwIfAborted();
      throw diskFaults.has(codeOf(cause) ?? '')
        ? new ObjectStoreUnavailable('the disk cannot be used', { cause })
        : cause;
    }
  }

  /** That everything may be read and written. */
  async probe(): Promise<void> {
    const allowed = constants.R_OK | constants.W_OK | constants.X_OK;
    for (const directory of [this.objects, this.multipart, this.temporary]) await access(directory, allowed);
  }

  /** Something is missing only if the disk is there to say so. */
  async requirePresence(): Promise<void> {
    await access(this.objects);
  }

  /** @throws for keys that are not ours: they could lead out of the directory, or be taken for a sidecar */
  pathOf(key: string): string {
    const segments = key.length <= MAX_KEY ? key.split('/') : [];
    const isSafe = (segment: string) =>
      /^[A-Za-z0-9_~.-]{1,240}$/.test(segment) && !/^\.+$/.test(segment) && !segment.endsWith('.json');
    if (segments.length === 0 || !segments.every(isSafe)) throw new Error('not an object key');
    return join(this.objects, ...segments);
  }

  /** A file that is whole or not there. */
  writeJson(path: string, value: unknown): Promise<void> {
    return this.stage(Buffer.from(JSON.stringify(value)), (temporary) => rename(temporary, path));
  }

  /** Writes and syncs a temporary file, which `place` moves where it belongs. If it does not, nothing is left. */
  async stage(body: Buffer | Readable, place: (temporary: string) => Promise<void>): Promise<void> {
    const temporary = join(this.temporary, randomUUID());
    try {
      await createEmpty(temporary);
      await writeAt(temporary, body, 0);
      await place(temporary);
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
  }

  /** Moves bytes that are synced to their place, after their sidecar. */
  async commit(bytes: string, path: string, attributes: ObjectAttributes): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        await mkdir(dirname(path), { recursive: true, mode: DIRECTORY_MODE });
        await this.writeJson(`${path}.json`, attributes);
        await rename(bytes, path);
        break;
      } catch (error) {
        // A deletion beside it may have removed the parents while they were empty.
        if (codeOf(error) !== 'ENOENT' || attempt === PLACING_TRIES || !(await statIfThere(bytes))) throw error;
      }
    }
    // All of them: they may be new, and a new directory is an entry of its parent.
    for (let directory = dirname(path); directory !== this.#root; directory = dirname(directory))
      await syncDirectory(directory);
  }

  /** Removes the bytes of an object and its sidecar. What is gone is success. */
  async removeObject(path: string): Promise<void> {
    await removeFile(path);
    await removeFile(`${path}.json`);
    await syncDirectory(await this.#removeEmptyParents(path));
  }

  /** Ends an upload at once, and removes what is left of it. One that is gone is success. */
  async discard(directory: string): Promise<void> {
    const temporary = join(this.temporary, randomUUID());
    try {
      await rename(directory, temporary);
    } catch (error) {
      if (codeOf(error) !== 'ENOENT') throw error;
      return this.requirePresence();
    }
    await rm(temporary, { recursive: true, force: true });
  }

  /** @returns the first parent that stays, because it is not empty or is the root */
  async #removeEmptyParents(path: string): Promise<string> {
    let directory = dirname(path);
    for (; directory !== this.objects; directory = dirname(directory)) {
      try {
        await rmdir(directory);
      } catch (error) {
        if (codeOf(error) !== 'ENOENT') break;
      }
    }
    return directory;
  }

  async #prepare(): Promise<void> {
    for (const directory of [this.objects, this.multipart, this.temporary])
      await mkdir(directory, { recursive: true, mode: DIRECTORY_MODE });
    await closeToOthers(this.#root);
    await syncDirectory(this.#root);
    await this.#removeLeftovers();
  }

  /** What a crash has left. Other instances may be at work in the same directory. */
  async #removeLeftovers(): Promise<void> {
    const old = this.#now().getTime() - STALE_TEMPORARY;
    for (const name of await readdir(this.temporary)) {
      const path = join(this.temporary, name);
      const facts = await statIfThere(path);
      if (facts && facts.mtimeMs < old) await rm(path, { recursive: true, force: true });
    }
    for (const uploadId of await readdir(this.multipart)) {
      const directory = join(this.multipart, uploadId);
      // Without its bytes it was completed.
      if (isUploadId(uploadId) && !(await statIfThere(join(directory, 'data')))) await this.discard(directory);
    }
  }
}

export function isUploadId(text: string): boolean {
  return /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text);
}
