/**
 * Reads a form, RFC 7578: fields that describe the files, and the files, in any order. Browsers send fields as the page
 * has them; clients that were generated from the contract send them as their generator likes, some of them the file first.
 * So what the fields say is known when the form has ended, and not before: whoever takes a file in asks again then.
 *
 * Nothing is taken by halves: a part that is not known, is there twice or cannot be read is a fault of the whole form.
 *
 * Forms are parsed by @fastify/multipart, as streams: no part is collected, none is written to a temporary file. What it
 * gets to see has been checked (form-check.ts).
 */
import { Readable } from 'node:stream';
import type { Multipart, MultipartFile, MultipartValue } from '@fastify/multipart';
import type { FastifyRequest } from 'fastify';
import type { z } from 'zod';
import { invalid } from '../http/openapi.ts';
import { Problem } from '../problems.ts';
import { free } from '../storage/chunks.ts';
import { FIELD_SIZE, FormCheck, refusedPart, tooLargeForm } from './form-check.ts';

/** Bytes of small chunks that the parser may take before it waits for its reader. */
const HELD_BY_PARSER = 16 * 1024;
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
  readonly #check: FormCheck;
  readonly #body: CheckedBody;
  readonly #parts: AsyncIterator<Multipart>;
  readonly #texts = new Map<string, string>();
  #seen = 0;
  #file: MultipartFile['file'] | undefined;

  /**
   * @param request of a scope that has @fastify/multipart; its own body is not read
   * @param body whose chunks are not used by others
   */
  constructor(request: FastifyRequest, body: AsyncIterable<Buffer>, boundary: string, options: FormOptions<Schema>) {
    this.#options = options;
    this.#check = new FormCheck(body, boundary, options.maxBytes);
    this.#body = new CheckedBody(this.#check, boundary);
    this.#parts = partsOf(request, this.#body, options);
  }

  /**
   * The next file; fields before it are read on the way. What is left of the file before is dropped.
   * @returns undefined when the form has ended well
   * @throws Problem malformed-multipart, unexpected-part, invalid-parameter, too-large
   */
  async nextFile(): Promise<FormFile | undefined> {
    await this.#dropRest();
    for (let part = await this.#nextPart(); part; part = await this.#nextPart()) {
      if (part.type === 'field') {
        this.#takeField(part);
        continue;
      }
      const { fieldname, filename, mimetype, file } = part;
      const { fileField } = this.#options;
      if (fieldname !== fileField)
        throw refusedPart(fieldname, `is not known here; name the part of a file ${fileField}`);
      this.#file = file;
      return { fileName: filename, contentType: mimetype };
    }
    return undefined;
  }

  /** The bytes of the file that came last; each chunk may be used until the next one is asked for. */
  async *bytes(): AsyncGenerator<Buffer> {
    if (!this.#file) return;
    try {
      for await (const chunk of this.#file.iterator({ destroyOnReturn: false })) {
        yield chunk as Buffer;
        free(chunk as Buffer);
      }
    } catch (error) {
      throw this.#fault(error);
    }
    if (this.#file.truncated) throw tooLargeForm(this.#options.maxBytes);
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

  /** Asks for no more of the body; call at the end, however it came. Never throws. */
  close(): void {
    this.#body.destroy();
  }

  async #dropRest(): Promise<void> {
    if (!this.#file || this.#file.readableEnded) return;
    for await (const _dropped of this.bytes());
  }

  #takeField({ fieldname, value }: MultipartValue): void {
    if (fieldname === this.#options.fileField) throw refusedPart(fieldname, 'must be a file, with a file name');
    if (this.#texts.has(fieldname)) throw refusedPart(fieldname, 'is there twice');
    // What is declared as JSON comes parsed: some clients send all their fields so, and then a text comes in quotes.
    if (typeof value === 'string') this.#texts.set(fieldname, value);
    else if (value instanceof Object) this.#texts.set(fieldname, JSON.stringify(value));
    // A number may have lost digits.
    else throw refusedPart(fieldname, 'must be text or an object');
  }

  async #nextPart(): Promise<Multipart | undefined> {
    let next: IteratorResult<Multipart, unknown>;
    try {
      next = await this.#parts.next();
    } catch (error) {
      throw this.#fault(error);
    }
    if (!next.done) {
      this.#seen += 1;
      return next.value;
    }
    if (this.#body.errored) throw this.#body.errored;
    // The parser skips what it cannot read, and says nothing.
    if (this.#seen !== this.#check.parts) throw unreadable();
    return undefined;
  }

  /** What the parser says becomes what the client is told. */
  #fault(error: unknown): unknown {
    if (this.#body.errored) return this.#body.errored;
    const { fileField, maxFiles, tooManyFiles } = this.#options;
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code === 'FST_FILES_LIMIT')
      return new Problem('unexpected-part', {
        detail: tooManyFiles,
        errors: [
          { parameter: fileField, detail: `is there more than ${maxFiles === 1 ? 'once' : `${maxFiles} times`}` },
        ],
      });
    if (code === 'FST_FIELDS_LIMIT' || code === 'FST_PARTS_LIMIT')
      return new Problem('unexpected-part', { detail: 'The form has too many fields.' });
    if (code === 'FST_INVALID_JSON_FIELD_ERROR')
      return new Problem('unexpected-part', { detail: 'A field of the form is declared as JSON and cannot be read.' });
    return unreadable(error);
  }
}

/** The body of a form as @fastify/multipart reads it: in place of the request's own. */
class CheckedBody extends Readable {
  readonly headers: { 'content-type': string };
  readonly #chunks: AsyncIterator<Buffer>;

  constructor(chunks: AsyncIterable<Buffer>, boundary: string) {
    // Nothing is read ahead.
    super({ highWaterMark: 0 });
    this.headers = { 'content-type': `multipart/form-data; boundary="${boundary}"` };
    this.#chunks = chunks[Symbol.asyncIterator]();
  }

  override _read(): void {
    this.#chunks.next().then(
      ({ done, value }) => {
        if (!this.destroyed) this.push(done ? null : value);
      },
      (error) => this.destroy(error),
    );
  }

  override _destroy(error: Error | null, callback: (error: Error | null) => void): void {
    // Not waited for: it may be at a chunk that is yet to come.
    this.#chunks.return?.().catch(() => {});
    callback(error);
  }
}

function partsOf(
  request: FastifyRequest,
  body: CheckedBody,
  { maxFiles, maxBytes }: Pick<FormOptions<z.ZodType>, 'maxFiles' | 'maxBytes'>,
): AsyncIterator<Multipart> {
  const checked: FastifyRequest = Object.create(request, {
    raw: { value: body },
    // The type has been checked.
    isMultipart: { value: () => true },
  });
  return checked.parts({
    isPartAFile: (_name, _type, fileName) => fileName !== undefined,
    preservePath: true,
    // One chunk waits for the reader: several would be copied into one.
    fileHwm: 1,
    highWaterMark: HELD_BY_PARSER,
    limits: {
      fileSize: maxBytes,
      files: maxFiles,
      fields: MAX_FIELDS,
      parts: maxFiles + MAX_FIELDS,
      fieldSize: FIELD_SIZE,
    },
  });
}

/** @throws Problem when the form says that it is larger than forms may be, before anything is read */
export function refuseLargeForm(length: number | undefined, maxBytes: number): void {
  if (length !== undefined && length > maxBytes) throw tooLargeForm(maxBytes);
}

function unreadable(cause?: unknown): Problem {
  return new Problem('malformed-multipart', { detail: 'A part of the form cannot be read.', cause });
}
