/**
 * Resumable uploads: tus 1.0 (https://tus.io/protocols/resumable-upload) with creation, creation-with-upload,
 * creation-defer-length, expiration, termination and checksum.
 */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { recordTag } from '../../assets/asset.ts';
import { actorOf } from '../../http/authentication.ts';
import { wantBody } from '../../http/body-guard.ts';
import { asProblem } from '../../http/error-handler.ts';
import type { App } from '../../http/openapi.ts';
import { assetId, assetType, binary, projectId } from '../../http/schema-types.ts';
import { Problem } from '../../problems.ts';
import type { BodyChecksum, UploadProgress } from '../append-request.ts';
import type { ResumableUploads } from '../resumable-uploads.ts';
import { bodyOf } from './raw.ts';
import {
  audited,
  contentLength,
  metadataText,
  requestSignal,
  type UploadRouteOptions,
  uploadProblems,
} from './upload-request.ts';

const VERSION = '1.0.0';
const EXTENSIONS = 'creation,creation-with-upload,creation-defer-length,expiration,termination,checksum';
const CHUNK_TYPE = 'application/offset+octet-stream';
const SHA_SIZES = { sha1: 20, sha256: 32 };
const path = '/v1/resumable';
const tags = ['Uploads'];
const byId = z.object({ id: assetId });
const chunk = { required: false, content: { [CHUNK_TYPE]: { schema: binary } } };

const progressHeaders = z.object({
  'Tus-Resumable': z.string(),
  'Upload-Offset': z.string().meta({ description: 'Bytes that are safe' }),
  'Upload-Length': z.string().optional(),
  'Upload-Expires': z.string().optional().meta({ description: 'Moves with every request' }),
  'Asset-Id': z.string().optional().meta({ description: 'There when the upload has become an asset' }),
});

export interface ResumableRouteOptions extends UploadRouteOptions {
  resumable: ResumableUploads;
}

export function resumableUploadRoutes(app: App, options: ResumableRouteOptions): void {
  const { context, resumable, uploadLimit } = options;
  const { largest } = context.policies;
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', (_request, _payload, done) => done(null));

  app.addHook('onRequest', async (request, reply) => {
    reply.header('tus-resumable', VERSION);
    if (request.method === 'OPTIONS' || request.headers['tus-resumable'] === VERSION) return;
    throw new Problem('tus-version', {
      detail: `Send the header field Tus-Resumable: ${VERSION}.`,
      headers: { 'tus-version': VERSION },
    });
  });

  // Not in the OpenAPI document, which has no place for what every client of tus knows.
  app.options(path, { config: { public: true } }, async (_request, reply) =>
    reply
      .code(204)
      .headers({
        'tus-version': VERSION,
        'tus-extension': EXTENSIONS,
        'tus-max-size': String(largest),
        'tus-checksum-algorithm': Object.keys(SHA_SIZES).join(','),
      })
      .send(),
  );

  app.post(
    path,
    {
      schema: {
        operationId: 'createResumableUpload',
        tags,
        summary: 'Begin a resumable upload (tus)',
        description:
          '`Upload-Metadata` carries `filename`, and if you like `filetype`, `assetType`, `projectId` and `metadata` (JSON). The body may hold the first bytes.',
      },
      config: {
        streamsBody: true,
        requestBody: chunk,
        success: {
          status: 201,
          description: 'Begun; go on at Location',
          headers: progressHeaders.extend({ Location: z.string() }),
        },
        problems: [...uploadProblems, 'tus-version', 'offset-mismatch', 'checksum-mismatch'],
      },
    },
    (request, reply) =>
      audited(request, context, async () => {
        const { caller } = request;
        const size = lengthOf(request, 'upload-length');
        const isDeferred = request.headers['upload-defer-length'];
        if ((isDeferred !== undefined && isDeferred !== '1') || (size === undefined) === (isDeferred === undefined))
          throw wrongHeader('Upload-Length', 'must be a number of bytes, or Upload-Defer-Length must be 1');
        if (size !== undefined && size > largest)
          throw new Problem('too-large', { detail: `A file may have at most ${largest} bytes.` });
        const { headers } = await uploadLimit.count(caller.id);
        const file = {
          actor: actorOf(request),
          ownerId: caller.id,
          ...describedBy(request),
          ...(size !== undefined && { size }),
        };
        let progress = await resumable.create(file);
        reply.headers({ ...headers, location: `${path}/${progress.id}` });
        // creation-with-upload
        if (request.headers['content-type'] === CHUNK_TYPE)
          progress = await append(request, reply, progress.id, 0).catch((error) => {
            // The upload is there: the client asks how far it is, and goes on.
            const problem = asProblem(error);
            if (problem instanceof Problem && problem.status >= 500) return progress;
            throw error;
          });
        return answer(reply.code(201), progress);
      }),
  );

  app.head(
    `${path}/:id`,
    {
      schema: {
        operationId: 'getResumableUpload',
        tags,
        summary: 'Get how far a resumable upload is (tus)',
        params: byId,
      },
      config: {
        rateLimit: false,
        success: { status: 200, description: 'In the header fields', headers: progressHeaders },
        problems: ['not-found', 'upload-expired', 'tus-version'],
      },
    },
    async (request, reply) => {
      const progress = await resumable.find(request.caller.id, request.params.id);
      return answer(reply.code(200).header('cache-control', 'no-store'), progress);
    },
  );

  app.patch(
    `${path}/:id`,
    {
      schema: {
        operationId: 'continueResumableUpload',
        tags,
        summary: 'Send bytes of a resumable upload (tus)',
        description:
          'The last one answers with `Asset-Id`. A newer request takes the upload over from an older one that still runs.',
        params: byId,
      },
      config: {
        streamsBody: true,
        // Its offset says whether the bytes came already.
        idempotent: false,
        rateLimit: false,
        requestBody: { ...chunk, required: true },
        success: { status: 204, description: 'The bytes are safe', headers: progressHeaders },
        problems: [
          ...uploadProblems,
          'not-found',
          'offset-mismatch',
          'checksum-mismatch',
          'upload-expired',
          'tus-version',
        ],
      },
    },
    (request, reply) =>
      audited(request, context, async () => {
        if (request.headers['content-type'] !== CHUNK_TYPE)
          throw new Problem('unsupported-media-type', { detail: `Send the bytes as ${CHUNK_TYPE}.` });
        const offset = lengthOf(request, 'upload-offset');
        if (offset === undefined) throw wrongHeader('Upload-Offset', 'must be a number of bytes');
        return answer(reply.code(204), await append(request, reply, request.params.id, offset));
      }),
  );

  app.delete(
    `${path}/:id`,
    {
      schema: {
        operationId: 'cancelResumableUpload',
        tags,
        summary: 'End a resumable upload; nothing is kept (tus)',
        params: byId,
      },
      config: {
        success: { status: 204, description: 'Ended' },
        problems: ['not-found', 'wrong-state', 'tus-version'],
      },
    },
    async (request, reply) => {
      await resumable.terminate(actorOf(request), request.caller.id, request.params.id);
      return reply.code(204).send() as never;
    },
  );

  function append(request: FastifyRequest, reply: FastifyReply, id: string, offset: number): Promise<UploadProgress> {
    const size = request.method === 'PATCH' ? lengthOf(request, 'upload-length') : undefined;
    const checksum = checksumOf(request);
    return resumable.append(request.caller.id, id, {
      actor: actorOf(request),
      offset,
      ...(size !== undefined && { size }),
      ...(checksum && { checksum }),
      source: contentLength(request) === 0 ? none() : bodyOf(request.raw, () => wantBody(request)),
      signal: requestSignal(reply, options.stopping),
    });
  }
}

function answer(reply: FastifyReply, progress: UploadProgress): never {
  const { offset, size, asset } = progress;
  reply.headers({
    'upload-offset': String(offset),
    ...(size === undefined ? { 'upload-defer-length': '1' } : { 'upload-length': String(size) }),
    ...(asset
      ? { 'asset-id': asset.id, 'content-location': `/v1/assets/${asset.id}`, etag: recordTag(asset) }
      : { 'upload-expires': progress.expiresAt.toUTCString() }),
  });
  return reply.send() as never;
}

async function* none(): AsyncGenerator<Buffer> {}

function wrongHeader(name: string, detail: string): Problem {
  return new Problem('invalid-parameter', { detail: `${name} ${detail}.`, errors: [{ parameter: name, detail }] });
}

function lengthOf(request: FastifyRequest, name: 'upload-length' | 'upload-offset'): number | undefined {
  const text = request.headers[name];
  if (text === undefined) return undefined;
  const number = typeof text === 'string' && /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isSafeInteger(number)) return number;
  throw wrongHeader(name === 'upload-length' ? 'Upload-Length' : 'Upload-Offset', 'must be a number of bytes');
}

/** `Upload-Checksum: sha1 BASE64`. */
function checksumOf({ headers }: FastifyRequest): BodyChecksum | undefined {
  const text = headers['upload-checksum'];
  if (text === undefined) return undefined;
  const [, algorithm, base64 = ''] = /^(sha1|sha256) ([A-Za-z0-9+/]+=*)$/.exec(String(text)) ?? [];
  const digest = Buffer.from(base64, 'base64');
  if ((algorithm === 'sha1' || algorithm === 'sha256') && digest.length === SHA_SIZES[algorithm])
    return { algorithm, digest };
  throw wrongHeader('Upload-Checksum', 'must be sha1 or sha256 and the digest in base64');
}

const fields = z.strictObject({
  filename: z.string({ error: 'must be there' }).max(2048),
  filetype: z.string().max(255).optional(),
  assetType: assetType.optional(),
  projectId: projectId.optional(),
  metadata: metadataText.optional(),
});

/** Pairs of a name and a value in base64. What clients add of their own (`relativePath`, `name`, `type`) is passed over. */
function describedBy({ headers }: FastifyRequest) {
  const given: Record<string, string> = {};
  for (const pair of String(headers['upload-metadata'] ?? '').split(',')) {
    const [name = '', value = ''] = pair.trim().split(' ');
    if (!Object.hasOwn(fields.shape, name)) continue;
    if (!/^[A-Za-z0-9+/]*=*$/.test(value)) throw wrongHeader('Upload-Metadata', `${name} must be base64`);
    given[name] = Buffer.from(value, 'base64').toString();
  }
  const result = fields.safeParse(given);
  if (!result.success) {
    const [issue] = result.error.issues;
    throw wrongHeader('Upload-Metadata', `${issue?.path.join('.') ?? ''} ${issue?.message ?? ''}`.trim());
  }
  const { filename, filetype, ...rest } = result.data;
  return {
    fileName: filename,
    ...(filetype !== undefined && filetype !== '' && { declaredType: filetype }),
    ...(rest.assetType !== undefined && { assetType: rest.assetType }),
    ...(rest.projectId !== undefined && { projectId: rest.projectId }),
    metadata: rest.metadata ?? {},
  };
}
