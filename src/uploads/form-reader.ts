/**
 * Reads a form, RFC 7578: fields that describe the files, and the files, in any order. Browsers send fields as the page
 * has them; clients that were generated from the contract send them as their generator likes, some of them the file first.
 * So what the fields say is known when the form has ended, and not before: whoever takes a file in asks again then.
 *
 * Nothing is taken by halves: a part that is not known, is there twice or cannot be read is a fault of the whole form.
 */
import type { FastifyRequest } from 'fastify';
import type { z } from 'zod';
import { invalid } from '../http/openapi.ts';
import { Problem } from '../problems.ts';
import { type FormPart, MultipartParser } from './multipart-parser.ts';

const FIELD_SIZE = 64 * 1024;
/** More than any form here knows. */
const MAX_FIELDS = 8;
/** RFC 2046 section 5.1.1. */
const MAX_BOUNDARY = 70;

/** A part that is a file. Its bytes are `FormReader.bytes`, until the next file is asked for. */
export interface FormFile {
  fileName: string;
  contentType?: string;
}

export interface FormOptions<Schema extends z.ZodType> {
  /** Name of the parts that are files. */
  fileField: string;
  maxFiles: number;
  /** What to do when there are more. */
  tooManyFiles: string;
  /** Of the fields, each of which comes as text. */
  schema: Schema;
  /** Bytes of the form at most. */
  maxBytes: number;
}

/** @returns the boundary of a form. @throws Problem for what is no form, before anything is read */
export function boundaryOf(request: FastifyRequest): string {
  const type = request.headers['content-type'] ?? '';
  if (!/^multipart\/form-data\s*(;|$)/i.test(type)) {
    throw new Problem('unsupported-media-type', {
      detail: 'Send a form as multipart/form-data, or the file alone by PUT /v1/assets/raw/{fileName}.',
    });
  }
  const boundary = /;\s*boundary=(?:"([^"]*)"|([^\s;"]*))/i.exec(type);
  const value = boundary?.[1] ?? boundary?.[2] ?? '';
  if (!/^[0-9A-Za-z'()+_,./:=? -]{1,70}$/.test(value) || value.endsWith(' ')) {
    throw new Problem('malformed-multipart', {
      detail: `The Content-Type needs a boundary of 1 to ${MAX_BOUNDARY} characters (RFC 2046).`,
    });
  }
  return value;
}

/** The parts of one form. */
export class FormReader<Schema extends z.ZodType> {
  readonly #options: FormOptions<Schema>;
  readonly #parser: MultipartParser;
  readonly #texts = new Map<string, string>();
  #files = 0;

  /** @param body whose every chunk may be used until the next one is asked for */
  constructor(body: AsyncIterable<Buffer>, boundary: string, options: FormOptions<Schema>) {
    this.#options = options;
    this.#parser = new MultipartParser(limited(body, options.maxBytes), boundary);
  }

  /**
   * The next file; fields before it are read on the way. What is left of the file before is dropped.
   * @returns undefined when the form has ended well
   * @throws Problem malformed-multipart, unexpected-part, invalid-parameter, too-large
   */
  async nextFile(): Promise<FormFile | undefined> {
    for (let part = await this.#parser.next(); part; part = await this.#parser.next()) {
      const { fileName, contentType } = part;
      if (fileName === undefined) await this.#readField(part);
      else {
        this.#countFile(part.name);
        return { fileName, ...(contentType !== undefined && { contentType }) };
      }
    }
    return undefined;
  }

  /** The bytes of the file that came last; each chunk may be used until the next one is asked for. */
  bytes(): AsyncGenerator<Buffer> {
    return this.#parser.content();
  }

  /** The bytes of the only file. They end when the form has ended well, so that its fields are known then. */
  async *onlyBytes(): AsyncGenerator<Buffer> {
    yield* this.bytes();
    while (await this.nextFile());
  }

  /** What the fields say that have come so far. @throws Problem that names each that is not known or not valid */
  fields(): z.output<Schema> {
    const result = this.#options.schema.safeParse(
      // An empty field is how browsers send one that was left out.
      Object.fromEntries([...this.#texts].filter(([, text]) => text !== '')),
    );
    if (!result.success) throw invalid(result.error.issues, 'form');
    return result.data;
  }

  /** Ends the watch over the body; call at the end, however it came. Never throws. */
  close(): void {
    this.#parser.close();
  }

  #countFile(name: string): void {
    const { fileField, maxFiles, tooManyFiles } = this.#options;
    if (name !== fileField) throw refusedPart(name, `is not known here; name the part of a file ${fileField}`);
    this.#files += 1;
    if (this.#files <= maxFiles) return;
    throw new Problem('unexpected-part', {
      detail: tooManyFiles,
      errors: [{ parameter: name, detail: `is there more than ${maxFiles === 1 ? 'once' : `${maxFiles} times`}` }],
    });
  }

  async #readField({ name, contentType }: FormPart): Promise<void> {
    if (name === this.#options.fileField) throw refusedPart(name, 'must be a file, with a file name');
    if (name in Object.prototype) throw refusedPart(name, 'is not known here');
    if (this.#texts.has(name)) throw refusedPart(name, 'is there twice');
    if (this.#texts.size === MAX_FIELDS)
      throw new Problem('unexpected-part', { detail: 'The form has too many fields.' });
    const chunks: Buffer[] = [];
    let length = 0;
    for await (const chunk of this.bytes()) {
      length += chunk.length;
      if (length > FIELD_SIZE) throw refusedPart(name, `has more than ${FIELD_SIZE} bytes`);
      chunks.push(Buffer.from(chunk));
    }
    const text = decode(name, Buffer.concat(chunks));
    this.#texts.set(name, contentType === 'application/json' ? unquoted(name, text) : text);
  }
}

/** The body, as long as it is no larger than a form may be. */
async function* limited(body: AsyncIterable<Buffer>, maxBytes: number): AsyncGenerator<Buffer> {
  let length = 0;
  for await (const chunk of body) {
    length += chunk.length;
    if (length > maxBytes) throw tooLargeForm(maxBytes);
    yield chunk;
  }
}

/** @throws Problem when the form says that it is larger than forms may be, before anything is read */
export function refuseLargeForm(length: number | undefined, maxBytes: number): void {
  if (length !== undefined && length > maxBytes) throw tooLargeForm(maxBytes);
}

function tooLargeForm(maxBytes: number): Problem {
  return new Problem('too-large', { detail: `The form may have at most ${maxBytes} bytes. Send a smaller file.` });
}

function decode(name: string, bytes: Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw refusedPart(name, 'is not valid UTF-8');
  }
}

/** Some clients declare their fields as JSON; then a text comes in quotes. */
function unquoted(name: string, text: string): string {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'string' ? value : text;
  } catch {
    throw refusedPart(name, 'is declared as JSON and is none');
  }
}

function refusedPart(name: string, fault: string): Problem {
  const shown = name.replace(/[^\x20-\x7e]/g, '?').slice(0, 100);
  return new Problem('unexpected-part', {
    detail: `The part ${shown} ${fault}.`,
    errors: [{ parameter: shown, detail: fault }],
  });
}
