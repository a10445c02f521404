/**
 * Stands before the parser of forms, @fastify/multipart, and lets through what can be read in one way only: RFC 7578 with
 * the framing of RFC 2046 section 5.1.
 *
 * The parser is lenient, and what a lenient parser makes of a form would be stored: it cuts file names at a raw quote or
 * line break, skips parts that it cannot read, makes U+FFFD of text that is no UTF-8, and tells none of it. Here such a
 * form ends, and nothing is guessed, cut or skipped. What is let through is framed in the plainest way, so that the parser
 * cannot see other parts than the ones that were checked: no text around the parts, no white space behind a boundary, and
 * of a part header only what counts. The last boundary is let through when the body has ended as it should.
 *
 * Memory is bounded: beside the chunk that came last, no more is kept than a part header or the beginning of what may be
 * a boundary.
 */
import { Problem } from '../problems.ts';
import { free } from '../storage/chunks.ts';

/** Bytes of the header fields of one part: a file name of 255 characters, percent-encoded twice, and room to spare. */
const MAX_HEADER = 16 * 1024;
/** RFC 2046 section 5.1.1: what comes before the first and after the last boundary is to be ignored. Bytes of each. */
const MAX_AROUND = 64 * 1024;
/** White space behind a boundary, RFC 2046 section 5.1.1. Bytes. */
const MAX_PADDING = 128;
/** Bytes of a field. */
export const FIELD_SIZE = 64 * 1024;

const CRLF = Buffer.from('\r\n');
const HEADER_END = Buffer.from('\r\n\r\n');
const [CR, DASH, SPACE, TAB] = [0x0d, 0x2d, 0x20, 0x09];

/** What the header fields of a part say. */
interface PartHeader {
  name: string;
  isFile: boolean;
  /** The fields that count, for the parser. */
  text: string;
}

export class FormCheck {
  /** Parts that were let through. */
  parts = 0;
  readonly #source: AsyncIterator<Buffer>;
  readonly #maxBytes: number;
  readonly #delimiter: Buffer;
  /** What has come and was not taken. The first boundary may be the first line, so it begins as if a line had ended. */
  #rest: Buffer = CRLF;
  #length = 0;

  /**
   * @param source the body, whose chunks are not used by others
   * @param maxBytes of the whole form
   */
  constructor(source: AsyncIterable<Buffer>, boundary: string, maxBytes: number) {
    this.#source = source[Symbol.asyncIterator]();
    this.#delimiter = Buffer.from(`\r\n--${boundary}`);
    this.#maxBytes = maxBytes;
  }

  /**
   * The form, as far as it is sound. No chunk ends within what may be a boundary.
   * @throws Problem malformed-multipart, unexpected-part, too-large, or what the source fails with
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer> {
    try {
      await this.#dropAround(this.#untilBoundary());
      while (!(await this.#isLast())) {
        const header = readHeader(await this.#takeHeader());
        this.parts += 1;
        yield this.#framed(`\r\n${header.text}\r\n\r\n`);
        if (header.isFile) yield* this.#untilBoundary();
        else yield* textOf(header.name, this.#untilBoundary());
      }
      await this.#dropAround(this.#untilEnd());
      yield this.#framed('--\r\n');
    } finally {
      await this.#source.return?.();
    }
  }

  #framed(text: string): Buffer {
    return Buffer.concat([this.#delimiter, Buffer.from(text)]);
  }

  /** The bytes up to the next boundary, which is taken too. */
  async *#untilBoundary(): AsyncGenerator<Buffer> {
    for (;;) {
      const found = this.#rest.indexOf(this.#delimiter);
      const end = found === -1 ? this.#rest.length - this.#heldBack() : found;
      const chunk = end === this.#rest.length ? this.#rest : this.#rest.subarray(0, end);
      this.#rest = this.#rest.subarray(found === -1 ? end : found + this.#delimiter.length);
      if (chunk.length > 0) yield chunk;
      if (found !== -1) return;
      await this.#more();
    }
  }

  /** Bytes at the end of what has come that may be the beginning of a boundary. */
  #heldBack(): number {
    const { length } = this.#rest;
    const from = Math.max(0, length - this.#delimiter.length + 1);
    for (let at = this.#rest.indexOf(CR, from); at !== -1; at = this.#rest.indexOf(CR, at + 1))
      if (this.#rest.compare(this.#delimiter, 0, length - at, at) === 0) return length - at;
    return 0;
  }

  /** Behind a boundary: two hyphens say that it is the last one; otherwise its line ends, and a header follows. */
  async #isLast(): Promise<boolean> {
    await this.#need(2);
    if (this.#rest[0] === DASH && this.#rest[1] === DASH) {
      this.#rest = this.#rest.subarray(2);
      return true;
    }
    for (let padding = 0; this.#rest[0] === SPACE || this.#rest[0] === TAB; padding++) {
      if (padding === MAX_PADDING) throw malformed('A boundary is followed by too much white space.');
      this.#rest = this.#rest.subarray(1);
      await this.#need(2);
    }
    if (!this.#rest.subarray(0, 2).equals(CRLF)) throw malformed('A boundary is not alone in its line.');
    return false;
  }

  /** The header fields, with the end of the boundary's line before them, so that an empty header ends like any other. */
  async #takeHeader(): Promise<string> {
    let end = this.#rest.indexOf(HEADER_END);
    while (end === -1 && this.#rest.length <= MAX_HEADER) {
      await this.#more();
      end = this.#rest.indexOf(HEADER_END);
    }
    if (end === -1 || end > MAX_HEADER)
      throw malformed(`The header fields of a part have more than ${MAX_HEADER} bytes.`);
    if (this.#rest.subarray(0, end).includes(this.#delimiter))
      throw malformed('There is a boundary among the header fields of a part.');
    // Bytes that are no UTF-8 become U+FFFD, which no name may hold.
    const header = this.#rest.toString('utf8', 0, end);
    // The empty line may be missing where there is no content: then its line break is already that of the boundary.
    this.#rest = this.#rest.subarray(end + CRLF.length);
    await this.#need(this.#delimiter.length);
    if (!this.#rest.subarray(0, this.#delimiter.length).equals(this.#delimiter))
      this.#rest = this.#rest.subarray(CRLF.length);
    return header;
  }

  async #need(bytes: number): Promise<void> {
    while (this.#rest.length < bytes) await this.#more();
  }

  /** @throws Problem when there is no more, because a form ends by a boundary */
  async #more(): Promise<void> {
    const next = await this.#chunk();
    if (!next) throw malformed('The form ends without its last boundary.');
    if (this.#rest.length === 0) this.#rest = next;
    else {
      this.#rest = Buffer.concat([this.#rest, next]);
      free(next);
    }
  }

  async #chunk(): Promise<Buffer | undefined> {
    const { done, value } = await this.#source.next();
    if (done) return undefined;
    this.#length += value.length;
    if (this.#length > this.#maxBytes) throw tooLargeForm(this.#maxBytes);
    return value;
  }

  async *#untilEnd(): AsyncGenerator<Buffer> {
    yield this.#rest;
    for (let next = await this.#chunk(); next; next = await this.#chunk()) yield next;
  }

  async #dropAround(bytes: AsyncIterable<Buffer>): Promise<void> {
    let dropped = 0;
    for await (const chunk of bytes) {
      dropped += chunk.length;
      if (dropped > MAX_AROUND) throw malformed('There is too much before or after the parts of the form.');
    }
  }
}

/** A field, which is text. */
async function* textOf(name: string, bytes: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  const check = (chunk?: Buffer) => {
    try {
      decoder.decode(chunk, { stream: chunk !== undefined });
    } catch {
      throw refusedPart(name, 'is not valid UTF-8');
    }
  };
  let length = 0;
  for await (const chunk of bytes) {
    length += chunk.length;
    if (length > FIELD_SIZE) throw refusedPart(name, `has more than ${FIELD_SIZE} bytes`);
    check(chunk);
    yield chunk;
  }
  check();
}

function readHeader(header: string): PartHeader {
  const fields = new Map<string, string>();
  for (const line of header.split('\r\n').slice(1)) {
    // Refused: a line break that is no CRLF, a folded line (RFC 9112 section 5.2 says why), and what is no field at all.
    const [, name, value] = /^([\w!#$%&'*+.^`|~-]+):([^\r\n]*)$/.exec(line) ?? [];
    if (name === undefined || value === undefined) throw malformed('A header field of a part cannot be read.');
    if (fields.has(name.toLowerCase())) throw malformed(`A part has the header field ${name} twice.`);
    fields.set(name.toLowerCase(), value.trim());
  }
  refuseEncoded(fields);
  const { name, isFile, text } = readDisposition(fields.get('content-disposition'));
  // Without its parameters: a field is UTF-8, whatever charset it is said to have.
  const type = fields.get('content-type')?.split(';', 1)[0]?.trim();
  return { name, isFile, text: `Content-Disposition: ${text}${type ? `\r\nContent-Type: ${type}` : ''}` };
}

/** Parts are stored as they are, whole. */
function refuseEncoded(fields: Map<string, string>): void {
  // RFC 7578 section 4.7: deprecated, and only these change nothing.
  if (!/^(7bit|8bit|binary)?$/i.test(fields.get('content-transfer-encoding') ?? ''))
    throw malformed('A part has a Content-Transfer-Encoding. Send its bytes as they are.');
  if (!/^(identity)?$/i.test(fields.get('content-encoding') ?? ''))
    throw malformed('A part has a Content-Encoding. Send its bytes as they are.');
  if (fields.has('content-range')) throw malformed('A part has a Content-Range. Send the whole file.');
}

/** RFC 7578 section 4.2. */
function readDisposition(value: string | undefined): PartHeader {
  const [type] = /^form-data(?=[ \t]*(;|$))/i.exec(value ?? '') ?? [];
  if (value === undefined || type === undefined)
    throw malformed('A part has no Content-Disposition: form-data, or one that cannot be read.');
  const parameters = readParameters(value.slice(type.length));
  const name = parameters.get('name');
  if (name === undefined) throw malformed('The Content-Disposition of a part has no name.');
  // The parser refuses these too, but at the end of the form.
  if (name.value in Object.prototype) throw refusedPart(name.value, 'is not known here');
  const extended = parameters.get('filename*');
  if (extended) refuseUnreadable(extended.value);
  // RFC 6266 section 4.3: the other one is for those who do not know this one.
  const fileName = extended ?? parameters.get('filename');
  const text = ['form-data', name.text, ...(fileName ? [fileName.text] : [])].join('; ');
  return { name: name.value, isFile: fileName !== undefined, text };
}

interface Parameter {
  /** As it was sent. */
  text: string;
  value: string;
}

/** Each to the end of the text, so that nothing stands between or behind them. */
function readParameters(text: string): Map<string, Parameter> {
  const parameters = new Map<string, Parameter>();
  // No text is matched in two ways, or a hostile one would be tried in very many.
  const parameter = /[ \t]*;[ \t]*(([\w!#$%&'*+.^`|~-]+)=(?:"((?:\\["\\]|\\(?!["\\])|[^"\\])*)"|([^\s;"]+)))[ \t]*/y;
  while (parameter.lastIndex < text.length) {
    const [, whole, name, quoted, token] = parameter.exec(text) ?? [];
    if (whole === undefined || name === undefined)
      throw malformed('The Content-Disposition of a part cannot be read. Check the quotes.');
    const key = name.toLowerCase();
    if (parameters.has(key)) throw malformed(`The Content-Disposition of a part has ${key} twice.`);
    // RFC 2231, of which RFC 7578 section 4.2 knows nothing: pieces of a value, and names of fields in other charsets.
    if (key.includes('*') && key !== 'filename*')
      throw malformed(`The Content-Disposition of a part has ${key}. Send text in UTF-8.`);
    // Other backslashes are those of paths, which some clients send as they are.
    parameters.set(key, { text: whole, value: token ?? quoted?.replace(/\\(["\\])/g, '$1') ?? '' });
  }
  return parameters;
}

/** RFC 8187 section 3.2: some clients send it, though RFC 7578 has them send UTF-8 as it is. */
function refuseUnreadable(extended: string): void {
  const [, encoded] = /^utf-8'[\w-]*'((?:%[0-9a-f]{2}|[\w!#$&+.^`|~-])*)$/i.exec(extended) ?? [];
  try {
    // A name with a line break is a part that the parser skips.
    if (encoded !== undefined && !/[\r\n]/.test(decodeURIComponent(encoded))) return;
  } catch {
    // Not UTF-8.
  }
  throw malformed('The filename* of a part cannot be read (RFC 8187). Send filename in UTF-8.');
}

function malformed(detail: string): Problem {
  return new Problem('malformed-multipart', { detail });
}

/** A part that is not as it should be. */
export function refusedPart(name: string, fault: string): Problem {
  const shown = name.replace(/[^\x20-\x7e]/g, '?').slice(0, 100);
  return new Problem('unexpected-part', {
    detail: `The part ${shown} ${fault}.`,
    errors: [{ parameter: shown, detail: fault }],
  });
}

export function tooLargeForm(maxBytes: number): Problem {
  return new Problem('too-large', { detail: `The form may have at most ${maxBytes} bytes. Send a smaller file.` });
}
