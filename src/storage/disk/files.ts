/** Files that outlive a loss of power, and files that may not be there. */
import { chmod, type FileHandle, lstat, open, readdir, readFile, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import type { z } from 'zod';

/** Modes of what the store makes: other accounts of the machine see nothing. */
export const DIRECTORY_MODE = 0o700;
const FILE_MODE = 0o600;
const OTHERS = 0o077;

export async function createEmpty(path: string): Promise<void> {
  await (await open(path, 'w', FILE_MODE)).close();
}

/**
 * Closes a directory, and all that is in it, to other accounts. The directory itself comes last: while it is open, an
 * earlier version made it, or a try was cut off; once it is closed there is nothing to do.
 */
export async function closeToOthers(directory: string): Promise<void> {
  const { mode, uid } = await lstat(directory);
  if ((mode & OTHERS) === 0 || uid !== process.getuid?.()) return;
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) await ifThere(closeToOthers(path));
    else if (entry.isFile()) await ifThere(chmod(path, FILE_MODE));
  }
  await chmod(directory, DIRECTORY_MODE);
}

/** Writes into a file that is there, and syncs: what is recorded as written must outlive a loss of power. */
export async function writeAt(path: string, body: Buffer | Readable, position: number): Promise<void> {
  const handle = await open(path, 'r+');
  try {
    let at = position;
    for await (const chunk of body instanceof Buffer ? [body] : body) at += await writeAll(handle, chunk, at);
    await handle.datasync();
  } finally {
    await handle.close();
  }
}

/** One write may take less than it was given. @returns the bytes of the chunk */
async function writeAll(handle: FileHandle, chunk: Buffer, position: number): Promise<number> {
  let done = 0;
  while (done < chunk.length)
    done += (await handle.write(chunk, done, chunk.length - done, position + done)).bytesWritten;
  return done;
}

/** Cuts off what is behind `size` bytes, and syncs. @throws when fewer are there */
export async function trim(path: string, size: number): Promise<void> {
  const handle = await open(path, 'r+');
  try {
    const found = (await handle.stat()).size;
    if (found < size) throw new Error('bytes of a part that had arrived are missing');
    if (found > size) await handle.truncate(size);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** A new name is durable when the directory that holds it is. */
export async function syncDirectory(directory: string): Promise<void> {
  const handle = await openIfThere(directory);
  try {
    await handle?.sync();
  } catch (error) {
    // Some file systems cannot sync a directory, and say so.
    if (codeOf(error) !== 'EINVAL') throw error;
  } finally {
    await handle?.close();
  }
}

/** A file that is gone is success; a directory is no file of ours. */
export async function removeFile(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (codeOf(error) !== 'ENOENT' && codeOf(error) !== 'EISDIR') throw error;
  }
}

export function openIfThere(path: string): Promise<FileHandle | undefined> {
  return ifThere(open(path, 'r'));
}

export function statIfThere(path: string) {
  return ifThere(stat(path));
}

/** A file of JSON, if it is there. @throws when it holds something else */
export async function readJson<Schema extends z.ZodType>(
  path: string,
  schema: Schema,
): Promise<z.output<Schema> | undefined> {
  const text = await ifThere(readFile(path, 'utf8'));
  return text === undefined ? undefined : schema.parse(JSON.parse(text));
}

/** Undefined where the file is not there. */
export async function ifThere<Result>(looking: Promise<Result>): Promise<Result | undefined> {
  try {
    return await looking;
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** Of an error of the system. */
export function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}
