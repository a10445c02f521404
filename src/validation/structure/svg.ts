/**
 * SVG: XML whose root element is `svg`. It is looked at byte by byte as far as shows that a parser would read it, and read
 * it cheaply: elements end in the order in which they began, at a bounded depth, and there are no entities of its own. What
 * it draws, and what its scripts do, is not looked at: it is only ever handed out as an attachment.
 */
import { BYTE_ORDER_MARK, isWhiteSpace, TextCheck } from './text.ts';

/** Elements inside each other; drawing programs write a few dozen. */
const MAX_DEPTH = 256;
/** Bytes of the name of an element, a document type, a reference. */
const MAX_NAME = 256;
const MAX_DOCTYPE = 2048;
const MAX_REFERENCE = 12;

const LESS = 0x3c;
const GREATER = 0x3e;
const AMPERSAND = 0x26;
const SLASH = 0x2f;
const EQUALS = 0x3d;

type State =
  | 'text'
  | 'markup'
  | 'declaration'
  | 'comment'
  | 'character-data'
  | 'doctype'
  | 'instruction'
  | 'open-name'
  | 'tag'
  | 'attribute'
  | 'equals'
  | 'value-start'
  | 'value'
  | 'after-value'
  | 'empty-end'
  | 'close-name'
  | 'close-end'
  | 'reference';

/** References that XML knows by itself (XML 1.0 section 4.6), and those to characters. */
const references = /^(?:amp|lt|gt|quot|apos|#[0-9]{1,7}|#x[0-9A-Fa-f]{1,6})$/;

export class SvgCheck extends TextCheck {
  #state: State = 'text';
  /** Names of the elements that are open. */
  readonly #open: string[] = [];
  /** The root element has begun. */
  #hasRoot = false;
  /** What is being read, as far as its bytes matter. */
  #word = '';
  #quote = 0;
  /** Where a reference leads back to. */
  #back: 'text' | 'value' = 'text';
  /** The last two bytes, of what ends with three. */
  #before = 0;
  #seen = 0;

  protected override scan(text: Buffer): string | undefined {
    for (let at = 0; at < text.length; at += 1) {
      const wrong = this.#take(text[at] ?? 0);
      if (wrong !== undefined) return `The SVG ${wrong}.`;
    }
    return undefined;
  }

  protected override finish(): string | undefined {
    const isWhole = this.#hasRoot && this.#open.length === 0 && this.#state === 'text';
    return isWhole ? undefined : 'The SVG ends before its root element does. It is cut, or not what it seems.';
  }

  #take(byte: number): string | undefined {
    switch (this.#state) {
      case 'text':
        return this.#text(byte);
      case 'value':
        return this.#value(byte);
      case 'tag':
      case 'after-value':
        return this.#tag(byte);
      case 'attribute':
        if (byte === EQUALS) this.#state = 'value-start';
        else if (isWhiteSpace(byte)) this.#state = 'equals';
        else if (isSpecial(byte) || byte === SLASH) return 'has an attribute without a value';
        return undefined;
      case 'equals':
        if (byte === EQUALS) this.#state = 'value-start';
        else if (!isWhiteSpace(byte)) return 'has an attribute without a value';
        return undefined;
      case 'value-start':
        if (isWhiteSpace(byte)) return undefined;
        if (byte !== 0x22 && byte !== 0x27) return 'has an attribute without quotes';
        this.#quote = byte;
        this.#state = 'value';
        return undefined;
      case 'open-name':
        return this.#openName(byte);
      case 'close-name':
      case 'close-end':
        return this.#closeName(byte);
      case 'empty-end':
        if (byte !== GREATER) return 'has a tag that cannot be read';
        this.#state = 'text';
        return undefined;
      case 'reference':
        return this.#reference(byte);
      default:
        return this.#aside(byte);
    }
  }

  #text(byte: number): string | undefined {
    if (byte === LESS) {
      this.#word = '';
      this.#state = 'markup';
    } else if (this.#open.length > 0) {
      if (byte === AMPERSAND) this.#beginReference('text');
    } else if (!isWhiteSpace(byte)) {
      if (byte !== BYTE_ORDER_MARK[this.#seen] || this.#hasRoot) return 'has text outside of its root element';
      this.#seen += 1;
    }
    return undefined;
  }

  #value(byte: number): string | undefined {
    if (byte === this.#quote) this.#state = 'after-value';
    else if (byte === AMPERSAND) this.#beginReference('value');
    else if (byte === LESS) return 'has an attribute with a tag inside';
    return undefined;
  }

  #beginReference(back: 'text' | 'value'): void {
    this.#back = back;
    this.#word = '';
    this.#state = 'reference';
  }

  #reference(byte: number): string | undefined {
    if (byte === 0x3b && references.test(this.#word)) {
      this.#state = this.#back;
      return undefined;
    }
    if (byte === 0x3b || this.#word.length === MAX_REFERENCE) return 'refers to an entity that does not exist';
    this.#word += String.fromCharCode(byte);
    return undefined;
  }

  #tag(byte: number): string | undefined {
    if (isWhiteSpace(byte)) this.#state = 'tag';
    else if (byte === GREATER) this.#state = 'text';
    else if (byte === SLASH) {
      this.#open.pop();
      this.#state = 'empty-end';
    } else if (this.#state === 'after-value' || !isNameStart(byte)) return 'has a tag that cannot be read';
    else this.#state = 'attribute';
    return undefined;
  }

  #openName(byte: number): string | undefined {
    if (isWhiteSpace(byte) || byte === GREATER || byte === SLASH) {
      const wrong = this.#begin(this.#word);
      return wrong ?? this.#tag(byte);
    }
    if (isSpecial(byte) || this.#word.length === MAX_NAME) return 'has an element whose name cannot be read';
    this.#word += String.fromCharCode(byte);
    return undefined;
  }

  #begin(name: string): string | undefined {
    if (this.#open.length === 0) {
      if (this.#hasRoot) return 'has two root elements';
      if (!/^(?:[^:]+:)?svg$/.test(name)) return 'does not have svg as its root element';
      this.#hasRoot = true;
    }
    if (this.#open.length === MAX_DEPTH) return `has more than ${MAX_DEPTH} elements inside each other`;
    this.#open.push(name);
    this.#state = 'tag';
    return undefined;
  }

  #closeName(byte: number): string | undefined {
    if (byte === GREATER) {
      if (this.#open.pop() !== this.#word) return 'has an element that ends inside another';
      this.#state = 'text';
    } else if (isWhiteSpace(byte)) this.#state = 'close-end';
    else if (this.#state === 'close-end' || this.#word.length === MAX_NAME) return 'has a tag that cannot be read';
    else this.#word += String.fromCharCode(byte);
    return undefined;
  }

  /** After `<`, and what stands beside the elements: comments, instructions, character data, the document type. */
  #aside(byte: number): string | undefined {
    const last = this.#before;
    this.#before = ((last << 8) | byte) & 0xffff;
    switch (this.#state) {
      case 'markup':
        return this.#markup(byte);
      case 'declaration':
        return this.#declaration(byte);
      case 'doctype':
        return this.#doctype(byte);
      case 'comment':
        if (byte === GREATER && last === 0x2d2d) this.#state = 'text';
        return undefined;
      case 'character-data':
        if (byte === GREATER && last === 0x5d5d) this.#state = 'text';
        return undefined;
      default:
        if (byte === GREATER && (last & 0xff) === 0x3f) this.#state = 'text';
        return undefined;
    }
  }

  #markup(byte: number): string | undefined {
    this.#before = 0;
    if (byte === 0x21) this.#state = 'declaration';
    else if (byte === 0x3f) this.#state = 'instruction';
    else if (byte === SLASH) this.#state = 'close-name';
    else if (isNameStart(byte)) {
      this.#word = String.fromCharCode(byte);
      this.#state = 'open-name';
    } else return 'has a tag that cannot be read';
    return undefined;
  }

  #declaration(byte: number): string | undefined {
    this.#word += String.fromCharCode(byte);
    this.#before = 0;
    if (this.#word === '--') this.#state = 'comment';
    else if (this.#word === '[CDATA[' && this.#open.length > 0) this.#state = 'character-data';
    else if (this.#word === 'DOCTYPE' && !this.#hasRoot) {
      this.#quote = 0;
      this.#word = '';
      this.#state = 'doctype';
    } else if (!['--', '[CDATA[', 'DOCTYPE'].some((start) => start.startsWith(this.#word)))
      return 'has a declaration that cannot be read';
    return undefined;
  }

  /** One that names where the type is defined is harmless; one that defines entities can be made to expand without end. */
  #doctype(byte: number): string | undefined {
    if (this.#quote !== 0) {
      if (byte === this.#quote) this.#quote = 0;
    } else if (byte === 0x22 || byte === 0x27) this.#quote = byte;
    else if (byte === 0x5b) return 'defines entities in its document type. Save it without them';
    else if (byte === GREATER) {
      this.#state = 'text';
      return undefined;
    }
    this.#seen = Math.max(this.#seen, BYTE_ORDER_MARK.length) + 1;
    return this.#seen > MAX_DOCTYPE ? 'has a document type that cannot be read' : undefined;
  }
}

function isSpecial(byte: number): boolean {
  return byte === LESS || byte === GREATER || byte === AMPERSAND || byte === EQUALS || byte === 0x22 || byte === 0x27;
}

/** Of a name in XML, as far as bytes tell: letters, `_`, `:`, and everything beyond ASCII. */
function isNameStart(byte: number): boolean {
  const letter = byte | 0x20;
  return (letter >= 0x61 && letter <= 0x7a) || byte === 0x5f || byte === 0x3a || byte >= 0x80;
}
