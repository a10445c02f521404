/**
 * Takes a form apart, RFC 7578 with the framing of RFC 2046 section 5.1, as it streams by: no part is collected.
 *
 * It is strict, because what a lenient parser makes of a form is stored: a part header that cannot be read as it stands
 * (a line break inside a file name, text behind a closing quote, a name that is there twice) ends the form, and nothing
 * is guessed, cut or skipped. @fastify/multipart was tried: it skips parts that it cannot read, cuts file names at a raw
 * quote or line break without saying so, and tells neither by its public interface.
 *
 * Memory is bounded: beside the chunk that came last, no more is kept than a part header or the beginning of what may be
 * a boundary.
 */
import { Problem } from '../problems.ts';

/** Bytes of the header fields of one part: a file name of 255 characters, percent-encoded twice, and room to spare. */
const MAX_HEADER = 16 * 1024;
/** RFC 2046 section 5.1.1: what comes before the first and after the last boundary is to be ignored. Bytes of each. */
const MAX_AROUND = 64 * 1024;
/** White space behind a boundary, RFC 2046 section 5.1.1. Bytes. */
const MAX_PADDING = 128;

const CRLF = Buffer.from('\r\n');
const HEADER_END = Buffer.from('\r\n\r\n');
const [CR, DASH, SPACE, TAB] = [0x0d, 0x2d, 0x20, 0x09];

/** What the header fields of a part say. */
export interface FormPart {
  name: string;
  /** There when the part is a file. */
  fileName?: string;
  /** Media type in lower case, without parameters. */
  contentType?: string;
}

export class MultipartParser {
  readonly #source: AsyncIterator<Buffer>;
  readonly #delimiter: Buffer;
  /** What has come and was not taken. The first boundary may be the first line, so it begins as if a line had ended. */
  #rest: Buffer = CRLF;
  /** `preamble`, in the content of a part, behind a boundary, or at the end. */
  #at: 'preamble' | 'content' | 'boundary' | 'end' = 'preamble';

  /** @param source the body; each chunk is used until the next one is asked for */
  constructor(source: AsyncIterable<Buffer>, boundary: string) {
    this.#source = source[Symbol.asyncIterator]();
    this.#delimiter = Buffer.from(`\r\n--${boundary}`);
  }

  /**
   * The next part. What is left of the one before is dropped.
   * @returns undefined when the form has ended as it should, and its body with it
   * @throws Problem malformed-multipart, or what the source fails with
   */
  async next(): Promise<FormPart | undefined> {
    if (this.#at === 'end') return undefined;
    if (this.#at === 'preamble') await this.#dropAround(this.#untilBoundary());
    else for await (const _dropped of this.content());
    if (await this.#isLast()) {
      this.#at = 'end';
      await this.#dropAround(this.#untilEnd());
      return undefined;
    }
    const part = readHeader(await this.#takeHeader());
    this.#at = 'content';
    return part;
  }

  /** The bytes of the part; each chunk may be used until the next one is asked for. */
  async *content(): AsyncGenerator<Buffer> {
    if (this.#at === 'content') yield* this.#untilBoundary();
  }

  /** Asks for no more of the body; call at the end, however it came. Never throws. */
  close(): void {
    this.#at = 'end';
    // Not waited for: it may be at a chunk that is yet to come.
    this.#source.return?.().catch(() => {});
  }

  async *#untilBoundary(): AsyncGenerator<Buffer> {
    for (;;) {
      const found = this.#rest.indexOf(this.#delimiter);
      const end = found === -1 ? this.#rest.length - this.#heldBack() : found;
      const chunk = this.#rest.subarray(0, end);
      this.#rest = this.#rest.subarray(found === -1 ? end : found + this.#delimiter.length);
      if (found !== -1) this.#at = 'boundary';
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
    // The source may use the memory of a chunk again, or free it, when the next one is asked for.
    const kept = this.#rest.length > 0 ? Buffer.from(this.#rest) : undefined;
    const { done, value } = await this.#source.next();
    if (done) throw malformed('The form ends without its last boundary.');
    this.#rest = kept ? Buffer.concat([kept, value]) : value;
  }

  async *#untilEnd(): AsyncGenerator<Buffer> {
    yield this.#rest;
    for (let next = await this.#source.next(); !next.done; next = await this.#source.next()) yield next.value;
  }

  async #dropAround(bytes: AsyncIterable<Buffer>): Promise<void> {
    let dropped = 0;
    for await (const chunk of bytes) {
      dropped += chunk.length;
      if (dropped > MAX_AROUND) throw malformed('There is too much before or after the parts of the form.');
    }
  }
}

function readHeader(header: string): FormPart {
  const fields = new Map<string, string>();
  for (const line of header.split('\r\n').slice(1)) {
    // Refused: a line break that is no CRLF, a folded line (RFC 9112 section 5.2 says why), and what is no field at all.
    const [, name, value] = /^([\w!#$%&'*+.^`|~-]+):([^\r\n]*)$/.exec(line) ?? [];
    if (name === undefined || value === undefined) throw malformed('A header field of a part cannot be read.');
    if (fields.has(name.toLowerCase())) throw malformed(`A part has the header field ${name} twice.`);
    fields.set(name.toLowerCase(), value.trim());
  }
  refuseEncoded(fields);
  const disposition = readDisposition(fields.get('content-disposition'));
  const contentType = fields.get('content-type')?.split(';', 1)[0]?.trim().toLowerCase();
  return { ...disposition, ...(contentType && { contentType }) };
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
function readDisposition(value: string | undefined): Pick<FormPart, 'name' | 'fileName'> {
  const [type] = /^form-data(?=[ \t]*(;|$))/i.exec(value ?? '') ?? [];
  if (value === undefined || type === undefined)
    throw malformed('A part has no Content-Disposition: form-data, or one that cannot be read.');
  const parameters = readParameters(value.slice(type.length));
  const name = parameters.get('name');
  if (name === undefined) throw malformed('The Content-Disposition of a part has no name.');
  const extended = parameters.get('filename*');
  const fileName = extended === undefined ? parameters.get('filename') : decodeExtended(extended);
  return { name, ...(fileName !== undefined && { fileName }) };
}

/** Each to the end of the text, so that nothing stands between or behind them. */
function readParameters(text: string): Map<string, string> {
  const parameters = new Map<string, string>();
  // No text is matched in two ways, or a hostile one would be tried in very many.
  const parameter = /[ \t]*;[ \t]*([\w!#$%&'*+.^`|~-]+)=(?:"((?:\\["\\]|\\(?!["\\])|[^"\\])*)"|([^\s;"]+))[ \t]*/y;
  while (parameter.lastIndex < text.length) {
    const [, name, quoted, token] = parameter.exec(text) ?? [];
    if (name === undefined) throw malformed('The Content-Disposition of a part cannot be read. Check the quotes.');
    const key = name.toLowerCase();
    if (parameters.has(key)) throw malformed(`The Content-Disposition of a part has ${key} twice.`);
    // Other backslashes are those of paths, which some clients send as they are.
    parameters.set(key, token ?? quoted?.replace(/\\(["\\])/g, '$1') ?? '');
  }
  return parameters;
}

/** RFC 8187 section 3.2: some clients send it, though RFC 7578 has them send UTF-8 as it is. */
function decodeExtended(value: string): string {
  const [, encoded] = /^utf-8'[\w-]*'((?:%[0-9a-f]{2}|[\w!#$&+.^`|~-])*)$/i.exec(value) ?? [];
  try {
    if (encoded !== undefined) return decodeURIComponent(encoded);
  } catch {
    // Not UTF-8.
  }
  throw malformed('The filename* of a part cannot be read (RFC 8187). Send filename in UTF-8.');
}

function malformed(detail: string): Problem {
  return new Problem('malformed-multipart', { detail });
}
