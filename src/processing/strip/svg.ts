/**
 * SVG: what is drawn stays as it is written, with titles and descriptions, which are shown. `metadata` goes (names, licences,
 * RDF), and so do comments, processing instructions, and the elements and attributes of editors: Inkscape names the file by
 * its path, Illustrator puts its own document in. Pictures inside are stripped as others are.
 *
 * A tokenizer is enough: validation has seen that a parser would read the file, and that it defines no entities. It works on
 * bytes, of which each is a character here; UTF-8 has no byte of ASCII within a longer character.
 */
import type { Changes } from './changes.ts';
import { Unstrippable, view, type Walk } from './walk.ts';

/** Bytes that are looked at as a whole. */
const MAX_SVG = 32 * 1024 * 1024;

/** Strips a picture that lies in the drawing. @returns undefined when there is nothing to strip */
export type StripPicture = (bytes: Buffer) => Buffer | undefined;

/** Prefixes of elements that are drawn; those of any other are an editor's own. */
const drawnPrefix =
  /[ \t\r\n]xmlns:([^ \t\r\n=]{1,64})=["']http:\/\/www\.w3\.org\/(?:2000\/svg|1999\/xhtml|1998\/Math\/MathML)["']/g;
const keptAttributes = new Set(['xml', 'xmlns', 'xlink']);
const keptInstructions = /^<\?xml(?:-stylesheet)?[ \t\r\n]/;

/** The name behind `<` or `</`; an attribute up to its value, or the end of the tag. */
const tagName = /[^ \t\r\n/>]+/y;
const attributeOrEnd = /[ \t\r\n]*(?:(\/?)>|([^ \t\r\n=/>]+)[ \t\r\n]*=[ \t\r\n]*(["']))/y;

/** RFC 2397. References to line breaks are what a drawing program wraps lines by. */
const dataAddress = /data:image\/[a-z0-9.+-]{1,64}((?:;[^;,"'()<>]{0,64}){0,4}),([^"'()<>]*)/gi;
const lineBreaks = /[ \t\r\n]|&#(?:10|13|x0?[ad]);/gi;

export function svg(strip: StripPicture) {
  return function* walk(size: number, changes: Changes): Walk<void> {
    if (size > MAX_SVG) throw new Unstrippable(`An SVG has at most ${MAX_SVG} bytes.`);
    const text = (yield* view(0, size)).toString('latin1', 0, size);
    new Drawing(text, changes, strip).strip();
  };
}

class Drawing {
  readonly #text: string;
  readonly #changes: Changes;
  readonly #strip: StripPicture;
  readonly #drawn: Set<string | undefined>;
  #depth = 0;
  /** The outermost element that goes, as long as it is open. */
  #dropped: { at: number; depth: number } | undefined;

  constructor(text: string, changes: Changes, strip: StripPicture) {
    this.#text = text;
    this.#changes = changes;
    this.#strip = strip;
    this.#drawn = new Set([undefined, ...[...text.matchAll(drawnPrefix)].map(([, prefix]) => prefix)]);
  }

  strip(): void {
    let at = 0;
    for (;;) {
      const next = this.#text.indexOf('<', at);
      this.#keep(at, next === -1 ? this.#text.length : next);
      if (next === -1) break;
      at = this.#markup(next);
    }
    if (this.#dropped) throw unreadable();
  }

  /** @returns where it ends */
  #markup(at: number): number {
    const is = (start: string) => this.#text.startsWith(start, at);
    if (is('<!--')) return this.#cut(at, this.#after('-->', at + 4));
    if (is('<![CDATA[')) return this.#keep(at, this.#after(']]>', at));
    if (is('<!')) return this.#documentType(at);
    if (!is('<?')) return this.#tag(at);
    const end = this.#after('?>', at);
    return keptInstructions.test(this.#text.slice(at, Math.min(end, at + 20))) ? end : this.#cut(at, end);
  }

  #documentType(at: number): number {
    let end = at;
    for (const part of this.#text.slice(at, this.#text.length).matchAll(/"[^"]*"|'[^']*'|>/g)) {
      end = at + part.index + 1;
      if (part[0] === '>') return end;
    }
    throw unreadable();
  }

  #tag(at: number): number {
    const isEnd = this.#text[at + 1] === '/';
    const name = matchAt(tagName, this.#text, at + (isEnd ? 2 : 1))[0];
    const isDropped = !this.#dropped && !isEnd && this.#depth > 0 && !this.#isDrawn(name);
    if (isDropped) this.#dropped = { at, depth: this.#depth };
    const { end, isEmpty } = this.#attributes(tagName.lastIndex);
    if (isEnd) this.#depth -= 1;
    else if (!isEmpty) this.#depth += 1;
    if (this.#dropped && this.#depth <= this.#dropped.depth) {
      this.#changes.cut(this.#dropped.at, end);
      this.#dropped = undefined;
    }
    return end;
  }

  #isDrawn(name: string): boolean {
    const [local, prefix] = name.split(':').reverse();
    return local !== 'metadata' && this.#drawn.has(prefix);
  }

  #attributes(from: number): { end: number; isEmpty: boolean } {
    for (let at = from; ; ) {
      const [, empty, name, quote] = matchAt(attributeOrEnd, this.#text, at);
      const value = attributeOrEnd.lastIndex;
      if (name === undefined || quote === undefined) return { end: value, isEmpty: empty === '/' };
      const end = this.#after(quote, value);
      const prefix = name.includes(':') ? name.slice(0, name.indexOf(':')) : undefined;
      if (prefix === undefined || keptAttributes.has(prefix) || this.#drawn.has(prefix)) this.#keep(value, end - 1);
      else this.#cut(at, end);
      at = end;
    }
  }

  /** What stays, but for the metadata of pictures in it. */
  #keep(from: number, to: number): number {
    if (this.#dropped) return to;
    for (const match of this.#text.slice(from, to).matchAll(dataAddress)) {
      const [whole, parameters = '', content = ''] = match;
      const end = from + match.index + whole.length;
      this.#picture(/;base64$/i.test(parameters), end - content.length, end);
    }
    return to;
  }

  #picture(isBase64: boolean, from: number, to: number): void {
    const content = unescaped(this.#text.slice(from, to), isBase64);
    if (content.length === 0) return;
    const stripped = this.#strip(Buffer.from(content, isBase64 ? 'base64' : 'utf8'));
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

function unescaped(content: string, isBase64: boolean): string {
  const joined = isBase64 ? content.replace(lineBreaks, '') : content;
  try {
    return joined.includes('%') ? decodeURIComponent(joined) : joined;
  } catch {
    throw unreadable();
  }
}

function matchAt(pattern: RegExp, text: string, at: number): RegExpExecArray {
  pattern.lastIndex = at;
  const match = pattern.exec(text);
  if (!match) throw unreadable();
  return match;
}

function unreadable(): Unstrippable {
  return new Unstrippable('The SVG cannot be taken apart.');
}
