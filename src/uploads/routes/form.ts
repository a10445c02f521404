/**
 * Uploads by a form, RFC 7578: one file, or up to ten with an outcome each. @fastify/multipart is used as a stream only:
 * no part is collected, none is written to a temporary file.
 *
 * The parser is lenient where a storage must not be: it cuts files at its limit, drops second files, skips parts it
 * cannot read, and ends quietly on forms that are no forms. Every one of these is turned into a refusal here.
 */

import type { IncomingMessage } from 'node:http';
import { Writable } from 'node:stream';
import multipart, { type Multipart, type MultipartFile } from '@fastify/multipart';
import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import { type AssetDocument, assetDocument } from '../../assets/asset.ts';
import { actorOf } from '../../http/authentication.ts';
import { wantBody } from '../../http/body-guard.ts';
import { asProblem } from '../../http/error-handler.ts';
import { type App, invalid } from '../../http/openapi.ts';
import { binary } from '../../http/schema-types.ts';
import { idempotencyHeader, sendAnswer } from '../../idempotency/idempotency.ts';
import { ClientGone, Problem, type ProblemDocument, problemDocument } from '../../problems.ts';
import { free } from '../../storage/chunks.ts';
import { baseName } from '../../validation/file-name.ts';
import { locationHeader } from './raw.ts';
import {
  audited,
  contentLength,
  type Description,
  described,
  description,
  receiveOnce,
  requestSignal,
  type UploadRouteOptions,
  uploadProblems,
} from './upload-request.ts';

/** Fields and part headers around the files, at most. Bytes. */
const FORM_OVERHEAD = 512 * 1024;
const FIELD_SIZE = 64 * 1024;
export const BATCH_FILES = 10;
/** RFC 2046 section 5.1.1. */
const MAX_BOUNDARY = 70;
const CHUNK = 256 * 1024;

const uploadForm = description
  .extend({
    file: binary.meta({ override: { type: 'string', format: 'binary' }, description: 'The file, after all fields' }),
  })
  .meta({ id: 'UploadForm' });
const batchForm = description
  .omit({ sha256: true })
  .extend({ files: z.array(binary).min(1).max(BATCH_FILES).meta({ description: 'The files, after all fields' }) })
  .meta({ id: 'BatchForm' });
const batchDescription = description.omit({ sha256: true });

const batchOutcome = z
  .object({
    results: z
      .array(
        z.object({
          fileName: z.string().optional(),
          status: z
            .number()
            .int()
            .meta({ override: { type: 'integer' }, description: '201, or the status of the problem' }),
          asset: assetDocument.optional().meta({ description: 'There when the file was stored' }),
          problem: problemDocument.optional().meta({ description: 'There when it was not' }),
        }),
      )
      .meta({ description: 'One per file, in the order of the form' }),
  })
  .meta({ id: 'BatchOutcome' });
type Result = z.input<typeof batchOutcome>['results'][number];

export async function formUploadRoutes(app: App, options: UploadRouteOptions): Promise<void> {
  const { context, stopping } = options;
  const { largest } = context.policies;
  await app.register(multipart, {
    throwFileSizeLimit: false,
    preservePath: true,
    fileHwm: CHUNK,
    highWaterMark: CHUNK,
    // One byte over every policy: what is cut here was refused before.
    limits: {
      fileSize: largest + 1,
      files: BATCH_FILES + 1,
      fields: 8,
      parts: BATCH_FILES + 10,
      fieldSize: FIELD_SIZE,
      fieldNameSize: 100,
      headerPairs: 20,
    },
  });

  app.post(
    '/v1/assets',
    {
      schema: {
        operationId: 'uploadAsset',
        tags: ['Uploads'],
        summary: 'Upload one file by a form',
        description:
          'Fields first, then the file. The media type is told from the bytes; what the form declares must agree.',
        headers: idempotencyHeader,
        response: { 201: assetDocument },
      },
      config: {
        streamsBody: true,
        requestBody: { required: true, content: { 'multipart/form-data': { schema: uploadForm } } },
        success: { status: 201, description: 'The stored asset', headers: locationHeader },
        problems: ['malformed-multipart', 'unexpected-part', ...uploadProblems],
      },
      preHandler: async (request) => checkForm(request, largest + FORM_OVERHEAD),
    },
    (request, reply) =>
      audited(request, context, async () => {
        const signal = requestSignal(reply, stopping);
        const form = new Form(request, signal);
        const { fields, file } = await form.untilFile('file', description);
        if (!file)
          throw new Problem('unexpected-part', {
            detail: 'The form has no file. Send it in a part named file with a file name.',
            errors: [{ parameter: 'file', detail: 'is missing' }],
          });
        const answer = await receiveOnce(
          options,
          request,
          arrival(request, fields, file, form.onlyFile(file), signal, contentLength(request)),
        );
        return sendAnswer(reply, answer);
      }),
  );

  app.post(
    '/v1/assets/batch',
    {
      schema: {
        operationId: 'uploadAssets',
        tags: ['Uploads'],
        summary: `Upload 1 to ${BATCH_FILES} files by a form`,
        description:
          'Fields first, then the files; the fields hold for all of them. Each file is stored or refused by itself, and under an `Idempotency-Key` each has its own answer by its place.',
        headers: idempotencyHeader,
        response: { 200: batchOutcome },
      },
      config: {
        streamsBody: true,
        requestBody: { required: true, content: { 'multipart/form-data': { schema: batchForm } } },
        success: { status: 200, description: 'An outcome per file' },
        problems: ['malformed-multipart', 'unexpected-part', ...uploadProblems],
      },
      preHandler: async (request) => checkForm(request, BATCH_FILES * largest + FORM_OVERHEAD),
    },
    (request, reply) =>
      audited(request, context, async () => {
        const signal = requestSignal(reply, stopping);
        const form = new Form(request, signal);
        const results: Result[] = [];
        let { fields, file } = await form.untilFile('files', batchDescription);
        if (!file)
          throw new Problem('unexpected-part', {
            detail: 'The form has no file. Send each in a part named files with a file name.',
            errors: [{ parameter: 'files', detail: 'is missing' }],
          });
        while (file) {
          const name = baseName(file.filename ?? '');
          const current = file;
          try {
            if (results.length === BATCH_FILES)
              throw new Problem('unexpected-part', {
                detail: `A batch has at most ${BATCH_FILES} files. Send the rest in another.`,
              });
            const { status, body } = await receiveOnce(
              options,
              request,
              arrival(request, fields, current, form.fileOf(current), signal, contentLength(request)),
              results.length,
            );
            results.push({ fileName: name, status, ...outcomeOf(status, body) });
          } catch (error) {
            const problem = asProblem(error);
            if (problem instanceof ClientGone) throw problem;
            results.push({
              ...(name.isWellFormed() && { fileName: name }),
              status: problem.status,
              problem: problem.toDocument(request.id),
            });
            // The rest of the form cannot be reached, or is not wanted.
            if (form.broken || results.length > BATCH_FILES) break;
          }
          try {
            await form.skip(current);
            file = await form.nextFile('files');
          } catch (error) {
            // What was stored must be told, so a form that breaks off later is an outcome of its own.
            const problem = asProblem(error);
            if (problem instanceof ClientGone) throw problem;
            results.push({ status: problem.status, problem: problem.toDocument(request.id) });
            break;
          }
        }
        return { results };
      }),
  );
}

/** A file of a batch has the answer it would have had alone. */
function outcomeOf(status: number, body: unknown): Pick<Result, 'asset' | 'problem'> {
  return status < 400 ? { asset: body as AssetDocument } : { problem: body as ProblemDocument };
}

/** Refuses what is no form, or too large, before anything is read. */
async function checkForm(request: FastifyRequest, limit: number): Promise<void> {
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
  const length = contentLength(request);
  if (length !== undefined && length > limit)
    throw new Problem('too-large', { detail: `The form may have at most ${limit} bytes. Send a smaller file.` });
}

function arrival(
  request: FastifyRequest,
  fields: Description,
  file: MultipartFile,
  source: AsyncIterable<Buffer>,
  signal: AbortSignal,
  atMost: number | undefined,
) {
  // RFC 7578 gives a part without a Content-Type this one, so it says nothing.
  const declaredType = file.mimetype === 'text/plain' ? undefined : file.mimetype;
  return {
    ...described(fields),
    ...(declaredType !== undefined && { declaredType }),
    ...(atMost !== undefined && { atMost }),
    actor: actorOf(request),
    ownerId: request.caller.id,
    fileName: baseName(file.filename),
    source,
    signal,
  };
}

/** Reads a form part by part, strictly. */
class Form {
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
    try {
      const next = this.#parts.next();
      this.#parser ??= parserOf(this.#request);
      const { value, done } = await next;
      if (!done) {
        this.#seen += 1;
        return value;
      }
      this.#finished = true;
    } catch (error) {
      throw this.#fault(error);
    }
    // The parser passes over parts it cannot read, such as one with a line break in its name.
    if (partsIn(this.#parser) > this.#seen) {
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

/** How many parts @fastify/busboy has come across, those included that it passed over. */
function partsIn(parser: Writable | undefined): number {
  const inner: unknown = parser && Reflect.get(parser, '_parser');
  const count: unknown = inner instanceof Object ? Reflect.get(inner, '_nparts') : undefined;
  return typeof count === 'number' ? count : 0;
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
