/**
 * Reads forms, RFC 7578, part by part and strictly. @fastify/multipart is used as a stream only: no part is collected, none
 * is written to a temporary file.
 *
 * The parser is lenient where a storage service must not be: it cuts files at its limit, drops second files, skips parts
 * that it cannot read, and ends without an error on forms that are no forms. Each of these is turned into a refusal here.
 * Skipped parts cause no event, so they are found by the parser's own count of parts, which is private. A version of the
 * parser without that count makes every form fail with an internal error, and no form is taken on trust.
 */
import type { IncomingMessage } from 'node:http';
import { Writable } from 'node:stream';
import type { FastifyMultipartBaseOptions, Multipart, MultipartFile } from '@fastify/multipart';
import type { FastifyRequest } from 'fastify';
import type { z } from 'zod';
import { wantBody } from '../http/body-guard.ts';
import { invalid } from '../http/openapi.ts';
import { Problem } from '../problems.ts';
import { free } from '../storage/chunks.ts';

const FIELD_SIZE = 64 * 1024;
const CHUNK = 256 * 1024;
/** RFC 2046 section 5.1.1. */
const MAX_BOUNDARY = 70;

/**
 * Options of @fastify/multipart for forms that a `FormReader` reads.
 *
 * @param fileSize of the largest file that any upload policy allows
 * @param files of one form, at most
 */
export function parserOptions(fileSize: number, files: number): FastifyMultipartBaseOptions {
  return {
    throwFileSizeLimit: false,
    preservePath: true,
    fileHwm: CHUNK,
    highWaterMark: CHUNK,
    limits: {
      // One more than allowed of each: whoever sends it is refused, and no file is cut that could be stored.
      fileSize: fileSize + 1,
      files: files + 1,
      fields: 8,
      parts: files + 10,
      fieldSize: FIELD_SIZE,
      fieldNameSize: 100,
      headerPairs: 20,
    },
  };
}

/** Refuses what is no form before anything is read. */
export function checkFormType(request: FastifyRequest): void {
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
}

/** The parts of one form. */
export class FormReader {
  /** The parser cannot go on. */
  broken = false;
  readonly #parts: AsyncIterator<Multipart>;
  readonly #signal: AbortSignal;
  readonly #request: IncomingMessage;
  #parser: Writable | undefined;
  #seen = 0;
  #finished = false;

  constructor(request: FastifyRequest, signal: AbortSignal) {
    this.#signal = signal;
    this.#request = request.raw;
    wantBody(request);
    try {
      this.#parts = request.parts()[Symbol.asyncIterator]();
    } catch (error) {
      throw new Problem('malformed-multipart', {
        detail: 'The Content-Type of the form cannot be read.',
        cause: error,
      });
    }
  }

  /** All fields, then the first file. @throws Problem that names a field that is unknown, repeated or not valid */
  async untilFile<Schema extends z.ZodType>(
    fileField: string,
    schema: Schema,
  ): Promise<{ fields: z.output<Schema>; file: MultipartFile | undefined }> {
    const values = new Map<string, unknown>();
    let file: MultipartFile | undefined;
    for (let part = await this.#next(); part; part = await this.#next()) {
      if (part.type === 'file') {
        file = this.#named(part, fileField);
        break;
      }
      const { fieldname, value, valueTruncated } = part;
      if (fieldname === fileField) throw notAFile(fileField);
      if (values.has(fieldname)) throw refusedField(fieldname, 'is there twice');
      if (valueTruncated) throw refusedField(fieldname, `has more than ${FIELD_SIZE} bytes`);
      // A part declared as JSON arrives parsed; an empty field is how browsers send one that was left out.
      if (value !== '') values.set(fieldname, typeof value === 'string' ? value : JSON.stringify(value));
    }
    const result = schema.safeParse(Object.fromEntries(values));
    if (!result.success) throw invalid(result.error.issues, 'form');
    return { fields: result.data, file };
  }

  /** The bytes of the only file. They end only when the form has ended well and holds nothing else. */
  async *onlyFile(file: MultipartFile): AsyncGenerator<Buffer> {
    yield* this.fileOf(file);
    const more = await this.#next();
    if (!more) return;
    const detail =
      more.type === 'file'
        ? 'Only one file is taken here; POST /v1/assets/batch takes ten.'
        : 'Fields must come before the file.';
    throw new Problem('unexpected-part', {
      detail,
      errors: [{ parameter: more.fieldname, detail: 'comes after the file' }],
    });
  }

  /** The bytes of one file among several. */
  async *fileOf(file: MultipartFile): AsyncGenerator<Buffer> {
    try {
      for await (const chunk of file.file.iterator({ destroyOnReturn: false })) {
        yield chunk as Buffer;
        free(chunk as Buffer);
      }
    } catch (error) {
      throw this.#fault(error);
    }
    if (file.file.truncated)
      throw new Problem('too-large', { detail: 'The file has more bytes than any upload policy allows.' });
  }

  /** Drops what is left of a file, so that the next part comes. */
  async skip({ file }: MultipartFile): Promise<void> {
    if (file.readableEnded) return;
    try {
      for await (const _chunk of file) this.#signal.throwIfAborted();
    } catch (error) {
      throw this.#fault(error);
    }
  }

  /** The next file of a batch. */
  async nextFile(fileField: string): Promise<MultipartFile | undefined> {
    const part = await this.#next();
    if (!part) return undefined;
    if (part.type === 'file') return this.#named(part, fileField);
    throw new Problem('unexpected-part', {
      detail: 'Fields must come before the files.',
      errors: [{ parameter: part.fieldname, detail: 'comes after a file' }],
    });
  }

  #named(part: MultipartFile, fileField: string): MultipartFile {
    if (part.fieldname !== fileField)
      throw refusedField(part.fieldname ?? '', `is not known here; name the part of a file ${fileField}`);
    if (part.filename === undefined) throw notAFile(fileField);
    return part;
  }

  async #next(): Promise<Multipart | undefined> {
    if (this.#finished) return undefined;
    let part: IteratorResult<Multipart, unknown>;
    try {
      const next = this.#parts.next();
      this.#parser ??= parserOf(this.#request);
      part = await next;
    } catch (error) {
      throw this.#fault(error);
    }
    const found = partsFound(this.#parser);
    if (!part.done) this.#seen += 1;
    if (found < this.#seen) throw new ParserChanged(`found ${found} parts where ${this.#seen} were read`);
    if (!part.done) return part.value;
    this.#finished = true;
    // The parser skips parts that it cannot read, such as one with a line break in its name.
    if (found > this.#seen) {
      throw new Problem('malformed-multipart', {
        detail: 'A part of the form cannot be read. Check its header fields.',
      });
    }
    return undefined;
  }

  /** What the parser says becomes what the client is told. */
  #fault(error: unknown): unknown {
    this.broken = true;
    if (error instanceof Problem) return error;
    this.#signal.throwIfAborted();
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code === 'FST_PARTS_LIMIT' || code === 'FST_FILES_LIMIT' || code === 'FST_FIELDS_LIMIT') {
      return new Problem('unexpected-part', { detail: 'The form has too many parts.', cause: error });
    }
    if (code === 'FST_PROTO_VIOLATION' || code === 'FST_INVALID_JSON_FIELD_ERROR') {
      return new Problem('unexpected-part', {
        detail: 'A field of the form has a name or a value that cannot be taken.',
        cause: error,
      });
    }
    return new Problem('malformed-multipart', {
      detail: 'The form cannot be read to its end. Check the boundary, the part headers and the length.',
      cause: error,
    });
  }
}

/** Where the request is piped to: @fastify/multipart does not show its parser. */
function parserOf(request: IncomingMessage): Writable | undefined {
  const state: unknown = Reflect.get(request, '_readableState');
  const pipes = state instanceof Object && 'pipes' in state && Array.isArray(state.pipes) ? state.pipes : [];
  return pipes.find((each) => each instanceof Writable);
}

/**
 * How many parts the parser, @fastify/busboy, has come across, with those that it skipped.
 *
 * @throws ParserChanged when it does not say so any more
 */
export function partsFound(parser: Writable | undefined): number {
  if (!parser) throw new ParserChanged('the request is not piped to a parser');
  const inner: unknown = Reflect.get(parser, '_parser');
  const count: unknown = inner instanceof Object ? Reflect.get(inner, '_nparts') : undefined;
  if (!Number.isSafeInteger(count)) throw new ParserChanged('the parser does not count its parts in _parser._nparts');
  return Number(count);
}

/** An internal error: forms cannot be read safely with the version of the parser that is installed. */
export class ParserChanged extends Error {
  constructor(reason: string) {
    super(
      `@fastify/multipart or @fastify/busboy works in another way than src/uploads/form-reader.ts expects: ${reason}`,
    );
  }
}

function notAFile(fileField: string): Problem {
  return refusedField(fileField, 'must be a file, with a file name');
}

function refusedField(name: string, fault: string): Problem {
  const shown = name.replace(/[^\x20-\x7e]/g, '?').slice(0, 100);
  return new Problem('unexpected-part', {
    detail: `The part ${shown} ${fault}.`,
    errors: [{ parameter: shown, detail: fault }],
  });
}
