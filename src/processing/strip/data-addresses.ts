/**
 * Addresses that hold what they lead to (RFC 2397), as drawings have them in attributes and styles. Programs write them in many
 * ways, and browsers read all of these: with spaces in the head, without a media type, wrapped in lines, within `&quot;`.
 */
import { Unstrippable } from './walk.ts';

/** Where the content of an address stands. */
export interface DataAddress {
  from: number;
  to: number;
  isBase64: boolean;
  /** It says that it is a picture; one that says nothing, or something else, may be one all the same. */
  saysPicture: boolean;
}

/** Browsers pass over tabs and line breaks in addresses. */
const scheme = /d[\t\r\n]*a[\t\r\n]*t[\t\r\n]*a[\t\r\n]*:/gi;
/** The same with references to characters (XML 1.0, section 4.1), and escapes of CSS (CSS Syntax, section 4.3.7). */
const anySpelling = new RegExp(
  [...'data:'].map(spellings).join(String.raw`(?:[\t\r\n]|&#(?:0{0,5}(?:9|10|13)|x0{0,5}[9ad]);)*`),
  'gi',
);
/** Media type and parameters; few have more than twenty characters. */
const address = new RegExp(`${scheme.source}([^,"'()<>]{0,256}),`, 'gi');
/** `data:,` has more. */
const MIN_ADDRESS = 6;
const quotes = /(?:["'(]|&quot;|&apos;|&#0*3[49];|&#x0*2[27];)[ \t\r\n]*$/i;
/** Characters before an address in which its quote is looked for. */
const MAX_QUOTE = 32;

const references = /&(?:#(\d{1,7})|#x([\da-f]{1,6})|(amp|lt|gt|quot|apos));/gi;
const named: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };
const lineBreaks = /[ \t\r\n]/g;

/**
 * The addresses in the value of an attribute, or in text.
 * @throws Unstrippable when there is one that only a browser would see
 */
export function* dataAddresses(text: string): Generator<DataAddress> {
  if (text.length < MIN_ADDRESS) return;
  if (/&#|\\/.test(text)) refuseHidden(text);
  address.lastIndex = 0;
  for (let found = address.exec(text); found; found = address.exec(text)) {
    const head = found[1] ?? '';
    const from = found.index + found[0].length;
    const to = endOf(text, found.index, from);
    if (/[&\\]/.test(head)) throw hidden();
    const saysPicture = /^\s*image\//i.test(head);
    yield { from, to, isBase64: /;\s*base64\s*$/i.test(head), saysPicture };
    // The same expression looks on in other texts meanwhile.
    address.lastIndex = to;
  }
}

/** It ends where the quote comes again that it began with; without one, with what no address holds. */
function endOf(text: string, at: number, from: number): number {
  const before = text.slice(Math.max(0, at - MAX_QUOTE), at);
  const quote = quotes.exec(before)?.[0].trimEnd();
  if (quote === undefined && before.trim() === '') return text.length;
  if (quote === undefined) return from + (/^[^"'()<>]*/.exec(text.slice(from))?.[0].length ?? 0);
  const end = text.indexOf(quote === '(' ? ')' : quote, from);
  return end === -1 ? text.length : end;
}

/** The bytes of an address. @returns undefined when it is not written as it says */
export function contentOf(content: string, isBase64: boolean): Buffer | undefined {
  const plain = spelled(content).replace(/%([\da-f]{2})/gi, (_whole, code: string) => byteOf(code, 16));
  if (!isBase64) return Buffer.from(plain, 'latin1');
  const digits = plain.replace(lineBreaks, '');
  return /^[\w+/-]*=*$/.test(digits) ? Buffer.from(digits, 'base64') : undefined;
}

function spellings(character: string): string {
  const codes = [character, character.toUpperCase()].map((each) => each.charCodeAt(0));
  const [decimal, hexadecimal] = [codes.join('|'), codes.map((code) => code.toString(16)).join('|')];
  const reference = `&#(?:0{0,5}(?:${decimal})|x0{0,5}(?:${hexadecimal}));`;
  return String.raw`(?:${character}|${reference}|\\(?:0{0,4}(?:${hexadecimal})[ \t\r\n]?|${character}))`;
}

function refuseHidden(text: string): void {
  const count = (how: RegExp) => text.match(how)?.length ?? 0;
  if (count(anySpelling) > count(scheme)) throw hidden();
}

/** With its references to characters resolved, as far as they are bytes. */
function spelled(text: string): string {
  return text.replace(references, (_whole, decimal?: string, hexadecimal?: string, name?: string) => {
    if (name !== undefined) return named[name.toLowerCase()] ?? '';
    return decimal === undefined ? byteOf(hexadecimal ?? '', 16) : byteOf(decimal, 10);
  });
}

function byteOf(code: string, base: number): string {
  const value = Number.parseInt(code, base);
  return value < 256 ? String.fromCharCode(value) : '?';
}

function hidden(): Unstrippable {
  return new Unstrippable('The SVG holds an address that is not written plainly.');
}
