/**
 * The boxes of the ISO base media file format (ISO 14496-12) and of QuickTime. Offsets of media data stand all over such a
 * file, so nothing is moved: what goes becomes free space of the same size, filled with zeros.
 */
import type { Changes } from './changes.ts';
import { bytes, isBlank, Unstrippable, type Walk } from './walk.ts';

export interface Box {
  type: string;
  at: number;
  /** Where its content begins. */
  body: number;
  end: number;
}

const FREE = Buffer.from('free', 'latin1');
const free = new Set(['free', 'skip', 'wide']);
/** Bytes of `hdlr` before the name: version and flags, a type, what it handles, three words that are reserved or Apple's. */
const HANDLER_FIELDS = 24;
const MAX_NAME = 64;
const usualNames = new Set([
  ...['Color', 'Alpha', 'PictureHandler', 'VideoHandler', 'SoundHandler', 'SubtitleHandler', 'DataHandler'],
  ...['Core Media Video', 'Core Media Audio', 'Core Media Data Handler', 'Apple Alias Data Handler'],
]);

/** Visits the boxes between two places, in their order. @returns where they end */
export function* eachBox(from: number, to: number, visit: (box: Box) => Walk<void> | undefined): Walk<number> {
  let at = from;
  while (to - at >= 8) {
    const box = yield* boxAt(at, to);
    // QuickTime may end a container with zeros.
    if (!box) break;
    const walk = visit(box);
    if (walk) yield* walk;
    at = box.end;
  }
  return at;
}

/** The same where boxes are changed: what is no box at the end becomes zeros. */
export function* filterBoxes(
  from: number,
  to: number,
  changes: Changes,
  visit: (box: Box) => Walk<void> | undefined,
): Walk<void> {
  yield* blankRange(yield* eachBox(from, to, visit), to, changes);
}

/** The first box at the end of a path of types. */
export function* findBox(parent: Box, ...path: string[]): Walk<Box | undefined> {
  let found: Box | undefined = parent;
  for (const type of path) {
    const { body, end }: Box = found;
    found = undefined;
    yield* eachBox(body, end, (box) => {
      if (box.type === type) found ??= box;
      return undefined;
    });
    if (!found) return undefined;
  }
  return found;
}

function* boxAt(at: number, to: number): Walk<Box | undefined> {
  const head = yield* bytes(at, 8);
  const size = head.readUInt32BE(0);
  const type = head.toString('latin1', 4);
  if (size === 0 && type === '\0\0\0\0') return undefined;
  const isLong = size === 1;
  if (isLong && to - at < 16) throw unreadable();
  const body = at + (isLong ? 16 : 8);
  const length = isLong ? Number((yield* bytes(at + 8, 8)).readBigUInt64BE(0)) : size;
  const end = size === 0 ? to : at + length;
  if (end < body || end > to) throw unreadable();
  return { type, at, body, end };
}

function unreadable(): Unstrippable {
  return new Unstrippable('The file has a box that cannot be read, or runs past the one that holds it.');
}

/** Makes free space of a box; what is free already is seen to be empty. */
export function* freeBox({ type, at, body, end }: Box, changes: Changes): Walk<void> {
  if (!free.has(type)) changes.replace(at + 4, at + 8, FREE);
  yield* blankRange(body, end, changes);
}

/** Frees the boxes of a container whose types are not among those. @param body where its boxes begin */
export function* keepBoxes(
  { end }: Box,
  body: number,
  kept: ReadonlySet<string>,
  changes: Changes,
  visit?: (box: Box) => Walk<void> | undefined,
): Walk<void> {
  yield* filterBoxes(body, end, changes, (box) => (kept.has(box.type) ? visit?.(box) : freeBox(box, changes)));
}

/** What a handler is called: it stands behind what it does. */
export function* blankHandlerName({ body, end }: Box, changes: Changes): Walk<void> {
  yield* blankName(Math.min(body + HANDLER_FIELDS, end), end, changes);
}

/** A name that cameras and programs choose; those that all of them write tell nothing, and stay. */
export function* blankName(from: number, end: number, changes: Changes): Walk<void> {
  const name = end - from > MAX_NAME ? '' : (yield* bytes(from, end - from)).toString('latin1');
  // Strings of C, or of Pascal in QuickTime.
  const isOfPascal = name.length > 0 && name.charCodeAt(0) === name.length - 1;
  if (!usualNames.has(isOfPascal ? name.slice(1) : name.replace(/\0$/, ''))) yield* blankRange(from, end, changes);
}

export function* blankRange(from: number, to: number, changes: Changes): Walk<void> {
  if (!(yield* isBlank(from, to))) changes.blank(from, to);
}

/** The content of a box, which must be small enough to be looked at as a whole. */
export function* contentOf({ type, body, end }: Box, atMost: number, least = 0): Walk<Buffer> {
  if (end - body > atMost || end - body < least)
    throw new Unstrippable(`The file has a box ${type} that cannot be read.`);
  return yield* bytes(body, end - body);
}
