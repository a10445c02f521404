/** Uploads by a form, RFC 7578: one file, or up to ten with an outcome each. */
import multipart, { type MultipartFile } from '@fastify/multipart';
import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import { type AssetDocument, assetDocument } from '../../assets/asset.ts';
import { actorOf } from '../../http/authentication.ts';
import { asProblem } from '../../http/error-handler.ts';
import type { App } from '../../http/openapi.ts';
import { binary } from '../../http/schema-types.ts';
import { sendAnswer } from '../../idempotency/requests.ts';
import { ClientGone, Problem, type ProblemDocument, problemDocument } from '../../problems.ts';
import { baseName } from '../../validation/file-name.ts';
import { checkFormType, FormReader, parserOptions } from '../form-reader.ts';
import { locationHeader } from './raw.ts';
import {
  audited,
  contentLength,
  type Description,
  described,
  description,
  receiveOnce,
  requestSignal,
  reserveKey,
  type UploadRouteOptions,
  uploadProblems,
} from './upload-request.ts';

/** Fields and part headers around the files, at most. Bytes. */
const FORM_OVERHEAD = 512 * 1024;
export const BATCH_FILES = 10;

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
  await app.register(multipart, parserOptions(largest, BATCH_FILES));

  app.post(
    '/v1/assets',
    {
      schema: {
        operationId: 'uploadAsset',
        tags: ['Uploads'],
        summary: 'Upload one file by a form',
        description:
          'Fields first, then the file. The media type is told from the bytes; what the form declares must agree.',
        response: { 201: assetDocument },
      },
      config: {
        streamsBody: true,
        idempotent: 'content',
        requestBody: { required: true, content: { 'multipart/form-data': { schema: uploadForm } } },
        success: { status: 201, description: 'The stored asset', headers: locationHeader },
        problems: ['malformed-multipart', 'unexpected-part', ...uploadProblems],
      },
      preHandler: async (request) => checkForm(request, largest + FORM_OVERHEAD),
    },
    (request, reply) =>
      audited(request, context, async () => {
        const signal = requestSignal(reply, stopping);
        const form = new FormReader(request, signal);
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
        response: { 200: batchOutcome },
      },
      config: {
        streamsBody: true,
        idempotent: 'content',
        requestBody: { required: true, content: { 'multipart/form-data': { schema: batchForm } } },
        success: { status: 200, description: 'An outcome per file' },
        problems: ['malformed-multipart', 'unexpected-part', ...uploadProblems],
      },
      preHandler: async (request) => checkForm(request, BATCH_FILES * largest + FORM_OVERHEAD),
    },
    (request, reply) =>
      audited(request, context, async () => {
        const signal = requestSignal(reply, stopping);
        const form = new FormReader(request, signal);
        const results: Result[] = [];
        await reserveKey(options, request);
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
  checkFormType(request);
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
