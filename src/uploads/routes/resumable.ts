/**
 * Resumable uploads: tus 1.0 (https://tus.io/protocols/resumable-upload) with creation, creation-with-upload,
 * creation-defer-length, expiration, termination and checksum.
 */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { actorOf } from '../../access/caller.ts';
import { recordTag } from '../../assets/asset.ts';
import { wantBody } from '../../http/body-guard.ts';
import { asProblem } from '../../http/error-handler.ts';
import type { App } from '../../http/openapi.ts';
import { assetId, binary } from '../../http/schema-types.ts';
import { Problem } from '../../problems.ts';
import { underTicket } from '../../tickets/terms.ts';
import type { BodyChecksum, UploadProgress } from '../append.ts';
import type { ResumableUploads } from '../resumable-uploads.ts';
import { ENOUGH, type ShortRequests } from '../short-requests.ts';
import { bodyOf } from './raw.ts';
import { replacing, replacingProblems } from './replacing.ts';
import { readUploadMetadata } from './upload-metadata.ts';
import { audited, contentLength, requestSignal, type UploadRouteOptions, uploadProblems } from './upload-request.ts';

const VERSION = '1.0.0';
const EXTENSIONS = 'creation,creation-with-upload,creation-defer-length,expiration,termination,checksum';
const CHUNK_TYPE = 'application/offset+octet-stream';
const SHA_SIZES = { sha1: 20, sha256: 32 };
export const RESUMABLE_PATH = '/v1/resumable';
const tags = ['Uploads'];
const byId = z.object({ id: assetId });
const wholeNumber = { type: 'integer', format: 'int64', minimum: 0 } as const;
const chunk = { required: false, content: { [CHUNK_TYPE]: { schema: binary } } };

const protocolHeaders = z.object({
  'Tus-Resumable': z.string().meta({ description: `Version of the protocol: ${VERSION}`, example: VERSION }),
});
const chunkHeaders = protocolHeaders.extend({
  'Upload-Offset': z.string().meta({ description: 'Bytes that are there already', override: wholeNumber }),
  'Upload-Checksum': z.string().optional().meta({
    description: 'Name of the algorithm (sha1 or sha256) and digest of this body in base64',
    example: 'sha1 qvTGHdzF6KLavt4PO0gs2a6pQ00=',
  }),
  'Upload-Length': z.string().optional().meta({ description: 'Where it was left open', override: wholeNumber }),
});
const creationHeaders = chunkHeaders.omit({ 'Upload-Offset': true }).extend({
  'If-Match': z.string().optional().meta({ description: 'Entity tags of the record of the asset that it replaces' }),
  'Upload-Length': z.string().optional().meta({ description: 'Bytes of the whole file', override: wholeNumber }),
  'Upload-Defer-Length': z.string().optional().meta({ description: '1 where the length is left open', example: '1' }),
  'Upload-Metadata': z.string().meta({
    description: 'Pairs of a name and a value in base64, with commas between them; see the description',
    example: 'filename cGhvdG8uanBn,filetype aW1hZ2UvanBlZw==',
  }),
});
const progressHeaders = z.object({
  'Tus-Resumable': z.string(),
  'Upload-Offset': z.string().meta({ description: 'Bytes that are safe' }),
  'Upload-Length': z.string().optional(),
  'Upload-Expires': z.string().optional().meta({ description: 'Moves with every request' }),
  'Asset-Id': z.string().optional().meta({ description: 'There when the upload has become an asset' }),
});

const discovery = {
  schema: {
    operationId: 'getResumableSupport',
    tags,
    summary: 'Get what the service can do of tus',
    security: [],
  },
  config: {
    public: true,
    success: {
      status: 204,
      description: 'In the header fields',
      headers: z.object({
        'Tus-Resumable': z.string(),
        'Tus-Version': z.string(),
        'Tus-Extension': z.string().meta({ description: 'Names with commas between them' }),
        'Tus-Max-Size': z.string().meta({ description: 'Bytes', override: wholeNumber }),
        'Tus-Checksum-Algorithm': z.string(),
      }),
    },
  },
};

export interface ResumableRouteOptions extends UploadRouteOptions {
  resumable: ResumableUploads;
  shortRequests: ShortRequests;
}

/** Below RESUMABLE_PATH, which is the prefix of the scope: so the path may end in a slash. */
export function resumableUploadRoutes(app: App, options: ResumableRouteOptions): void {
  const { context, resumable, uploadLimit, shortRequests } = options;
  const { largest } = context.policies;
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', (_request, _payload, done) => done(null));

  app.addHook('onRequest', async (request) => {
    if (request.method === 'OPTIONS' || request.headers['tus-resumable'] === VERSION) return;
    throw new Problem('tus-version', {
      detail: `Send the header field Tus-Resumable: ${VERSION}.`,
      headers: { 'tus-version': VERSION },
    });
  });
  // On refusals too, which were decided on before the request came here.
  app.addHook('onSend', async (_request, reply) => {
    reply.header('tus-resumable', VERSION);
  });

  // Who asks may be no browser, and a browser that asks for permission is told the same.
  app.options(
    '/',
    { ...discovery, config: { ...discovery.config, cors: { strictPreflight: false, preflightContinue: true } } },
    async (_request, reply) =>
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
    '/',
    {
      schema: {
        operationId: 'createResumableUpload',
        tags,
        summary: 'Begin a resumable upload (tus)',
        description:
          '`Upload-Metadata` carries `filename`, and if you like `filetype`, `assetType`, `projectId`, `metadata` (JSON), `path`, `tags` (with commas between them) and `retention`, or `replaces`, the id of an asset whose bytes it replaces; `If-Match` is honoured. The body may hold the first bytes.',
      },
      config: {
        action: 'asset.upload',
        streamsBody: true,
        requestHeaders: creationHeaders,
        requestBody: chunk,
        success: {
          status: 201,
          description: 'Begun; go on at Location',
          headers: progressHeaders.extend({ Location: z.string() }),
        },
        problems: [...uploadProblems, ...replacingProblems, 'tus-version', 'offset-mismatch', 'checksum-mismatch'],
      },
    },
    async (request, reply) => {
      if (methodOf(request) !== 'POST') throw methodNotAllowed('OPTIONS, POST');
      let progress = await audited(request, context, () => create(request, reply));
      reply.header('location', `${RESUMABLE_PATH}/${progress.id}`);
      // creation-with-upload
      if (isChunk(request))
        progress = await append(request, requestSignal(reply, options.stopping), progress.id, 0).catch((error) => {
          // The upload is there: the client asks how far it is, and goes on.
          const problem = asProblem(error);
          if (problem instanceof Problem && problem.status >= 500) return progress;
          throw error;
        });
      return answer(reply.code(201), progress);
    },
  );

  app.head(
    '/:id',
    {
      schema: {
        operationId: 'getResumableUpload',
        tags,
        summary: 'Get how far a resumable upload is (tus)',
        description: 'Ends a request that still sends bytes of it, so that the offset stays true until the next one.',
        params: byId,
      },
      config: {
        action: 'asset.upload',
        rateLimit: false,
        requestHeaders: protocolHeaders,
        success: {
          status: 200,
          description: 'In the header fields',
          headers: progressHeaders.extend({ 'Upload-Metadata': z.string().optional() }),
        },
        problems: ['not-found', 'upload-expired', 'tus-version'],
      },
    },
    (request, reply) => find(request, reply, request.params.id),
  );

  app.patch(
    '/:id',
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
        action: 'asset.upload',
        streamsBody: true,
        // Its offset says whether the bytes came already.
        idempotent: false,
        rateLimit: false,
        requestHeaders: chunkHeaders,
        requestBody: { ...chunk, required: true },
        success: { status: 204, description: 'The bytes are safe', headers: progressHeaders },
        problems: [
          ...uploadProblems,
          ...replacingProblems,
          'not-found',
          'offset-mismatch',
          'checksum-mismatch',
          'upload-expired',
          'tus-version',
        ],
      },
    },
    (request, reply) => goOn(request, reply, request.params.id),
  );

  app.delete(
    '/:id',
    {
      schema: {
        operationId: 'cancelResumableUpload',
        tags,
        summary: 'End a resumable upload; nothing is kept (tus)',
        params: byId,
      },
      config: {
        action: 'asset.upload',
        requestHeaders: protocolHeaders,
        success: { status: 204, description: 'Ended' },
        problems: ['not-found', 'wrong-state', 'tus-version'],
      },
    },
    (request, reply) => terminate(request, reply, request.params.id),
  );

  // tus 1.0, X-HTTP-Method-Override: for clients that cannot send PATCH, such as those of Java.
  app.post(
    '/:id',
    { schema: { params: byId }, config: { action: 'asset.upload', streamsBody: true, rateLimit: false } },
    async (request, reply) => {
      const { id } = request.params;
      const method = methodOf(request);
      if (method === 'PATCH') return goOn(request, reply, id);
      if (method === 'HEAD') return find(request, reply, id);
      if (method !== 'DELETE') throw methodNotAllowed('HEAD, PATCH, DELETE');
      await shortRequests.admit(request.caller.id, requestSignal(reply, options.stopping));
      return terminate(request, reply, id);
    },
  );

  async function create(request: FastifyRequest, reply: FastifyReply): Promise<UploadProgress> {
    const { caller } = request;
    const size = lengthOf(request, 'upload-length');
    const isDeferred = request.headers['upload-defer-length'];
    if ((isDeferred !== undefined && isDeferred !== '1') || (size === undefined) === (isDeferred === undefined))
      throw wrongHeader('Upload-Length', 'must be a number of bytes, or Upload-Defer-Length must be 1');
    if (size !== undefined && size > largest)
      throw new Problem('too-large', { detail: `A file may have at most ${largest} bytes.` });
    const { replacedId, ...said } = readUploadMetadata(String(request.headers['upload-metadata'] ?? ''));
    const described = underTicket(caller, said);
    const replaced =
      replacedId === undefined ? undefined : await replacing(context, request, replacedId, said.fileName);
    const { headers } = await uploadLimit.count(caller);
    reply.headers(headers);
    const place = replaced?.place ?? (await options.context.places.of(caller, described.projectId));
    const file = { actor: actorOf(request), caller, ...described, ...replaced, place };
    return resumable.create({ ...file, ...(size !== undefined && { size }) });
  }

  async function find(request: FastifyRequest, reply: FastifyReply, id: string): Promise<never> {
    await shortRequests.admit(request.caller.id, requestSignal(reply, options.stopping));
    const progress = await resumable.find(request.caller, id);
    const { uploadMetadata } = progress;
    reply.code(200).header('cache-control', 'no-store');
    if (uploadMetadata) reply.header('upload-metadata', uploadMetadata);
    return answer(reply, progress);
  }

  async function goOn(request: FastifyRequest, reply: FastifyReply, id: string): Promise<never> {
    const signal = requestSignal(reply, options.stopping);
    const takeBack = await shortRequests.admit(request.caller.id, signal);
    if (!isChunk(request)) throw new Problem('unsupported-media-type', { detail: `Send the bytes as ${CHUNK_TYPE}.` });
    const offset = lengthOf(request, 'upload-offset');
    if (offset === undefined) throw wrongHeader('Upload-Offset', 'must be a number of bytes');
    const progress = await append(request, signal, id, offset).catch((error) => {
      if (error instanceof Problem && error.type === 'checksum-mismatch') shortRequests.penalize(request.caller.id);
      throw error;
    });
    if (progress.offset - offset >= ENOUGH || (progress.asset && progress.offset > offset)) takeBack();
    return answer(reply.code(204), progress);
  }

  async function terminate(request: FastifyRequest, reply: FastifyReply, id: string): Promise<never> {
    await resumable.terminate(actorOf(request), request.caller, id);
    return reply.code(204).send() as never;
  }

  function append(request: FastifyRequest, signal: AbortSignal, id: string, offset: number): Promise<UploadProgress> {
    const size = methodOf(request) === 'PATCH' ? lengthOf(request, 'upload-length') : undefined;
    const checksum = checksumOf(request);
    const length = lengthOfBody(request);
    return resumable.append(request.caller, id, {
      actor: actorOf(request),
      offset,
      ...(length !== undefined && { length }),
      ...(size !== undefined && { size }),
      ...(checksum && { checksum }),
      source: length === 0 ? none() : bodyOf(request.raw, () => wantBody(request)),
      signal,
    });
  }
}

/** As the client means it: tus 1.0, X-HTTP-Method-Override. */
function methodOf({ method, headers }: FastifyRequest): string {
  return method === 'POST'
    ? String(headers['x-http-method-override'] ?? method)
        .trim()
        .toUpperCase()
    : method;
}

function methodNotAllowed(allow: string): Problem {
  return new Problem('method-not-allowed', { detail: `This resource has ${allow}.`, headers: { allow } });
}

function isChunk({ headers }: FastifyRequest): boolean {
  return headers['content-type']?.split(';', 1)[0]?.trim().toLowerCase() === CHUNK_TYPE;
}

/** Absent where only the end of the body tells. A request without either field has no body (RFC 9112 section 6.3). */
function lengthOfBody(request: FastifyRequest): number | undefined {
  return request.headers['transfer-encoding'] === undefined ? (contentLength(request) ?? 0) : undefined;
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
