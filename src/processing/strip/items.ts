/**
 * What a picture in boxes consists of (ISO 14496-12, 8.11; HEIF, ISO 23008-12): items, of which `iinf` tells the types and
 * `iloc` the places. Those that are no pictures (Exif, XMP, C2PA) are filled with zeros and lose their type, so that nobody
 * looks for something in them. How the picture is turned is a property (`irot`, `imir`) and stays; Exif has no say in it.
 */
import {
  type Box,
  blankHandlerName,
  blankName,
  blankRange,
  contentOf,
  filterBoxes,
  findBox,
  freeBox,
} from './boxes.ts';
import type { Changes } from './changes.ts';
import { blankRanges, type Range } from './media-data.ts';
import { bytes, Unstrippable, type Walk } from './walk.ts';

const words = (text: string) => new Set(text.split(' '));

/** Coded pictures, and those that are made of others. */
const pictures = words('hvc1 hvt1 lhv1 av01 avc1 vvc1 evc1 j2k1 unci mski grid iovl iden tmap');
const keptInMeta = words('hdlr pitm iinf iloc iref idat dinf ipro grpl');
/** Properties that describe for people: names and tags, other words, when it was made and changed, and what else is added. */
const describing = words('udes altt crtt mdft uuid');

/** Bytes of a list of items; a picture of 16,384 by 16,384 pixels in small tiles has a tenth of it. */
const MAX_LIST = 1024 * 1024;
/** What an item is called that is filled with zeros. */
const EMPTY = Buffer.from('free', 'latin1');

/** Where bytes of an item lie. */
interface Extent extends Range {
  isPicture: boolean;
}

/** Whether a `meta` box describes pictures, and not a film. */
export function* isOfPictures(meta: Box): Walk<boolean> {
  // QuickTime's has no version, so that its first box begins where that stands here.
  if (meta.end - meta.body < 12 || (yield* bytes(meta.body + 4, 4)).toString('latin1') === 'hdlr') return false;
  const handler = yield* findBox(contents(meta), 'hdlr');
  if (!handler || handler.end - handler.body < 12) return false;
  return (yield* bytes(handler.body + 8, 4)).toString('latin1') === 'pict';
}

/** Behind version and flags. */
function contents(box: Box): Box {
  return { ...box, body: box.body + 4 };
}

/** @param isAll whether nothing but these items may lie in the media data */
export function* freeItems(meta: Box, mediaData: readonly Range[], isAll: boolean, changes: Changes): Walk<void> {
  const children = contents(meta);
  yield* filterBoxes(children.body, children.end, changes, function* (box) {
    if (box.type === 'iprp') yield* freeProperties(box, changes);
    else if (box.type === 'hdlr') yield* blankHandlerName(box, changes);
    else if (!keptInMeta.has(box.type)) yield* freeBox(box, changes);
  });
  const list = yield* findBox(children, 'iinf');
  const places = yield* findBox(children, 'iloc');
  if (!list || !places) return;
  const data = yield* findBox(children, 'idat');
  const types = yield* typesOf(list, changes);
  const { extents, isElsewhere } = extentsOf(yield* contentOf(places, MAX_LIST, 8), types, data);
  refuseShared(extents);
  if (isAll && !isElsewhere) yield* blankUnused(extents, mediaData, changes);
  const holders = data ? [...mediaData, { from: data.body, to: data.end }] : mediaData;
  yield* blankRanges(
    extents.filter(({ isPicture }) => !isPicture),
    holders.toSorted((a, b) => a.from - b.from),
    changes,
  );
}

/** What is in the media data and belongs to no item: programs that take Exif out of the list leave its bytes there. */
function* blankUnused(extents: readonly Extent[], mediaData: readonly Range[], changes: Changes): Walk<void> {
  const used = extents.toSorted((a, b) => a.from - b.from);
  let index = 0;
  let usedUpTo = 0;
  for (const { from, to } of mediaData) {
    for (let at = from; at < to; ) {
      while (index < used.length && (used[index]?.from ?? 0) <= at)
        usedUpTo = Math.max(usedUpTo, used[index++]?.to ?? 0);
      const next = Math.min(used[index]?.from ?? to, to);
      if (usedUpTo > at) at = Math.min(usedUpTo, to);
      else {
        yield* blankRange(at, next, changes);
        at = next;
      }
    }
  }
}

function* freeProperties(iprp: Box, changes: Changes): Walk<void> {
  const container = yield* findBox(iprp, 'ipco');
  if (!container) return;
  // Free space counts as a property, so the numbers of the others stay.
  yield* filterBoxes(container.body, container.end, changes, function* (box) {
    if (describing.has(box.type)) yield* freeBox(box, changes);
  });
}

/** The ids of the items; true where it is a picture. The others lose their type. */
function* typesOf(list: Box, changes: Changes): Walk<Map<number, boolean>> {
  const content = yield* contentOf(list, MAX_LIST, 6);
  const first = list.body + (content.readUInt8(0) === 0 ? 6 : 8);
  const types = new Map<number, boolean>();
  yield* filterBoxes(Math.min(first, list.end), list.end, changes, function* (box) {
    if (box.type !== 'infe') return yield* freeBox(box, changes);
    const entry = yield* contentOf(box, MAX_LIST, 12);
    const version = entry.readUInt8(0);
    // Older versions have no types, so nobody knows what they hold.
    if (version < 2) throw unreadable();
    const at = version === 2 ? 8 : 10;
    const type = entry.toString('latin1', at, at + 4);
    if (type === 'jpeg') throw new Unstrippable('The picture holds a JPEG, whose metadata cannot be removed.');
    types.set(version === 2 ? entry.readUInt16BE(4) : entry.readUInt32BE(4), pictures.has(type));
    if (!pictures.has(type) && type !== EMPTY.toString()) changes.replace(box.body + at, box.body + at + 4, EMPTY);
    yield* blankName(box.body + at + 4, box.end, changes);
  });
  return types;
}

/** Where the items lie, and whether there are some that lie elsewhere. */
function extentsOf(
  content: Buffer,
  isPicture: Map<number, boolean>,
  data: Box | undefined,
): { extents: Extent[]; isElsewhere: boolean } {
  const numbers = new Numbers(content);
  const version = numbers.next(4) >>> 24;
  const sizes = numbers.next(2);
  const [ofOffset, ofLength, ofBase] = [sizes >> 12, (sizes >> 8) & 15, (sizes >> 4) & 15];
  const ofIndex = version > 0 ? sizes & 15 : 0;
  const extents: Extent[] = [];
  let areSomeElsewhere = false;
  for (let items = numbers.next(version < 2 ? 2 : 4); items > 0; items--) {
    const id = numbers.next(version < 2 ? 2 : 4);
    const method = version > 0 ? numbers.next(2) & 15 : 0;
    const isElsewhere = numbers.next(2) !== 0;
    areSomeElsewhere ||= isElsewhere;
    const base = numbers.next(ofBase);
    for (let left = numbers.next(2); left > 0; left--) {
      numbers.next(ofIndex);
      const offset = base + numbers.next(ofOffset);
      const length = numbers.next(ofLength);
      if (isElsewhere) continue;
      // Derived pictures may be in other items; something else there cannot be told from them.
      if (method > 1 || (method === 1 && !data)) {
        if (isPicture.get(id)) continue;
        throw unreadable();
      }
      const from = offset + (method === 1 && data ? data.body : 0);
      extents.push({
        from,
        to: length === 0 ? Number.POSITIVE_INFINITY : from + length,
        isPicture: isPicture.get(id) === true,
      });
    }
  }
  return { extents, isElsewhere: areSomeElsewhere };
}

/** Numbers of sizes that the file tells: 0, 4 or 8 bytes. */
class Numbers {
  readonly #content: Buffer;
  #at = 0;

  constructor(content: Buffer) {
    this.#content = content;
  }

  next(size: number): number {
    const at = this.#at;
    this.#at += size;
    if (this.#at > this.#content.length) throw unreadable();
    if (size === 0) return 0;
    if (size === 8) return Number(this.#content.readBigUInt64BE(at));
    if (size > 6) throw unreadable();
    return this.#content.readUIntBE(at, size);
  }
}

function refuseShared(extents: Extent[]): void {
  let [picturesEnd, othersEnd] = [0, 0];
  for (const { from, to, isPicture } of extents.toSorted((a, b) => a.from - b.from)) {
    if (from < (isPicture ? othersEnd : picturesEnd)) throw new Unstrippable('Metadata and the picture share bytes.');
    if (isPicture) picturesEnd = Math.max(picturesEnd, to);
    else othersEnd = Math.max(othersEnd, to);
  }
}

function unreadable(): Unstrippable {
  return new Unstrippable('The picture has items that cannot be found.');
}
