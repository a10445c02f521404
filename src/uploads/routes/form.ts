/** Uploads by a form, RFC 7578: one file, or up to ten with an outcome each. */
import multipart from '@fastify/multipart';
import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import { actorOf } from '../../access/caller.ts';
import { type AssetDocument, assetDocument } from '../../assets/asset.ts';
import { wantBody } from '../../http/body-guard.ts';
import { asProblem } from '../../http/error-handler.ts';
import type { App } from '../../http/openapi.ts';
import { binary } from '../../http/schema-types.ts';
import { sendAnswer } from '../../idempotency/requests.ts';
import { ClientGone, Problem, type ProblemDocument, type ProblemType, problemDocument } from '../../problems.ts';
import { baseName } from '../../validation/file-name.ts';
import { policyNamed } from '../../validation/file-validation.ts';
import { meteredBody, type UploadContext } from '../context.ts';
import { boundaryOf, type FormFile, FormReader, refuseLargeForm } from '../form-reader.ts';
import type { FileDescription } from '../new-upload.ts';
import { bodyOf, locationHeader } from './raw.ts';
import {
  acceptedResponse,
  inParameter,
  refuseDescription,
  replaces,
  replacing,
  replacingHeaders,
  replacingProblems,
} from './replacing.ts';
import {
  audited,
  contentLength,
  type Description,
  described,
  description,
  type HeldAnswer,
  holdOnce,
  type PlacelessArrival,
  receiveOnce,
  requestSignal,
  reserveKey,
  type UploadRouteOptions,
  uploadProblems,
} from './upload-request.ts';

/** Fields and part headers around the files, at most. Bytes. */
const FORM_OVERHEAD = 512 * 1024;
export const BATCH_FILES = 10;

const singleDescription = description.extend({ replaces });
const uploadForm = singleDescription
  .extend({
    file: binary.meta({ override: { type: 'string', format: 'binary' }, description: 'The file' }),
  })
  .meta({ id: 'UploadForm' });
const batchForm = description
  .omit({ sha256: true })
  .extend({ files: z.array(binary).min(1).max(BATCH_FILES).meta({ description: 'The files' }) })
  .meta({ id: 'BatchForm' });
const batchDescription = description.omit({ sha256: true });

const batchOutcome = z
  .object({
    results: z
      .array(
        z
          .object({
            fileName: z.string().optional(),
            status: z
              .number()
              .int()
              .meta({ override: { type: 'integer' }, description: '201, or the status of the problem' }),
            asset: assetDocument.optional().meta({ description: 'There when the file was stored' }),
            problem: problemDocument.optional().meta({ description: 'There when it was not' }),
          })
          .meta({ id: 'BatchResult' }),
      )
      .meta({ description: 'One per file, in the order of the form' }),
  })
  .meta({ id: 'BatchOutcome' });
type Result = z.input<typeof batchOutcome>['results'][number];

export async function formUploadRoutes(app: App, options: UploadRouteOptions): Promise<void> {
  const { context, stopping } = options;
  const { largest } = context.policies;
  const formLimit = largest + FORM_OVERHEAD;
  const batchLimit = BATCH_FILES * largest + FORM_OVERHEAD;
  // Forms are read by the handlers, and what is none is refused by them.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', (_request, _payload, done) => done(null));
  await app.register(multipart);

  app.post(
    '/v1/assets',
    {
      schema: {
        operationId: 'uploadAsset',
        tags: ['Uploads'],
        summary: 'Upload one file by a form',
        description:
          'Fields and file in any order; fields before the file have it refused sooner. A form is taken as a whole: when a part is unknown, there twice or not valid, nothing is stored. The media type is told from the bytes; what the form declares must agree.',
        headers: replacingHeaders,
        response: { 201: assetDocument, 202: assetDocument },
      },
      config: {
        action: 'asset.upload',
        streamsBody: true,
        idempotent: 'content',
        requestBody: { required: true, content: { 'multipart/form-data': { schema: uploadForm } } },
        success: {
          status: 201,
          description: 'The stored asset; or, with `replaces`, the asset with its new bytes',
          headers: locationHeader,
          others: { '202': { ...acceptedResponse, headers: locationHeader } },
        },
        problems: ['malformed-multipart', 'unexpected-part', ...uploadProblems, ...replacingProblems],
      },
      preHandler: async (request) => checkForm(request, formLimit),
    },
    (request, reply) =>
      audited(request, context, async () => {
        const signal = requestSignal(reply, stopping);
        const form = new FormReader(request, bodyOfForm(context, request, signal), boundaryOf(request), {
          fileField: 'file',
          maxFiles: 1,
          tooManyFiles: 'Only one file is taken here; POST /v1/assets/batch takes ten.',
          schema: singleDescription,
          maxBytes: formLimit,
        });
        try {
          const file = await form.nextFile();
          const fields = form.fields();
          if (!file) throw withoutFile();
          const replaced = await replacedBy(context, request, fields, file);
          const arriving = { ...arrival(request, fields, file, form.onlyBytes(), signal), ...replaced };
          const answer = await receiveOnce(options, request, {
            ...arriving,
            described: () => {
              const last = form.fields();
              if (last.replaces !== fields.replaces) throw replacesTooLate();
              return replaced ? { ...described(last), ...replacedDescription(last, replaced) } : described(last);
            },
          });
          return sendAnswer(reply, answer);
        } finally {
          form.close();
        }
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
          'Fields and files in any order; the fields hold for all files. There is an outcome for each file: it is stored or refused by itself, when the form has ended. A form that cannot be read to its end, or has a part that is unknown, there twice or not valid, is refused as a whole, and nothing is stored. Under an `Idempotency-Key` each file has its own answer by its place.',
        response: { 200: batchOutcome },
      },
      config: {
        action: 'asset.upload',
        streamsBody: true,
        idempotent: 'content',
        requestBody: { required: true, content: { 'multipart/form-data': { schema: batchForm } } },
        success: { status: 200, description: 'An outcome per file' },
        problems: ['malformed-multipart', 'unexpected-part', ...uploadProblems],
      },
      preHandler: async (request) => checkForm(request, batchLimit),
    },
    (request, reply) =>
      audited(request, context, async () => {
        const signal = requestSignal(reply, stopping);
        const form = new FormReader(request, bodyOfForm(context, request, signal), boundaryOf(request), {
          fileField: 'files',
          maxFiles: BATCH_FILES,
          tooManyFiles: `A batch has at most ${BATCH_FILES} files. Send the rest in another.`,
          schema: batchDescription,
          maxBytes: batchLimit,
        });
        const outcomes: FileOutcome[] = [];
        try {
          await reserveKey(options, request);
          for (let file = await form.nextFile(); file; file = await form.nextFile()) {
            const arriving = arrival(request, batchFields(context, form), file, form.bytes(), signal);
            outcomes.push(await outcomeOfBytes(options, request, arriving, outcomes.length));
            signal.throwIfAborted();
          }
          if (outcomes.length === 0) throw withoutFiles();
          batchFields(context, form);
        } catch (error) {
          const problem = asProblem(error);
          for (const { held } of outcomes) await held?.end(problem);
          throw problem;
        } finally {
          form.close();
        }
        return { results: await resultsOf(request, outcomes, described(form.fields())) };
      }),
  );
}

/** What the fields say so far, of all files. @throws Problem */
function batchFields(
  { policies }: UploadContext,
  form: FormReader<typeof batchDescription>,
): z.output<typeof batchDescription> {
  const fields = form.fields();
  if (fields.assetType !== undefined) policyNamed(policies, fields.assetType);
  return fields;
}

/** What the file replaces, where its form says so. @throws Problem */
async function replacedBy(
  context: UploadContext,
  request: FastifyRequest,
  fields: z.output<typeof singleDescription>,
  { fileName }: FormFile,
) {
  if (fields.replaces === undefined) return undefined;
  refuseDescription(fields, inParameter);
  const { place: _place, ...replaced } = await replacing(context, request, fields.replaces, baseName(fileName));
  return replaced;
}

/** Of all the form said in the end, only the digest is of the file. @throws Problem */
function replacedDescription(
  fields: z.output<typeof singleDescription>,
  { replaces: _replaces, ...description }: NonNullable<Awaited<ReturnType<typeof replacedBy>>>,
) {
  refuseDescription(fields, inParameter);
  return description;
}

function replacesTooLate(): Problem {
  const detail = 'must come before the file';
  return new Problem('invalid-parameter', {
    detail: `replaces ${detail}.`,
    errors: [{ parameter: 'replaces', detail }],
  });
}

function withoutFile(): Problem {
  return new Problem('unexpected-part', {
    detail: 'The form has no file. Send it in a part named file with a file name.',
    errors: [{ parameter: 'file', detail: 'is missing' }],
  });
}

function withoutFiles(): Problem {
  return new Problem('unexpected-part', {
    detail: 'The form has no file. Send each in a part named files with a file name.',
    errors: [{ parameter: 'files', detail: 'is missing' }],
  });
}

/** What became of the bytes of a file of a batch: they are held until the form has ended, or refused. */
interface FileOutcome {
  name: string;
  held?: HeldAnswer;
  problem?: Problem;
}

/** @throws what is about the form, and not about this file of it */
async function outcomeOfBytes(
  options: UploadRouteOptions,
  request: FastifyRequest,
  arriving: PlacelessArrival,
  index: number,
): Promise<FileOutcome> {
  const name = arriving.fileName;
  try {
    return { name, held: await holdOnce(options, request, arriving, index) };
  } catch (error) {
    const problem = asProblem(error);
    if (problem instanceof ClientGone || ofForm.has(problem.type)) throw problem;
    return { name, problem };
  }
}

/** Told while the bytes of a file are read, and nothing comes after them. */
const ofForm = new Set<ProblemType>(['malformed-multipart', 'unexpected-part', 'incomplete-body', 'request-timeout']);

/** All of the form is known: each file that is held becomes an asset, or is refused after all. */
async function resultsOf(
  request: FastifyRequest,
  outcomes: FileOutcome[],
  description: FileDescription,
): Promise<Result[]> {
  const results: Result[] = [];
  for (const outcome of outcomes) results.push(await resultOf(request, outcome, description));
  return results;
}

async function resultOf(
  request: FastifyRequest,
  { name, held, problem }: FileOutcome,
  description: FileDescription,
): Promise<Result> {
  const fileName = name.isWellFormed() ? { fileName: name } : {};
  try {
    if (!held) throw problem;
    const { status, body } = await held.answer(description);
    return { ...fileName, status, ...outcomeOf(status, body) };
  } catch (error) {
    const refusal = asProblem(error);
    // Nobody reads it then.
    if (refusal instanceof ClientGone) return { ...fileName, status: 0 };
    return { ...fileName, status: refusal.status, problem: refusal.toDocument(request.id) };
  }
}

/** A file of a batch has the answer it would have had alone. */
function outcomeOf(status: number, body: unknown): Pick<Result, 'asset' | 'problem'> {
  return status < 400 ? { asset: body as AssetDocument } : { problem: body as ProblemDocument };
}

/** Refuses what is no form, or too large, before anything is read. */
async function checkForm(request: FastifyRequest, limit: number): Promise<void> {
  boundaryOf(request);
  refuseLargeForm(contentLength(request), limit);
}

/** The whole body is watched: a client may dawdle between the files as well. */
function bodyOfForm(context: UploadContext, request: FastifyRequest, signal: AbortSignal): AsyncIterable<Buffer> {
  return meteredBody(
    context,
    // Its chunks are freed by the reader of the form, because the parser still has one when it asks for the next.
    bodyOf(
      request.raw,
      () => wantBody(request),
      () => {},
    ),
    signal,
  );
}

function arrival(
  request: FastifyRequest,
  fields: Description,
  { fileName, contentType }: FormFile,
  source: AsyncIterable<Buffer>,
  signal: AbortSignal,
): PlacelessArrival {
  const atMost = contentLength(request);
  // RFC 7578 gives a part without a Content-Type this one, so it says nothing.
  const declaredType = contentType === 'text/plain' ? undefined : contentType;
  return {
    ...described(fields),
    ...(declaredType !== undefined && { declaredType }),
    ...(atMost !== undefined && { atMost }),
    actor: actorOf(request),
    caller: request.caller,
    fileName: baseName(fileName),
    source,
    signal,
  };
}
