/**
 * Names of files in an archive. Whoever unpacks it gets each file as a file of its own beside it, on every system: nothing
 * leads out of the folder, nothing is a device of Windows, and no two names are one where upper and lower case are the same.
 */

/** Bytes of UTF-8, and code units: what file systems take of one name (ext4, APFS; NTFS counts the latter). */
const MAX_NAME = 255;
/** Room that is kept for the number of a name that is there more than once, ` (10000)`. */
const MAX_NUMBER = 12;
/** What follows the last dot is an extension up to this; else it is a part of the name. */
const MAX_EXTENSION = 16;
/** Windows: "Naming Files, Paths, and Namespaces"; control characters of both blocks are refused by some systems as well. */
const forbidden = /[<>:"/\\|?*\u0000-\u001f\u007f-\u009f\u2028\u2029]/g;
/** The same page: devices, whatever the extension is; superscript digits count as digits. */
const device = /^(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9\u00b9\u00b2\u00b3]) *(\.|$)/i;

/**
 * Names for an archive, in the order of the files. The first of several that are the same keeps its name, the others get a
 * number. It takes as long as there are names, whatever they are.
 */
export function namesInArchive(names: readonly string[]): string[] {
  const taken = new Set<string>();
  /** The next number of each name. */
  const numbers = new Map<string, number>();
  return names.map((name) => {
    const safe = safeName(name);
    if (claim(taken, safe)) return safe;
    const { stem, extension } = parts(safe);
    const root = cut(stem, MAX_NAME - byteLength(extension) - MAX_NUMBER);
    const key = sameness(root + extension);
    for (let number = numbers.get(key) ?? 2; ; number += 1) {
      const numbered = `${root} (${number})${extension}`;
      if (!claim(taken, numbered)) continue;
      numbers.set(key, number + 1);
      return numbered;
    }
  });
}

/** A name that is a single file on every system. */
export function safeName(name: string): string {
  const clean = name.toWellFormed().replace(forbidden, '_').normalize('NFC');
  const { stem, extension } = parts(clean);
  const short = cut(stem, MAX_NAME - byteLength(extension) - 1) + extension;
  // Windows drops dots and spaces at the end: so `..` would lead upwards, and `a.` be `a`.
  const ended = short.replace(/[. ]$/, '_');
  return device.test(ended) || ended === '' ? `_${ended}` : ended;
}

function claim(taken: Set<string>, name: string): boolean {
  const key = sameness(name);
  if (taken.has(key)) return false;
  taken.add(key);
  return true;
}

/** Equal for names that some file system takes for one. By upper case first, as `ß` and `ss` have the same. */
function sameness(name: string): string {
  return name.normalize('NFKC').toUpperCase().toLowerCase().normalize('NFKC');
}

/** @returns the extension with its dot */
function parts(name: string): { stem: string; extension: string } {
  const dot = name.lastIndexOf('.');
  const isExtension = dot > 0 && name.length - dot <= MAX_EXTENSION;
  return isExtension ? { stem: name.slice(0, dot), extension: name.slice(dot) } : { stem: name, extension: '' };
}

/** As much of it as has at most so many bytes, in whole code points. */
function cut(text: string, bytes: number): string {
  if (byteLength(text) <= bytes) return text;
  const { read } = new TextEncoder().encodeInto(text, new Uint8Array(bytes));
  return text.slice(0, read);
}

function byteLength(text: string): number {
  return Buffer.byteLength(text);
}
