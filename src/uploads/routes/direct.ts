/**
 * Direct uploads: the client sends the bytes straight to the object store, part by part, by links that are signed here.
 * With the disk store the links lead back to this service; see disk-parts.ts.
 */
import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import { actorOf } from '../../access/caller.ts';
import { assetDocument } from '../../assets/asset.ts';
import type { App } from '../../http/openapi.ts';
import type { ToPublicUrl } from '../../http/public-url.ts';
import {
  assetId,
  assetType,
  binaryDigest,
  bytesCount,
  metadata,
  openEnum,
  projectId,
  timestamp,
} from '../../http/schema-types.ts';
import { answering, sendAnswer } from '../../idempotency/requests.ts';
import { tooManyProjects } from '../../projects/problems.ts';
import { MAX_PARTS } from '../../storage/object-store.ts';
import { ticketUsedUp } from '../../tickets/problems.ts';
import { underTicket } from '../../tickets/terms.ts';
import { folderPath, tags as tagList } from '../../validation/label-types.ts';
import { retention } from '../../validation/life-cycle.ts';
import type { DirectUploads, PartLink, SignedUpload } from '../direct-uploads.ts';
import { locationHeader } from './raw.ts';
import {
  acceptedResponse,
  inBody,
  refuseDescription,
  replaces,
  replacing,
  replacingHeaders,
  replacingProblems,
} from './replacing.ts';
import { audited, labelsOf, type UploadRouteOptions, uploadAnswer } from './upload-request.ts';

const MAX_SIGNED = 1000;
const tags = ['Uploads'];
const byId = z.object({ id: assetId });

const partLink = z
  .object({
    partNumber: z
      .number()
      .int()
      .meta({ override: { type: 'integer', minimum: 1, maximum: MAX_PARTS } }),
    url: z
      .string()
      .meta({ override: { type: 'string', format: 'uri' }, description: 'Where to PUT the bytes of the part' }),
    headers: z
      .record(z.string(), z.string())
      .meta({ description: 'Header fields to send; Content-Length is signed too, and sent by every client by itself' }),
    size: bytesCount.meta({ description: 'Bytes of the part, exactly' }),
  })
  .meta({ id: 'PartLink' });

const sessionDocument = z
  .object({
    uploadId: z.string().meta({
      override: { type: 'string', format: 'uuid' },
      description: 'Also the id of the asset to be, unless it replaces the bytes of another',
    }),
    method: z.literal('PUT').meta({
      override: ({ jsonSchema }) => delete jsonSchema.const,
      description: 'Of the requests to the links: PUT',
    }),
    partSize: bytesCount.meta({ description: 'Bytes of every part but the last' }),
    partCount: z
      .number()
      .int()
      .meta({ override: { type: 'integer', minimum: 1, maximum: MAX_PARTS } }),
    parts: z.array(partLink).meta({ description: 'The first parts; sign the rest when you come to them' }),
    expiresAt: timestamp.meta({ description: 'When links and upload expire; signing again puts it off' }),
  })
  .meta({ id: 'UploadSession' });

const uploadDocument = z
  .object({
    uploadId: z.string().meta({ override: { type: 'string', format: 'uuid' } }),
    state: openEnum('UploadState', ['uploading', 'complete'], '`complete`: it is the asset of the same id.'),
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
        z
          .object({
            partNumber: z
              .number()
              .int()
              .meta({ override: { type: 'integer' } }),
            size: bytesCount,
          })
          .meta({ id: 'ArrivedPart' }),
      )
      .meta({ description: 'What has arrived' }),
    expiresAt: timestamp.optional(),
  })
  .meta({ id: 'Upload' });

const signedDocument = z.object({ parts: z.array(partLink), expiresAt: timestamp }).meta({ id: 'SignedParts' });

export interface DirectRouteOptions extends UploadRouteOptions {
  direct: DirectUploads;
  toPublicUrl: ToPublicUrl;
}

export function directUploadRoutes(app: App, options: DirectRouteOptions): void {
  const { context, direct, uploadLimit, toPublicUrl } = options;
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
        headers: replacingHeaders,
        body: z
          .strictObject({
            replaces,
            fileName: z.string().max(2048).meta({ example: 'film.mp4' }),
            size: bytesCount.meta({ example: 104857600 }),
            contentType: z.string().max(255).meta({ description: 'Media type of the file', example: 'video/mp4' }),
            assetType: assetType.optional(),
            projectId: projectId.optional(),
            sha256: binaryDigest.optional(),
            metadata: metadata.optional(),
            path: folderPath.optional(),
            tags: tagList.optional(),
            retention: retention.optional(),
          })
          .meta({ id: 'UploadRequest' }),
        response: { 201: sessionDocument },
      },
      config: {
        action: 'asset.upload',
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
          'owner-under-erasure',
          'forbidden',
          'not-found',
          ticketUsedUp,
          'too-large',
          'extension-mismatch',
          'type-not-allowed',
          'empty-file',
          'forbidden',
          'not-found',
          tooManyProjects,
          'too-many-uploads',
          ...replacingProblems,
        ],
      },
    },
    (request, reply) =>
      audited(request, context, async () => {
        const { caller, body } = request;
        const { fileName, size, contentType, assetType, projectId, sha256, metadata = {}, replaces: id } = body;
        if (id !== undefined) refuseDescription(body, inBody);
        const replaced = id === undefined ? undefined : await replacing(context, request, id, fileName);
        const { headers } = await uploadLimit.count(caller);
        const answerOf = (signed: SignedUpload) => ({
          status: 201,
          headers: { ...headers, location: `/v1/uploads/${signed.session.id}` },
          body: { ...toDocument(signed), parts: linksFor(request, signed.links) },
        });
        const under = underTicket(caller, {
          metadata,
          ...labelsOf(body),
          ...(projectId !== undefined && { projectId }),
          ...(assetType !== undefined && { assetType }),
        });
        const place = replaced?.place ?? (await context.places.of(caller, under.projectId));
        const file = {
          ...under,
          ...replaced,
          actor: actorOf(request),
          caller,
          place,
          fileName,
          size,
          declaredType: contentType,
          ...(sha256 !== undefined && { sha256: Buffer.from(sha256, 'hex') }),
        };
        const commit = answering(request);
        const created = await direct.create(file, (transaction, signed) => commit(transaction, answerOf(signed)));
        return sendAnswer(reply, answerOf(created));
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
      config: { action: 'asset.upload', success: { status: 200, description: 'The upload' }, problems: ['not-found'] },
    },
    async (request) => {
      const found = await direct.find(request.caller, request.params.id);
      if ('asset' in found) {
        const { id, name, size } = found.asset;
        return { uploadId: id, state: 'complete' as const, name, size, parts: [] };
      }
      const { id, fileName, size, partSize, expiresAt } = found.session;
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
                  .max(MAX_PARTS)
                  .meta({ override: { type: 'integer', minimum: 1, maximum: MAX_PARTS } }),
              )
              .min(1)
              .max(MAX_SIGNED),
          })
          .meta({ id: 'PartsRequest' }),
        response: { 200: signedDocument },
      },
      config: {
        action: 'asset.upload',
        // Nothing is lost when links are signed twice, and old links are of no use.
        idempotent: false,
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
      const { links, expiresAt } = await direct.sign(request.caller, request.params.id, request.body.partNumbers);
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
          'The bytes are validated as with any upload; if they are refused, nothing is kept. Where a digest was declared for a file above 64 MiB, the asset is `processing` until the digest is verified. May be repeated: the answer is the same asset.',
        params: byId,
        response: { 201: assetDocument, 202: assetDocument },
      },
      config: {
        action: 'asset.upload',
        success: {
          status: 201,
          description: 'The asset; of an upload that replaces, the one that has its bytes now',
          headers: locationHeader,
          others: { '202': { ...acceptedResponse, headers: locationHeader } },
        },
        problems: [
          'quota-exceeded',
          ...replacingProblems,
          'not-found',
          'upload-incomplete',
          'upload-expired',
          'undetected-type',
          'declared-mismatch',
          'extension-mismatch',
          'type-not-allowed',
          'damaged-file',
          'digest-mismatch',
        ],
      },
    },
    async (request, reply) => {
      const { caller, params } = request;
      const commit = answering(request);
      const asset = await direct.complete(actorOf(request), caller, params.id, (transaction, settled) =>
        commit(transaction, uploadAnswer(settled)),
      );
      return sendAnswer(reply, uploadAnswer(asset));
    },
  );
}

function toDocument({ session, partCount }: SignedUpload): Omit<z.input<typeof sessionDocument>, 'parts'> {
  const { id, partSize, expiresAt } = session;
  return { uploadId: id, method: 'PUT', partSize, partCount, expiresAt: expiresAt.toISOString() };
}
