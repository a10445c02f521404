/**
 * The resumable door: tus 1.0 (https://tus.io/protocols/resumable-upload) with creation, creation-with-upload,
 * creation-defer-length, expiration, termination and checksum.
 */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { recordTag } from '../../assets/asset.ts';
import { actorOf } from '../../http/authentication.ts';
import { wantBody } from '../../http/body-guard.ts';
import type { App } from '../../http/openapi.ts';
import { assetId, assetType, binary, metadata, projectId } from '../../http/schema-types.ts';
import { Problem, type ProblemType } from '../../problems.ts';
import type { BodyChecksum, ResumableIntake, Standing } from '../resumable-intake.ts';
import { bodyOf } from './raw.ts';
import { audited, contentLength, type DoorOptions, intakeProblems, requestSignal } from './upload-request.ts';

const VERSION = '1.0.0';
const EXTENSIONS = 'creation,creation-with-upload,creation-defer-length,expiration,termination,checksum';
const CHUNK_TYPE = 'application/offset+octet-stream';
const SHA_SIZES = { sha1: 20, sha256: 32 };
const path = '/v1/resumable';
const tags = ['Uploads'];
const byId = z.object({ id: assetId });
const chunk = { required: false, content: { [CHUNK_TYPE]: { schema: binary } } };

const standingHeaders = z.object({
  'Tus-Resumable': z.string(),
  'Upload-Offset': z.string().meta({ description: 'Bytes that are safe' }),
  'Upload-Length': z.string().optional(),
  'Upload-Expires': z.string().optional().meta({ description: 'Puts itself off with every request' }),
  'Asset-Id': z.string().optional().meta({ description: 'There when the upload has become an asset' }),
});

export interface ResumableDoorOptions extends DoorOptions {
  resumable: ResumableIntake;
  /** Bytes of the largest file of any policy. */
  largest: number;
}

export function resumableDoor(app: App, options: ResumableDoorOptions): void {
  const { resumable, intake, uploadLimit, largest } = options;
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
          headers: standingHeaders.extend({ Location: z.string() }),
        },
        problems: [...intakeProblems.filter(isNoKeyProblem), 'tus-version', 'offset-mismatch', 'checksum-mismatch'],
      },
    },
    (request, reply) =>
      audited(request, intake, async () => {
        const { caller } = request;
        const size = lengthOf(request, 'upload-length');
        const isDeferred = request.headers['upload-defer-length'];
        if ((isDeferred !== undefined && isDeferred !== '1') || (size === undefined) === (isDeferred === undefined))
          throw wrongHeader('Upload-Length', 'must be a number of bytes, or Upload-Defer-Length must be 1');
        if (size !== undefined && size > largest)
          throw new Problem('too-large', { detail: `A file may have at most ${largest} bytes.` });
        const { headers } = await uploadLimit.count(caller.id);
        const arrival = {
          actor: actorOf(request),
          ownerId: caller.id,
          ...describedBy(request),
          ...(size !== undefined && { size }),
        };
        let standing = await resumable.create(arrival);
        reply.headers({ ...headers, location: `${path}/${standing.id}` });
        // creation-with-upload
        if (request.headers['content-type'] === CHUNK_TYPE)
          standing = await proceed(request, reply, standing.id, 0).catch((error) => {
            // The upload is there: the client asks how far it is, and goes on.
            if (error instanceof Problem && error.status >= 500) return standing;
            throw error;
          });
        return answer(reply.code(201), standing);
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
        success: { status: 200, description: 'In the header fields', headers: standingHeaders },
        problems: ['not-found', 'upload-expired', 'tus-version'],
      },
    },
    async (request, reply) => {
      const standing = await resumable.look(request.caller.id, request.params.id);
      return answer(reply.code(200).header('cache-control', 'no-store'), standing);
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
        rateLimit: false,
        requestBody: { ...chunk, required: true },
        success: { status: 204, description: 'The bytes are safe', headers: standingHeaders },
        problems: [
          ...intakeProblems.filter(isNoKeyProblem),
          'not-found',
          'offset-mismatch',
          'checksum-mismatch',
          'upload-expired',
          'tus-version',
        ],
      },
    },
    (request, reply) =>
      audited(request, intake, async () => {
        if (request.headers['content-type'] !== CHUNK_TYPE)
          throw new Problem('unsupported-media-type', { detail: `Send the bytes as ${CHUNK_TYPE}.` });
        const position = lengthOf(request, 'upload-offset');
        if (position === undefined) throw wrongHeader('Upload-Offset', 'must be a number of bytes');
        return answer(reply.code(204), await proceed(request, reply, request.params.id, position));
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

  function proceed(request: FastifyRequest, reply: FastifyReply, id: string, position: number): Promise<Standing> {
    const size = request.method === 'PATCH' ? lengthOf(request, 'upload-length') : undefined;
    const checksum = checksumOf(request);
    return resumable.proceed(request.caller.id, id, {
      actor: actorOf(request),
      position,
      ...(size !== undefined && { size }),
      ...(checksum && { checksum }),
      source: contentLength(request) === 0 ? none() : bodyOf(request.raw, () => wantBody(request)),
      signal: requestSignal(reply, options.stopping),
    });
  }
}

function answer(reply: FastifyReply, standing: Standing): never {
  const { position, size, asset } = standing;
  reply.headers({
    'upload-offset': String(position),
    ...(size === undefined ? { 'upload-defer-length': '1' } : { 'upload-length': String(size) }),
    ...(asset
      ? { 'asset-id': asset.id, 'content-location': `/v1/assets/${asset.id}`, etag: recordTag(asset) }
      : { 'upload-expires': standing.expiresAt.toUTCString() }),
  });
  return reply.send() as never;
}

async function* none(): AsyncGenerator<Buffer> {}

function isNoKeyProblem(type: ProblemType): boolean {
  return type !== 'request-in-progress' && type !== 'idempotency-key-reused';
}

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
  metadata: z
    .string()
    .transform((text, context) => {
      try {
        return JSON.parse(text) as unknown;
      } catch {
        context.addIssue({ code: 'custom', message: 'must be JSON, such as {"album":"summer"}' });
        return z.NEVER;
      }
    })
    .pipe(metadata)
    .optional(),
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
