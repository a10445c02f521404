/**
 * The direct door: the client sends the bytes straight to the object store, part by part, by links that are signed here.
 * With the disk store the links lead back to this service.
 */
import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import { type Asset, assetDocument } from '../../assets/asset.ts';
import type { Executor } from '../../database/client.ts';
import { actorOf } from '../../http/authentication.ts';
import { wantBody } from '../../http/body-guard.ts';
import type { App } from '../../http/openapi.ts';
import type { ToPublicUrl } from '../../http/public-url.ts';
import {
  assetId,
  assetType,
  binary,
  binaryDigest,
  bytesCount,
  metadata,
  projectId,
  timestamp,
} from '../../http/schema-types.ts';
import { idempotencyHeader, once, sendAnswer } from '../../idempotency/idempotency.ts';
import { Problem, RETRY_SOON, unavailable } from '../../problems.ts';
import type { DiskObjectStore } from '../../storage/disk/disk-object-store.ts';
import { NoSuchUpload, ObjectStoreUnavailable } from '../../storage/object-store.ts';
import { NoBufferFree, type PartBuffers } from '../../storage/part-buffers.ts';
import type { DirectIntake, Offer, PartLink } from '../direct-intake.ts';
import { incompleteBody } from '../intake.ts';
import { metered } from '../metered-source.ts';
import { bodyOf, locationHeader } from './raw.ts';
import { audited, type DoorOptions, requestSignal, uploadAnswer } from './upload-request.ts';

const MAX_SIGNED = 1000;
const tags = ['Uploads'];
const byId = z.object({ id: assetId });

const partLink = z
  .object({
    partNumber: z
      .number()
      .int()
      .meta({ override: { type: 'integer', minimum: 1, maximum: 10_000 } }),
    url: z
      .string()
      .meta({ override: { type: 'string', format: 'uri' }, description: 'Where to PUT the bytes of the part' }),
    headers: z
      .record(z.string(), z.string())
      .meta({ description: 'Header fields to send; Content-Length is signed too, and sent by every client by itself' }),
    size: bytesCount.meta({ description: 'Bytes of the part, exactly' }),
  })
  .meta({ id: 'PartLink' });

const offerDocument = z
  .object({
    uploadId: z
      .string()
      .meta({ override: { type: 'string', format: 'uuid' }, description: 'Also the id of the asset to be' }),
    method: z.literal('PUT').meta({ override: { type: 'string', enum: ['PUT'] } }),
    partSize: bytesCount.meta({ description: 'Bytes of every part but the last' }),
    partCount: z
      .number()
      .int()
      .meta({ override: { type: 'integer', minimum: 1, maximum: 10_000 } }),
    parts: z.array(partLink).meta({ description: 'The first parts; sign the rest when you come to them' }),
    expiresAt: timestamp.meta({ description: 'When links and upload expire; signing again puts it off' }),
  })
  .meta({ id: 'UploadOffer' });

const uploadDocument = z
  .object({
    uploadId: z.string().meta({ override: { type: 'string', format: 'uuid' } }),
    state: z.enum(['uploading', 'complete']).meta({ description: '`complete`: it is the asset of the same id' }),
    name: z.string(),
    size: bytesCount,
    partSize: bytesCount.optional(),
    partCount: z
      .number()
      .int()
      .optional()
      .meta({ override: { type: 'integer' } }),
    parts: z
      .array(
        z.object({
          partNumber: z
            .number()
            .int()
            .meta({ override: { type: 'integer' } }),
          size: bytesCount,
        }),
      )
      .meta({ description: 'What has arrived' }),
    expiresAt: timestamp.optional(),
  })
  .meta({ id: 'Upload' });

const signedDocument = z.object({ parts: z.array(partLink), expiresAt: timestamp }).meta({ id: 'SignedParts' });

export interface DirectDoorOptions extends DoorOptions {
  direct: DirectIntake;
  database: Executor;
  toPublicUrl: ToPublicUrl;
}

export function directDoor(app: App, options: DirectDoorOptions): void {
  const { direct, intake, uploadLimit, idempotency, toPublicUrl } = options;
  const linksFor = (request: FastifyRequest, links: PartLink[]) =>
    links.map(({ partNumber, url, size }) => ({ partNumber, url: toPublicUrl(request, url), headers: {}, size }));

  app.post(
    '/v1/uploads',
    {
      schema: {
        operationId: 'createUpload',
        tags,
        summary: 'Begin an upload straight to the object store',
        description:
          'Reserves the quota and answers with links. PUT each part to its link, sign further parts when you need them, then complete the upload. Only then is there an asset.',
        headers: idempotencyHeader,
        body: z
          .strictObject({
            fileName: z.string().max(2048).meta({ example: 'film.mp4' }),
            size: bytesCount.meta({ example: 104857600 }),
            contentType: z.string().max(255).meta({ description: 'Media type of the file', example: 'video/mp4' }),
            assetType: assetType.optional(),
            projectId: projectId.optional(),
            sha256: binaryDigest.optional(),
            metadata: metadata.optional(),
          })
          .meta({ id: 'UploadRequest' }),
        response: { 201: offerDocument },
      },
      config: {
        success: {
          status: 201,
          description: 'The links of the first parts',
          headers: locationHeader.omit({ ETag: true }),
        },
        problems: [
          'invalid-name',
          'malformed-request',
          'unsupported-media-type',
          'quota-exceeded',
          'too-large',
          'extension-mismatch',
          'type-not-allowed',
          'empty-file',
          'too-many-uploads',
          'request-in-progress',
          'idempotency-key-reused',
        ],
      },
    },
    (request, reply) =>
      audited(request, intake, async () => {
        const { caller, body } = request;
        const { fileName, size, contentType, assetType, projectId, sha256, metadata = {} } = body;
        const operation = ['createUpload', body];
        const answer = await once(idempotency, request, operation, async (commit) => {
          const { headers } = await uploadLimit.count(caller.id);
          const answerOf = (offer: Offer) => ({
            status: 201,
            headers: { ...headers, location: `/v1/uploads/${offer.upload.id}` },
            body: { ...toOffer(offer), parts: linksFor(request, offer.links) },
          });
          const arrival = {
            actor: actorOf(request),
            ownerId: caller.id,
            fileName,
            size,
            contentType,
            metadata,
            ...(assetType !== undefined && { assetType }),
            ...(projectId !== undefined && { projectId }),
            ...(sha256 !== undefined && { sha256: Buffer.from(sha256, 'hex') }),
          };
          return answerOf(await direct.create(arrival, (transaction, offer) => commit(transaction, answerOf(offer))));
        });
        return sendAnswer(reply, answer);
      }),
  );

  app.get(
    '/v1/uploads/:id',
    {
      schema: {
        operationId: 'getUpload',
        tags,
        summary: 'Get an upload and the parts that have arrived',
        params: byId,
        response: { 200: uploadDocument },
      },
      config: { success: { status: 200, description: 'The upload' }, problems: ['not-found'] },
    },
    async (request) => {
      const found = await direct.look(request.caller.id, request.params.id);
      if ('asset' in found) {
        const { id, name, size } = found.asset;
        return { uploadId: id, state: 'complete' as const, name, size, parts: [] };
      }
      const { id, fileName, size, partSize, expiresAt } = found.upload;
      return {
        uploadId: id,
        state: 'uploading' as const,
        name: fileName,
        size,
        partSize,
        partCount: Math.ceil(size / partSize),
        parts: found.parts.map(({ partNumber, size: bytes }) => ({ partNumber, size: bytes })),
        expiresAt: expiresAt.toISOString(),
      };
    },
  );

  app.post(
    '/v1/uploads/:id/parts',
    {
      schema: {
        operationId: 'signUploadParts',
        tags,
        summary: 'Get links for named parts',
        params: byId,
        body: z
          .strictObject({
            partNumbers: z
              .array(
                z
                  .number()
                  .int()
                  .min(1)
                  .max(10_000)
                  .meta({ override: { type: 'integer', minimum: 1, maximum: 10_000 } }),
              )
              .min(1)
              .max(MAX_SIGNED),
          })
          .meta({ id: 'PartsRequest' }),
        response: { 200: signedDocument },
      },
      config: {
        success: { status: 200, description: 'The links' },
        problems: [
          'not-found',
          'malformed-request',
          'too-large',
          'unsupported-media-type',
          'wrong-state',
          'upload-expired',
        ],
      },
    },
    async (request) => {
      const { links, expiresAt } = await direct.sign(request.caller.id, request.params.id, request.body.partNumbers);
      return { parts: linksFor(request, links), expiresAt: expiresAt.toISOString() };
    },
  );

  app.post(
    '/v1/uploads/:id/complete',
    {
      schema: {
        operationId: 'completeUpload',
        tags,
        summary: 'Make the parts an asset',
        description:
          'The bytes are judged as with any upload; if they are refused, nothing is kept. Where a digest was declared for a file above 64 MiB, the asset is `processing` until the digest is verified. May be repeated: the answer is the same asset.',
        params: byId,
        headers: idempotencyHeader,
        response: { 201: assetDocument },
      },
      config: {
        success: { status: 201, description: 'The asset', headers: locationHeader },
        problems: [
          'not-found',
          'upload-incomplete',
          'upload-expired',
          'undetected-type',
          'declared-mismatch',
          'extension-mismatch',
          'type-not-allowed',
          'damaged-file',
          'digest-mismatch',
          'request-in-progress',
          'idempotency-key-reused',
        ],
      },
    },
    async (request, reply) => {
      const { caller, params } = request;
      const operation = ['completeUpload', params.id];
      const answer = await once(idempotency, request, operation, async (commit) => {
        let isCommitted = false;
        const also = async (transaction: Executor, asset: Asset) => {
          isCommitted = true;
          await commit(transaction, uploadAnswer(asset));
        };
        const asset = await direct.complete(actorOf(request), caller.id, params.id, also);
        if (!isCommitted) await commit(options.database, uploadAnswer(asset));
        return uploadAnswer(asset);
      });
      return sendAnswer(reply, answer);
    },
  );

  app.delete(
    '/v1/uploads/:id',
    {
      schema: { operationId: 'cancelUpload', tags, summary: 'Cancel an upload; nothing is kept', params: byId },
      config: { success: { status: 204, description: 'Cancelled' }, problems: ['not-found', 'wrong-state'] },
    },
    async (request, reply) => {
      await direct.cancel(actorOf(request), request.caller.id, request.params.id);
      return reply.code(204).send() as never;
    },
  );
}

function toOffer({ upload, partCount }: Offer): Omit<z.input<typeof offerDocument>, 'parts'> {
  const { id, partSize, expiresAt } = upload;
  return { uploadId: id, method: 'PUT', partSize, partCount, expiresAt: expiresAt.toISOString() };
}

export interface PartRouteOptions {
  store: DiskObjectStore;
  buffers: PartBuffers;
  /** Milliseconds to wait for a buffer. */
  wait: number;
  minimumRate: number;
  rateWindow: number;
  stopping: AbortSignal;
}

/** What a presigned part URL is to S3: the signature in the token is the permission, so there is no caller. */
export function diskPartRoute(app: App, options: PartRouteOptions): void {
  const { store, buffers, wait } = options;
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', (_request, _payload, done) => done(null));

  app.put(
    '/v1/links/parts/:token',
    {
      schema: {
        operationId: 'uploadPart',
        tags,
        summary: 'Send a part to the disk object store',
        description:
          'Where the links of `createUpload` lead when the service stores on its own disk. Do not build these URLs yourself.',
        security: [],
        params: z.object({ token: z.string().max(8192) }),
      },
      config: {
        public: true,
        streamsBody: true,
        requestBody: { required: true, content: { 'application/octet-stream': { schema: binary } } },
        success: { status: 204, description: 'The part has arrived' },
        problems: ['not-found', 'link-expired', 'incomplete-body', 'too-large', 'request-timeout', 'overloaded'],
      },
    },
    async (request, reply) => {
      const permission = store.readPartLink(request.params.token);
      if (permission === 'invalid')
        throw new Problem('not-found', { detail: 'This is no link of ours. Get a new one.' });
      if (permission === 'expired') throw new Problem('link-expired', { detail: 'Get a new link.' });
      const { size, ...address } = permission;
      const signal = requestSignal(reply, options.stopping);
      const buffer = await buffers.acquire(size, wait, signal).catch((error) => {
        if (!(error instanceof NoBufferFree)) throw error;
        throw new Problem('overloaded', {
          detail: 'The memory for uploads is taken. Try again later.',
          retryAfter: RETRY_SOON,
        });
      });
      try {
        const { minimumRate, rateWindow: window } = options;
        const source = metered(
          bodyOf(request.raw, () => wantBody(request)),
          { minimumRate: () => minimumRate, window, signal },
        );
        let length = 0;
        for await (const chunk of source) {
          if (length + chunk.length > size)
            throw new Problem('too-large', { detail: `The part has ${size} bytes, and this is more.` });
          length += chunk.copy(buffer.memory, length);
        }
        if (length !== size) throw incompleteBody();
        await store.uploadPart(address, buffer.memory.subarray(0, size), { signal });
      } catch (error) {
        if (error instanceof NoSuchUpload)
          throw new Problem('not-found', { detail: 'The upload is complete or was cancelled.' });
        if (error instanceof ObjectStoreUnavailable) throw unavailable('object store', error);
        throw error;
      } finally {
        buffer.release();
      }
      return reply.code(204).send() as never;
    },
  );
}
