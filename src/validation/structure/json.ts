/** JSON, RFC 8259: parsed byte by byte, and nothing of it is kept but which brackets are open. */
import { BYTE_ORDER_MARK, isWhiteSpace, TextCheck } from './text.ts';

/** Brackets inside each other. Parsers that call themselves for each end the process on more. */
const MAX_DEPTH = 512;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_LIST = 0x5b;
const CLOSE_LIST = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

type State =
  | 'start'
  | 'value'
  | 'value-or-end'
  | 'name'
  | 'name-or-end'
  | 'colon'
  | 'after-value'
  | 'string'
  | 'escape'
  | 'hex'
  | 'word'
  | 'number';

/** Where a number stands, and where each kind of character leads; RFC 8259 section 6. */
type NumberState = 'minus' | 'zero' | 'integer' | 'point' | 'fraction' | 'exponent' | 'sign' | 'power';
const endsOfNumbers: ReadonlySet<NumberState> = new Set(['zero', 'integer', 'fraction', 'power']);

const words: Record<number, string> = { 116: 'true', 102: 'false', 110: 'null' };

export class JsonCheck extends TextCheck {
  #state: State = 'start';
  /** Open brackets: whether each is an object. */
  readonly #isObject = new Uint8Array(MAX_DEPTH);
  #depth = 0;
  /** Whether the string is the name of a member. */
  #isName = false;
  #number: NumberState = 'minus';
  /** What must follow, of a word; how many digits, of an escape. */
  #rest = '';
  #digits = 0;
  #seen = 0;

  protected override scan(text: Buffer): string | undefined {
    for (let at = 0; at < text.length; ) {
      if (this.#state === 'string') {
        at = this.#string(text, at);
        if (at < 0) return fault('a control character in a string');
      } else {
        const wrong = this.#take(text[at] ?? 0);
        if (wrong === 'again') continue;
        if (wrong !== undefined) return fault(wrong);
        at += 1;
      }
    }
    return undefined;
  }

  protected override finish(): string | undefined {
    const isNumber = this.#state === 'number' && endsOfNumbers.has(this.#number);
    const isComplete = this.#depth === 0 && (this.#state === 'after-value' || isNumber);
    return isComplete ? undefined : 'The JSON ends before it is complete. It is cut.';
  }

  /** The part of the chunk that belongs to a string. @returns where it ends; negative for a fault */
  #string(text: Buffer, from: number): number {
    for (let at = from; at < text.length; at += 1) {
      const byte = text[at] ?? 0;
      if (byte === QUOTE) {
        this.#state = this.#isName ? 'colon' : 'after-value';
        return at + 1;
      }
      if (byte === BACKSLASH) {
        this.#state = 'escape';
        return at + 1;
      }
      if (byte < 0x20) return -1;
    }
    return text.length;
  }

  /** @returns what is wrong with the byte, or `again` when it belongs to what follows a number */
  #take(byte: number): string | undefined {
    switch (this.#state) {
      case 'escape':
        return this.#escape(byte);
      case 'hex':
        if (!isHexadecimal(byte)) return 'an escape that does not exist';
        this.#digits -= 1;
        if (this.#digits === 0) this.#state = 'string';
        return undefined;
      case 'word':
        if (this.#rest.charCodeAt(0) !== byte) return 'a word that does not exist';
        this.#rest = this.#rest.slice(1);
        if (this.#rest === '') this.#state = 'after-value';
        return undefined;
      case 'number':
        return this.#digit(byte);
      case 'start':
        if (byte === BYTE_ORDER_MARK[this.#seen] && this.#seen < BYTE_ORDER_MARK.length) {
          this.#seen += 1;
          return undefined;
        }
        this.#state = 'value';
        return 'again';
    }
    return isWhiteSpace(byte) ? undefined : this.#token(byte);
  }

  #token(byte: number): string | undefined {
    switch (this.#state) {
      case 'colon':
        if (byte !== COLON) return 'a name without a value';
        this.#state = 'value';
        return undefined;
      case 'name':
      case 'name-or-end':
        if (byte === CLOSE_OBJECT && this.#state === 'name-or-end') return this.#close(true);
        if (byte !== QUOTE) return 'a member without a name';
        this.#isName = true;
        this.#state = 'string';
        return undefined;
      case 'after-value':
        if (byte === CLOSE_OBJECT || byte === CLOSE_LIST) return this.#close(byte === CLOSE_OBJECT);
        if (byte !== COMMA || this.#depth === 0) return 'something after a value';
        this.#state = this.#isObject[this.#depth - 1] ? 'name' : 'value';
        return undefined;
      case 'value-or-end':
        if (byte === CLOSE_LIST) return this.#close(false);
    }
    return this.#value(byte);
  }

  #value(byte: number): string | undefined {
    if (byte === QUOTE) {
      this.#isName = false;
      this.#state = 'string';
    } else if (byte === OPEN_LIST || byte === OPEN_OBJECT) {
      if (this.#depth === MAX_DEPTH) return `more than ${MAX_DEPTH} brackets inside each other`;
      this.#isObject[this.#depth] = byte === OPEN_OBJECT ? 1 : 0;
      this.#depth += 1;
      this.#state = byte === OPEN_OBJECT ? 'name-or-end' : 'value-or-end';
    } else if (byte === 0x2d || isDigit(byte)) {
      this.#number = byte === 0x2d ? 'minus' : byte === 0x30 ? 'zero' : 'integer';
      this.#state = 'number';
    } else {
      const word = words[byte];
      if (word === undefined) return 'something that is no value';
      this.#rest = word.slice(1);
      this.#state = 'word';
    }
    return undefined;
  }

  #close(isObject: boolean): string | undefined {
    if (this.#depth === 0 || Boolean(this.#isObject[this.#depth - 1]) !== isObject)
      return 'a bracket that closes nothing';
    this.#depth -= 1;
    this.#state = 'after-value';
    return undefined;
  }

  #escape(byte: number): string | undefined {
    if (byte === 0x75) {
      this.#digits = 4;
      this.#state = 'hex';
      return undefined;
    }
    if (!'"\\/bfnrt'.includes(String.fromCharCode(byte))) return 'an escape that does not exist';
    this.#state = 'string';
    return undefined;
  }

  #digit(byte: number): string | undefined {
    const next = nextOfNumber(this.#number, byte);
    if (next) {
      this.#number = next;
      return undefined;
    }
    if (!endsOfNumbers.has(this.#number)) return 'a number that cannot be read';
    this.#state = 'after-value';
    return 'again';
  }
}

function nextOfNumber(state: NumberState, byte: number): NumberState | undefined {
  const digit = isDigit(byte);
  switch (state) {
    case 'minus':
      return digit ? (byte === 0x30 ? 'zero' : 'integer') : undefined;
    case 'zero':
    case 'integer':
      if (digit) return state === 'integer' ? state : undefined;
      return byte === 0x2e ? 'point' : (byte | 0x20) === 0x65 ? 'exponent' : undefined;
    case 'point':
    case 'fraction':
      if (digit) return 'fraction';
      return state === 'fraction' && (byte | 0x20) === 0x65 ? 'exponent' : undefined;
    case 'exponent':
      return digit ? 'power' : byte === 0x2b || byte === 0x2d ? 'sign' : undefined;
    case 'sign':
    case 'power':
      return digit ? 'power' : undefined;
  }
}

function isDigit(byte: number): boolean {
  return byte >= 0x30 && byte <= 0x39;
}

function isHexadecimal(byte: number): boolean {
  return isDigit(byte) || ((byte | 0x20) >= 0x61 && (byte | 0x20) <= 0x66);
}

function fault(what: string): string {
  return `The JSON has ${what}. It is damaged, or not what it seems.`;
}
