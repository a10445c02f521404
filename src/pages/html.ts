/**
 * HTML that is safe by construction. A template is written by us and trusted; whatever is put into it is not, wherever it
 * comes from, and is escaped for the place where it stands. There are three places, and a template with a value anywhere
 * else, such as in a tag's name, an attribute without quotes or a script, does not work at all:
 *
 *   html`<p>${text}</p>`              a string, a number, other HTML, a list of them; nothing for `undefined` and `false`
 *   html`<a href="${address}">`       a string or a number; addresses must lead to this site or to another by http
 *   html`<img ${attributes({...})}>`  attributes, of which those that are `undefined` or `false` are left out
 */

/** What stands in a page as it is. Only templates make it. */
export class Html {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

export class Attributes {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

export type Content = Html | Attributes | string | number | false | undefined | readonly Content[];

/** Where a value stands. */
type Place = { kind: 'text' } | { kind: 'attribute'; name: string } | { kind: 'tag' };

const placesOf = new WeakMap<TemplateStringsArray, Place[]>();

/** @throws Error when the template has a value where none may be, or an address is none that a page may have */
export function html(strings: TemplateStringsArray, ...values: Content[]): Html {
  let places = placesOf.get(strings);
  if (!places) {
    places = findPlaces(strings);
    placesOf.set(strings, places);
  }
  let text = strings[0] ?? '';
  for (const [index, value] of values.entries()) {
    const place = places[index];
    if (!place) throw new Error('a template has a value without a place');
    text += written(place, value) + (strings[index + 1] ?? '');
  }
  return new Html(text);
}

export type AttributeValue = string | number | boolean | undefined;

/** @param all `true` for an attribute that has no value */
export function attributes(all: Readonly<Record<string, AttributeValue>>): Attributes {
  const written: string[] = [];
  for (const [name, value] of Object.entries(all)) {
    if (!/^[a-z][a-z-]*$/.test(name) || isCode(name)) throw new Error(`a page has no attribute ${name}`);
    if (value === undefined || value === false) continue;
    written.push(value === true ? name : `${name}="${attributeValue(name, value)}"`);
  }
  return new Attributes(written.join(' '));
}

/** An attribute in which a browser sees code, which the policy of our pages forbids anyway. */
function isCode(name: string): boolean {
  return name.startsWith('on') || name === 'style' || name === 'srcdoc';
}

function written(place: Place, value: Content): string {
  if (value === undefined || value === false) return '';
  if (place.kind === 'text') return textOf(value);
  if (place.kind === 'tag') {
    if (value instanceof Attributes) return value.text;
    throw new Error('only attributes may stand in a tag');
  }
  if (typeof value === 'string' || typeof value === 'number') return attributeValue(place.name, value);
  throw new Error(`the attribute ${place.name} takes text only`);
}

function textOf(value: Content): string {
  if (value instanceof Html) return value.text;
  if (value instanceof Attributes) throw new Error('attributes stand in a tag only');
  if (typeof value === 'string') return escaped(value);
  if (typeof value === 'number') return String(value);
  return value === undefined || value === false ? '' : value.map(textOf).join('');
}

const ADDRESSES = new Set(['href', 'src', 'action', 'poster', 'formaction', 'data-large']);

function attributeValue(name: string, value: string | number): string {
  const text = String(value);
  if (ADDRESSES.has(name)) requireAddress(text);
  // "URL 256w, URL 384w", as `srcsetOf` writes it.
  if (name.endsWith('srcset')) for (const each of text.split(', ')) requireAddress(each.replace(/ \d+[wx]$/, ''));
  return escaped(text);
}

/** Of this site, or of another one by http; no `javascript:`, no `//host`, and nothing that browsers read differently. */
function requireAddress(text: string): void {
  if (!/^(?:https?:\/\/[^\s\\]+|\/(?![/\\])[^\s\\]*|[?#][^\s\\]*)$/i.test(text))
    throw new Error(`a page has no such address: ${text.slice(0, 40)}`);
}

const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

/**
 * What is no text is shown as U+FFFD: control characters, lone surrogates, and the controls of direction that reach beyond
 * what they stand in ("Trojan Source", CVE-2021-42574). The isolates of our own stand in templates.
 */
export function escaped(text: string): string {
  return text
    .toWellFormed()
    .replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\ufff9-\ufffb]/g, '\ufffd')
    .replace(/[&<>"']/g, (character) => entities[character] ?? '');
}

/** Reads what we have written, up to each value. Values cannot change where they stand, because they are escaped. */
function findPlaces(strings: TemplateStringsArray): Place[] {
  const places: Place[] = [];
  let read = '';
  for (const part of strings.slice(0, -1)) {
    read += part;
    places.push(placeAtEnd(read));
    // Stands for the value.
    read += '0';
  }
  return places;
}

function placeAtEnd(read: string): Place {
  const tag = /<(?<tag>[a-z!/][^>"]*(?:"[^"]*"[^>"]*)*(?:"[^"]*)?)$/i.exec(read)?.groups?.['tag'];
  if (tag === undefined) {
    if (/<(script|style)\b[^>]*>[^<]*$/i.test(read) || /<$/.test(read)) throw new Error('no value may stand here');
    return { kind: 'text' };
  }
  const name = /\s([a-z-]+)="[^"]*$/i.exec(tag)?.[1]?.toLowerCase();
  const isQuoted = (tag.split('"').length - 1) % 2 === 1;
  if (isQuoted && name !== undefined && !isCode(name)) return { kind: 'attribute', name };
  if (!isQuoted && /^[a-z]/i.test(tag) && /[^=\s]\s+$/.test(tag)) return { kind: 'tag' };
  throw new Error('no value may stand here');
}
