/**
 * Paths of folders as Stowage keeps them: `photos/2026/`, NFC, each folder named as a file may be (see file-name.ts) and
 * ended by `/`. A path is a label of an asset and nothing else: no folder is made or deleted, and the key of the object
 * does not know it.
 */

import { findTextFault } from './file-name.ts';
import { findInvisible } from './invisible.ts';

/** Bytes of UTF-8; with the name, it is still a key of an index page (PostgreSQL documentation, B-Tree: a third of 8 KiB). */
export const MAX_PATH = 512;
export const MAX_DEPTH = 20;
const MAX_FOLDER = 255;

export type CheckedPath = { ok: true; path: string } | { ok: false; detail: string };

/**
 * @param given with or without the last `/`; empty text is the top
 * @returns the path in NFC, empty or ended by `/`, or what is wrong with it
 */
export function checkFolderPath(given: string): CheckedPath {
  if (given === '') return { ok: true, path: '' };
  // NFC shortens by a factor of 4 at most (Unicode Standard Annex 15).
  if (given.length > 4 * MAX_PATH) return tooLong;
  const path = `${given.normalize('NFC').replace(/\/$/, '')}/`;
  if (Buffer.byteLength(path) > MAX_PATH) return tooLong;
  const folders = path.slice(0, -1).split('/');
  if (folders.length > MAX_DEPTH) return { ok: false, detail: `must have at most ${MAX_DEPTH} folders` };
  const detail = folders.map(faultOf).find((fault) => fault !== undefined);
  return detail === undefined ? { ok: true, path } : { ok: false, detail };
}

const tooLong: CheckedPath = { ok: false, detail: `must have at most ${MAX_PATH} bytes of UTF-8` };

function faultOf(folder: string): string | undefined {
  if (folder === '') return 'must not begin with / or have an empty folder';
  if (folder === '.' || folder === '..') return 'must not hold . or .. as a folder';
  if (Buffer.byteLength(folder) > MAX_FOLDER) return `must have at most ${MAX_FOLDER} bytes in each folder`;
  if (findTextFault(folder) !== undefined || findInvisible(folder) !== undefined)
    return 'must be folders with / between them, named by visible text, without backslashes and without spaces around it';
  return undefined;
}
