/**
 * File names as Stowage keeps them: NFC (Unicode Standard Annex 15), 1 to 255 bytes of UTF-8 (RFC 3629), and nothing in
 * them that deceives a reader or a file system; RFC 9839 names the code points that are trouble everywhere, RFC 6266
 * section 4.3 what a receiver of the name must fear. A name that breaks a rule is refused, never repaired: the client
 * would not find its file under another name.
 */

import { findInvisible } from './invisible.ts';

const MAX_NAME = 255;
/** Above this no name can have MAX_NAME bytes in NFC, which shortens by a factor of 4 at most (Unicode Standard Annex 15). */
const MAX_GIVEN = 4 * MAX_NAME;

export type CheckedName = { ok: true; name: string } | { ok: false; detail: string };

/** What no name may hold, and how the client is told. The first fault found is told. */
const faults: [RegExp, string][] = [
  [/\p{Surrogate}|\uFFFD/u, 'The file name is not valid UTF-8. Encode it as UTF-8.'],
  [/[\p{Cc}]/u, 'The file name holds a control character. Remove it.'],
  [/[/\\]/u, 'The file name holds a path separator. Send the name alone, without a path.'],
  [/[\u2028\u2029]/u, 'The file name holds a line separator. Remove it.'],
  [
    /[\u061C\u200E\u200F\u202A-\u202E\u2066-\u2069]/u,
    'The file name holds a control character for text direction. Remove it.',
  ],
  [/\p{Noncharacter_Code_Point}/u, 'The file name holds a code point that is no character. Remove it.'],
  [/^\s|\s$/u, 'The file name begins or ends with white space. Remove it.'],
];

/** The first of those faults that a text has, which is to be a name. */
export function findTextFault(given: string): string | undefined {
  return faults.find(([pattern]) => pattern.test(given))?.[1];
}

/** @returns the name in NFC, or what is wrong with it and the way out */
export function checkFileName(given: string): CheckedName {
  if (given.length > MAX_GIVEN) return tooLong(Buffer.byteLength(given));
  const fault = findTextFault(given);
  if (fault !== undefined) return { ok: false, detail: fault };
  const name = given.normalize('NFC');
  const hidden = findInvisible(name);
  if (hidden !== undefined) return invisibleCharacter(hidden);
  const bytes = Buffer.byteLength(name);
  if (bytes === 0) return { ok: false, detail: 'The file name is empty. Name the file.' };
  if (bytes > MAX_NAME) return tooLong(bytes);
  if (/^\.+$/.test(name)) return { ok: false, detail: 'The file name is made of dots. Name the file.' };
  if (/^\.[^.]*$/.test(name)) return { ok: false, detail: 'The file name is an extension only. Put a name before it.' };
  return { ok: true, name };
}

function tooLong(bytes: number): CheckedName {
  return {
    ok: false,
    detail: `The file name has ${bytes} bytes of UTF-8; at most ${MAX_NAME} are kept. Shorten it.`,
  };
}

function invisibleCharacter(character: string): CheckedName {
  const code = (character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0');
  return {
    ok: false,
    detail: `The file name holds an invisible character, U+${code}, where no script or emoji needs it. Remove it.`,
  };
}

/** The name at the end of what some clients send as a path (RFC 7578 section 4.2): `C:\fakepath\a.jpg`, `/tmp/a.jpg`. */
export function baseName(path: string): string {
  return path.slice(Math.max(path.lastIndexOf('/'), path.lastIndexOf('\\')) + 1);
}

/** What follows the last dot, in lower case; undefined when there is no dot with something on both sides. */
export function extensionOf(name: string): string | undefined {
  const dot = name.lastIndexOf('.');
  return dot > 0 && dot < name.length - 1 ? name.slice(dot + 1).toLowerCase() : undefined;
}
