/** The versions of an asset over HTTP: list, download, restore, delete. */
import { createHash } from 'node:crypto';
import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import { actorOf } from '../access/caller.ts';
import { requireMay } from '../access/may.ts';
import { reasonQuery } from '../access/reason.ts';
import type { Action } from '../access/rules.ts';
import { type Asset, assetDocument, recordTag, toDocument } from '../assets/asset.ts';
import { contentDisposition } from '../assets/content-disposition.ts';
import { conditionalHeaders, deliver } from '../assets/delivery.ts';
import { requireFree } from '../assets/held.ts';
import { AssetsRepository, type FoundAsset } from '../assets/repository.ts';
import { entityTagHeader, inTrash, requireConditions, required } from '../assets/routes.ts';
import { dispositionOf } from '../assets/serving.ts';
import type { Core } from '../core.ts';
import { recordEvent } from '../database/audit.ts';
import { formatDigest } from '../http/digest-fields.ts';
import type { App } from '../http/openapi.ts';
import {
  decodeTextCursor,
  encodeTextCursor,
  nextLink,
  pageCursor,
  pageEnd,
  pageHeaders,
  pageInfo,
  pageLimit,
} from '../http/paging.ts';
import { conditionsOf, recordConditions } from '../http/preconditions.ts';
import { assetId, binary, binaryDigest, bytesCount, timestamp } from '../http/schema-types.ts';
import type { Answer } from '../idempotency/idempotency.ts';
import { answering, sendAnswer } from '../idempotency/requests.ts';
import { Problem } from '../problems.ts';
import type { Refused, VersionRow, VersionsRepository } from './repository.ts';

const tags = ['Versions'];
/** Of the cursors. */
const ORDER = 'versions';

const NUMBER = 'must be the number of a version';
const number = z
  .string()
  .regex(/^[1-9]\d{0,8}$/, NUMBER)
  .transform(Number)
  .meta({ override: { type: 'integer', minimum: 1 }, description: '`contentVersion` of the asset at that time' });
const byId = z.object({ id: assetId });
const byNumber = z.object({ id: assetId, number });
const withReasonOnly = z.strictObject({ reason: reasonQuery });

const versionDocument = z
  .object({
    number: z
      .number()
      .int()
      .meta({
        override: { type: 'integer', minimum: 1 },
        description: '`contentVersion` of the asset when it had these bytes',
      }),
    name: z.string().meta({ description: 'File name at that time', example: 'photo.jpg' }),
    mediaType: z.string().meta({ example: 'image/jpeg' }),
    size: bytesCount,
    sha256: binaryDigest.optional(),
    storedAt: timestamp.meta({ description: 'When the asset was given these bytes' }),
    replacedAt: timestamp.meta({ description: 'When other bytes took their place' }),
  })
  .meta({ id: 'AssetVersion' });
const versionPage = z.object({ data: z.array(versionDocument), page: pageInfo }).meta({ id: 'AssetVersionPage' });

function toVersionDocument(version: VersionRow): z.input<typeof versionDocument> {
  const { number: itsNumber, name, mediaType, size, sha256, storedAt, replacedAt } = version;
  return {
    ...{ number: itsNumber, name, mediaType, size },
    ...(sha256 && { sha256: sha256.toString('hex') }),
    storedAt: storedAt.toISOString(),
    replacedAt: replacedAt.toISOString(),
  };
}

const bytesContent = { 'application/octet-stream': { schema: binary } };
const gone: Answer = { status: 204, headers: {} };

export function versionRoutes(app: App, core: Core, versions: VersionsRepository): void {
  const { reads, downloads: places, metrics, database } = core;
  const assets = new AssetsRepository(database);

  app.get(
    '/v1/assets/:id/versions',
    {
      schema: {
        operationId: 'listAssetVersions',
        tags,
        summary: 'List the former contents of an asset that are kept, the latest first',
        description:
          'How many are kept is said by the upload policy (`versions`). They count toward the quota. Follow `nextCursor`, or the `Link` header, until `hasMore` is false.',
        params: byId,
        querystring: z.strictObject({ limit: pageLimit, cursor: pageCursor }),
        response: { 200: versionPage },
      },
      config: {
        action: 'asset.read',
        success: { status: 200, description: 'A page of versions', headers: pageHeaders },
        problems: ['not-found'],
      },
    },
    async (request, reply) => {
      const { caller, params, query } = request;
      const { limit, cursor } = query;
      const before = cursor === undefined ? undefined : Number(readCursor(cursor));
      const asset = await required(assets.find(caller, params.id));
      const rows = await versions.list(asset.id, before, limit + 1);
      const page = rows.slice(0, limit);
      const last = page.at(-1);
      const next = rows.length > limit && last ? encodeTextCursor(ORDER, String(last.number)) : undefined;
      if (next !== undefined) reply.header('link', nextLink(request.url, next));
      reply.header('cache-control', 'private, no-cache');
      return { data: page.map(toVersionDocument), page: pageEnd(next) };
    },
  );

  app.route({
    method: ['GET', 'HEAD'],
    url: '/v1/assets/:id/versions/:number/content',
    schema: {
      operationId: 'downloadAssetVersion',
      tags,
      summary: 'Get the bytes of a version',
      description: 'Honours one Range and all conditional header fields.',
      params: byNumber,
      headers: conditionalHeaders,
    },
    config: {
      action: 'asset.download',
      success: {
        status: 200,
        description: 'The bytes',
        content: bytesContent,
        others: {
          '206': { description: 'The range', content: bytesContent },
          '304': { description: 'The client has these bytes already' },
        },
      },
      problems: [
        'not-found',
        'wrong-state',
        'precondition-failed',
        'range-not-satisfiable',
        'too-many-downloads',
        'overloaded',
      ],
    },
    handler: async (request, reply) => {
      const { caller, params } = request;
      const version = await versions.find(caller, params.id, params.number);
      if (!version) {
        if ((await required(assets.find(caller, params.id))).trashedAt) throw inTrash();
        throw versionNotFound();
      }
      const { objectKey, sha256, ownerId, projectId, assetId: id } = version;
      const digest = sha256 ?? createHash('sha256').update(objectKey).digest();
      return deliver(request, reply, {
        store: reads,
        places,
        callerId: caller.id,
        key: objectKey,
        size: version.size,
        entityTag: `"${digest.toString('hex')}"`,
        lastModified: version.storedAt,
        headers: {
          'content-type': version.mediaType,
          'content-disposition': contentDisposition(dispositionOf(version.mediaType), version.name),
          'cache-control': version.cacheControl ?? 'private',
          ...(sha256 && { 'repr-digest': formatDigest(sha256) }),
        },
        beforeBytes: () =>
          recordEvent(database.database, {
            action: 'asset.downloaded',
            actor: actorOf(request),
            ownerId,
            assetId: id,
            ...(projectId !== null && { projectId }),
            detail: { version: params.number },
          }),
        onSent: (bytes) => metrics.sent(bytes),
      });
    },
  });

  app.post(
    '/v1/assets/:id/versions/:number/restore',
    {
      schema: {
        operationId: 'restoreAssetVersion',
        tags,
        summary: 'Give an asset the bytes of a version again',
        description:
          'Nothing is copied: the bytes that the asset has become a version, and those of the version are its content, under a new `contentVersion`. `If-Match` is honoured.',
        params: byNumber,
        querystring: withReasonOnly,
        headers: recordConditions,
        response: { 200: assetDocument },
      },
      config: {
        action: 'asset.write',
        success: { status: 200, description: 'The asset with these bytes', headers: entityTagHeader },
        problems: ['forbidden', 'not-found', 'wrong-state', 'held', 'precondition-failed', 'quota-exceeded'],
      },
    },
    async (request, reply) => {
      const { caller, params } = request;
      const commit = answering(request);
      const restored = await changeVersion(request, 'asset.write', (version) =>
        versions.restore(caller, params.id, params.number, version, actorOf(request), (transaction, asset) =>
          commit(transaction, answerOf(asset)),
        ),
      );
      return sendAnswer(reply, answerOf(restored));
    },
  );

  app.delete(
    '/v1/assets/:id/versions/:number',
    {
      schema: {
        operationId: 'deleteAssetVersion',
        tags,
        summary: 'Delete a version for good',
        params: byNumber,
        querystring: withReasonOnly,
        headers: recordConditions,
      },
      config: {
        action: 'asset.delete',
        success: { status: 204, description: 'Its bytes are deleted, and their quota is free' },
        problems: ['forbidden', 'not-found', 'held', 'precondition-failed'],
      },
    },
    async (request, reply) => {
      const { caller, params } = request;
      const commit = answering(request);
      await changeVersion(request, 'asset.delete', (version) =>
        versions.delete(caller, params.id, params.number, version, actorOf(request), (transaction) =>
          commit(transaction, gone),
        ),
      );
      return sendAnswer(reply, gone);
    },
  );

  /** Changes it under the conditions of the request, which are judged by the record as it is then. */
  async function changeVersion<Changed>(
    request: FastifyRequest & { params: z.output<typeof byNumber>; headers: z.output<typeof recordConditions> },
    action: Action,
    change: (version: number | undefined) => Promise<Changed | Refused>,
  ): Promise<Changed> {
    const conditions = conditionsOf(request.headers);
    const isConditional = conditions.ifMatch !== undefined || conditions.ifNoneMatch !== undefined;
    for (;;) {
      const current: FoundAsset = await required(assets.find(request.caller, request.params.id));
      requireMay(request.caller, action, current);
      requireConditions(conditions, current);
      requireFree(current);
      const changed = await change(isConditional ? current.version : undefined);
      if (changed === 'gone') throw versionNotFound();
      if (changed === 'trashed') throw inTrash();
      // Somebody else was faster: it is read and judged again.
      if (changed !== 'changed' && changed !== 'held') return changed as Changed;
    }
  }
}

function answerOf(asset: Asset): Answer {
  return { status: 200, headers: { etag: recordTag(asset) }, body: toDocument(asset) };
}

/** @throws Problem invalid-parameter */
function readCursor(cursor: string): string {
  const text = decodeTextCursor(ORDER, cursor);
  if (/^\d{1,9}$/.test(text)) return text;
  const detail = 'must be the nextCursor of a page of versions';
  throw new Problem('invalid-parameter', { detail: `cursor ${detail}`, errors: [{ parameter: 'cursor', detail }] });
}

function versionNotFound(): Problem {
  return new Problem('not-found', { detail: 'The asset has no such version, or it is not kept any more.' });
}
