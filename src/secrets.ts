/**
 * Secrets that are made once and then stay in DATA_DIR. A secret that is empty, short or damaged ends the start: with
 * an empty one everybody could sign links.
 */
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  closeSync,
  fsyncSync,
  linkSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { claimDirectory } from './data-directory.ts';

/** Bytes; a file holds them as hexadecimal digits. */
const SECRET = 32;

/** What to do about a damaged secret, by the name of its file. */
const remedies = {
  'link-secret':
    'Put it back from a backup, or delete the file: a new secret is made then, and download links given out before stop working.',
  'postgres-password':
    'It is the password of the embedded Postgres in the same directory: put it back from a backup of that directory.',
};
export type SecretName = keyof typeof remedies;

/**
 * The secret of this name, made when there is none. Processes that start together agree on one, and a crash or a full disk
 * leaves a whole secret or none: it is written to a temporary file that is synced and then linked to its name.
 * @throws Error whose message says what is wrong with the file and what to do
 */
export function secretIn(directory: string, name: SecretName): Buffer {
  claimDirectory(directory);
  const file = join(directory, name);
  const found = readSecret(file, name);
  if (found) return found;
  makeSecret(directory, file);
  const made = readSecret(file, name);
  if (made) return made;
  throw new Error(`The secret ${file} could not be kept: it was removed at once.`);
}

function readSecret(file: string, name: SecretName): Buffer | undefined {
  let text: string;
  try {
    text = readFileSync(file, 'latin1').trim();
    if (statSync(file).mode & 0o077) chmodSync(file, 0o600);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw new Error(`The secret ${file} cannot be read (${error instanceof Error ? error.message : error}).`);
  }
  if (new RegExp(`^[0-9a-f]{${2 * SECRET}}$`, 'i').test(text)) return Buffer.from(text, 'hex');
  const state = text.length === 0 ? 'is empty' : 'is damaged';
  throw new Error(
    `The secret ${file} ${state}: it must hold ${SECRET} bytes as ${2 * SECRET} hexadecimal digits. ${remedies[name]}`,
  );
}

function makeSecret(directory: string, file: string): void {
  const temporary = `${file}.${process.pid}.${randomBytes(4).toString('hex')}`;
  try {
    write(temporary);
    try {
      linkSync(temporary, file);
    } catch (error) {
      // Another process was first: its secret is the one.
      if (codeOf(error) === 'EEXIST') return;
      // File systems without links. Whoever reads the file before it is written finds it damaged, and ends.
      if (!['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK'].includes(codeOf(error) ?? '')) throw error;
      write(file);
    }
  } finally {
    rmSync(temporary, { force: true });
  }
  syncDirectory(directory);
}

function write(file: string): void {
  const descriptor = openSync(file, 'wx', 0o600);
  try {
    writeSync(descriptor, randomBytes(SECRET).toString('hex'));
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/** A new name is durable when the directory that holds it is. */
function syncDirectory(directory: string): void {
  const descriptor = openSync(directory, 'r');
  try {
    fsyncSync(descriptor);
  } catch (error) {
    // Some file systems cannot sync a directory, and say so.
    if (codeOf(error) !== 'EINVAL') throw error;
  } finally {
    closeSync(descriptor);
  }
}

/** Of an error of the system. */
function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}
