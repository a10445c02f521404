/** Keys of objects that are made to try a store out, and removed again: by `npm run doctor` and by storage tests. */
import { randomBytes } from 'node:crypto';

/** Digits of the folder of one trial, so that two do not meet. */
const DIGITS = 16;
const makers = ['doctor', 'storage-tests'] as const;
const form = new RegExp(`^(?:${makers.join('|')})/[0-9a-f]{${DIGITS}}/[a-z]+$`);

/** @param prefix of all keys of the store. @returns a folder, to whose end a slash and a word in small letters are put */
export function probeFolder(prefix: string, by: (typeof makers)[number]): string {
  return `${prefix}${by}/${randomBytes(DIGITS / 2).toString('hex')}`;
}

/** What the keys of all of them begin with. @param prefix of all keys of the store */
export function probeFolders(prefix: string): string[] {
  return makers.map((maker) => `${prefix}${maker}/`);
}

/** Whether a key is that of such an object: when it is old, whoever made it is gone. */
export function isProbeKey(prefix: string, key: string): boolean {
  return key.startsWith(prefix) && form.test(key.slice(prefix.length));
}
