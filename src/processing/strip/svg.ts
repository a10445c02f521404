/**
 * SVG: what is drawn stays as it is written, with titles and descriptions, which are shown. `metadata` goes (names, licences,
 * RDF), and so do comments, processing instructions, and the elements and attributes of editors: Inkscape names the file by
 * its path, Illustrator puts its own document in. Pictures inside are stripped as others are.
 *
 * A tokenizer is enough: validation has seen that a parser would read the file, and that it defines no entities. It works on
 * bytes, of which each is a character here; UTF-8 has no byte of ASCII within a longer character.
 */
import type { Changes } from './changes.ts';
import { contentOf, type DataAddress, dataAddresses } from './data-addresses.ts';
import { giveWay, Unstrippable, view, type Walk } from './walk.ts';

/** Bytes that are looked at as a whole. */
const MAX_SVG = 32 * 1024 * 1024;

/**
 * Strips a picture that lies in the drawing. It ends with undefined when there is nothing to strip.
 * @param saysPicture otherwise it may be a font, or whatever else an address leads to
 */
export type StripPicture = (bytes: Buffer, saysPicture: boolean) => Walk<Buffer | undefined>;

/** Prefixes of elements that are drawn; those of any other are an editor's own. */
const drawnPrefix =
  /[ \t\r\n]xmlns:([^ \t\r\n=]{1,64})=["']http:\/\/www\.w3\.org\/(?:2000\/svg|1999\/xhtml|1998\/Math\/MathML)["']/g;
const keptAttributes = new Set(['xml', 'xmlns', 'xlink']);
const keptInstructions = /^<\?xml(?:-stylesheet)?[ \t\r\n]/;

/** Tags, attributes and stretches of text that are looked at at once. */
const PIECES_BETWEEN_TURNS = 1024;

/** Characters of a document type; validation takes half of it. */
const MAX_DOCTYPE = 4096;

const MAX_PICTURES = 10_000;

export function svg(strip: StripPicture) {
  return function* walk(size: number, changes: Changes): Walk<void> {
    if (size > MAX_SVG) throw new Unstrippable(`An SVG has at most ${MAX_SVG} bytes.`);
    const text = (yield* view(0, size)).toString('latin1', 0, size);
    yield* new Drawing(text, changes, strip).strip();
  };
}

class Drawing {
  readonly #text: string;
  readonly #changes: Changes;
  readonly #strip: StripPicture;
  readonly #drawn: Set<string | undefined>;
  #depth = 0;
  /** What kind of tag it is whose attributes are looked at. */
  #tag: 'start' | 'end' | undefined;
  readonly #pictures: DataAddress[] = [];
  /** The outermost element that goes, as long as it is open. */
  #dropped: { at: number; depth: number } | undefined;

  constructor(text: string, changes: Changes, strip: StripPicture) {
    this.#text = text;
    this.#changes = changes;
    this.#strip = strip;
    this.#drawn = new Set([undefined, ...[...text.matchAll(drawnPrefix)].map(([, prefix]) => prefix)]);
  }

  *strip(): Walk<void> {
    let pieces = 0;
    for (let at = 0; at < this.#text.length; pieces++) {
      if (pieces % PIECES_BETWEEN_TURNS === 0) yield* giveWay();
      at = this.#tag ? this.#attribute(at) : this.#markup(at);
    }
    if (this.#dropped || this.#tag) throw unreadable();
    for (const picture of this.#pictures) yield* this.#stripPicture(picture);
  }

  /** Text up to a tag, and what is none. @returns where it ends, or where the attributes of a tag begin */
  #markup(from: number): number {
    const at = this.#text.indexOf('<', from);
    this.#keep(from, at === -1 ? this.#text.length : at);
    if (at === -1) return this.#text.length;
    const next = this.#text[at + 1];
    if (next !== '!' && next !== '?') return this.#beginTag(at, next === '/');
    if (this.#text.startsWith('<!--', at)) return this.#cut(at, this.#after('-->', at + 4));
    if (this.#text.startsWith('<![CDATA[', at)) return this.#keep(at, this.#after(']]>', at));
    if (next === '!') return this.#documentType(at);
    const end = this.#after('?>', at);
    return keptInstructions.test(this.#text.slice(at, Math.min(end, at + 20))) ? end : this.#cut(at, end);
  }

  #documentType(at: number): number {
    for (const part of this.#text.slice(at, at + MAX_DOCTYPE).matchAll(/"[^"]*"|'[^']*'|>/g))
      if (part[0] === '>') return at + part.index + 1;
    throw unreadable();
  }

  #beginTag(at: number, isEnd: boolean): number {
    const nameAt = at + (isEnd ? 2 : 1);
    const nameEnd = this.#endOfName(nameAt);
    if (!this.#dropped && !isEnd && this.#depth > 0 && !this.#isDrawn(this.#text.slice(nameAt, nameEnd)))
      this.#dropped = { at, depth: this.#depth };
    this.#tag = isEnd ? 'end' : 'start';
    return nameEnd;
  }

  #isDrawn(name: string): boolean {
    const colon = name.indexOf(':');
    return name.slice(colon + 1) !== 'metadata' && this.#drawn.has(colon === -1 ? undefined : name.slice(0, colon));
  }

  /** One attribute, or the end of the tag. @returns where it ends */
  #attribute(at: number): number {
    const nameAt = this.#afterSpace(at);
    if (this.#text[nameAt] === '>') return this.#endTag(nameAt + 1, false);
    if (this.#text[nameAt] === '/' && this.#text[nameAt + 1] === '>') return this.#endTag(nameAt + 2, true);
    const nameEnd = this.#endOfName(nameAt);
    const equals = this.#afterSpace(nameEnd);
    const quoteAt = this.#afterSpace(equals + 1);
    const quote = this.#text[quoteAt];
    if (nameEnd === nameAt || this.#text[equals] !== '=' || (quote !== '"' && quote !== "'")) throw unreadable();
    const end = this.#after(quote, quoteAt + 1);
    if (!this.#isKept(this.#text.slice(nameAt, nameEnd))) return this.#cut(at, end);
    this.#keep(quoteAt + 1, end - 1);
    return end;
  }

  #endTag(end: number, isEmpty: boolean): number {
    if (this.#tag === 'end') this.#depth -= 1;
    else if (!isEmpty) this.#depth += 1;
    this.#tag = undefined;
    if (this.#dropped && this.#depth <= this.#dropped.depth) {
      this.#changes.cut(this.#dropped.at, end);
      this.#dropped = undefined;
    }
    return end;
  }

  #isKept(attribute: string): boolean {
    const colon = attribute.indexOf(':');
    const prefix = colon === -1 ? undefined : attribute.slice(0, colon);
    return prefix === undefined || keptAttributes.has(prefix) || this.#drawn.has(prefix);
  }

  #endOfName(from: number): number {
    let at = from;
    while (at < this.#text.length && !isDelimiter(this.#text.charCodeAt(at))) at += 1;
    return at;
  }

  #afterSpace(from: number): number {
    let at = from;
    while (isSpace(this.#text.charCodeAt(at))) at += 1;
    return at;
  }

  /** What stays, but for the metadata of pictures in it. */
  #keep(from: number, to: number): number {
    if (this.#dropped) return to;
    for (const { from: at, to: end, ...address } of dataAddresses(this.#text.slice(from, to))) {
      if (this.#pictures.length === MAX_PICTURES) throw new Unstrippable('The SVG holds too many pictures.');
      this.#pictures.push({ ...address, from: from + at, to: from + end });
    }
    return to;
  }

  *#stripPicture({ isBase64, saysPicture, from, to }: DataAddress): Walk<void> {
    const content = contentOf(this.#text.slice(from, to), isBase64);
    if (!content && saysPicture) throw unreadable();
    if (!content?.length) return;
    const stripped = yield* this.#strip(content, saysPicture);
    if (!stripped) return;
    if (!isBase64) throw new Unstrippable('The SVG holds a picture with metadata that is not written in base64.');
    const put = stripped.toString('base64');
    // Written without what fills it up, it is never longer than it was.
    this.#changes.replace(from, to, Buffer.from(put.length > to - from ? put.replace(/=+$/, '') : put, 'latin1'));
  }

  #cut(from: number, to: number): number {
    if (!this.#dropped) this.#changes.cut(from, to);
    return to;
  }

  #after(end: string, from: number): number {
    const at = this.#text.indexOf(end, from);
    if (at === -1) throw unreadable();
    return at + end.length;
  }
}

function isSpace(code: number): boolean {
  return code === 0x20 || code === 0x0a || code === 0x09 || code === 0x0d;
}

/** What ends a name: space, `/`, `=`, `>`. */
function isDelimiter(code: number): boolean {
  return isSpace(code) || code === 0x2f || code === 0x3d || code === 0x3e;
}

function unreadable(): Unstrippable {
  return new Unstrippable('The SVG cannot be taken apart.');
}
