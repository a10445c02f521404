/** The catalogue of assets over HTTP: list, get, change, trash, restore, delete. */
import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import { actorOf } from '../access/caller.ts';
import { may, requireMay, requireScope } from '../access/may.ts';
import { reasonQuery } from '../access/reason.ts';
import { type Actor, recordEvent } from '../database/audit.ts';
import type { Database, Executor } from '../database/client.ts';
import type { App } from '../http/openapi.ts';
import { pageHeaders } from '../http/paging.ts';
import { conditionsOf, evaluateConditions, type RecordConditions, recordConditions } from '../http/preconditions.ts';
import { assetId, flag, metadata, projectIdOrNone } from '../http/schema-types.ts';
import type { Answer } from '../idempotency/idempotency.ts';
import { answeringIfNamed, sendAnswer } from '../idempotency/requests.ts';
import type { CopiesOf } from '../mirrors/copies-of.ts';
import { assetNotFound, Problem } from '../problems.ts';
import type { Places } from '../projects/places.ts';
import { tooManyProjects } from '../projects/problems.ts';
import type { LimitValues } from '../quotas/limit.ts';
import { checkFileName } from '../validation/file-name.ts';
import { folderPath, tags as tagList } from '../validation/label-types.ts';
import { findNameFault } from '../validation/media-types.ts';
import type { UploadPolicies } from '../validation/upload-policies.ts';
import { type Asset, assetDocument, isOfVersion, recordTag, toDocument } from './asset.ts';
import type { AssetDeletions } from './deletions.ts';
import { requireFree, toHeldDocument } from './held.ts';
import type { LinkIssuer } from './issued-links.ts';
import { includeIn, includeQuery, MAX_INCLUDING } from './list-included.ts';
import { assetPage, listPage, placeOf } from './list-page.ts';
import { listQuery } from './list-query.ts';
import { type PublicityOf, publishedElsewhere, requirePublishable } from './publicity.ts';
import type { AssetsRepository, FoundAsset } from './repository.ts';

export interface AssetRoutesOptions {
  assets: AssetsRepository;
  deletions: AssetDeletions;
}

interface RecordRoutesOptions extends AssetRoutesOptions {
  issuer: LinkIssuer;
  places: Places;
  limits: LimitValues;
  database: Database;
  policies: UploadPolicies;
  publicityOf: PublicityOf;
  copiesOf: CopiesOf;
}

const byId = z.object({ id: assetId });
const withReasonOnly = z.strictObject({ reason: reasonQuery });
const tags = ['Assets'];
export const entityTagHeader = z.object({
  ETag: z.string().meta({ description: 'Entity tag of the record, for If-Match', example: '"kM2Q0b9S0kq2dZk3n0mV9A"' }),
});

const assetPatch = z
  .strictObject({
    name: z
      .string()
      .optional()
      .meta({ description: 'New file name; its extension must belong to the media type', example: 'summer.jpg' }),
    projectId: projectIdOrNone
      .optional()
      .meta({ description: 'New project; null or empty text takes the asset out of its project', example: 'website' }),
    metadata: metadata
      .nullable()
      .optional()
      .meta({ description: 'Replaces all metadata; null or an empty object removes it' }),
    visibility: z
      .enum(['private', 'public'], { error: 'must be private or public' })
      .meta({ id: 'Visibility' })
      .optional()
      .meta({
        description:
          '`public`: everybody gets the bytes at `publicUrl`, where the upload policy allows it; owners and managers only. What is moved to another project is private there',
      }),
    path: folderPath
      .nullable()
      .transform((path) => path ?? '')
      .optional()
      .meta({ description: 'New folder; null or empty text is the top', example: 'photos/2026/' }),
    tags: tagList
      .nullable()
      .transform((all) => all ?? [])
      .optional()
      .meta({ description: 'Replaces all tags; null or an empty list removes them' }),
  })
  .refine((patch) => Object.keys(patch).length > 0, 'must change something')
  .meta({ id: 'AssetPatch', override: { minProperties: 1 } });

export function assetRoutes(
  app: App,
  { assets, deletions, issuer, places, limits, database, policies, publicityOf, copiesOf }: RecordRoutesOptions,
): void {
  app.get(
    '/v1/assets',
    {
      schema: {
        operationId: 'listAssets',
        tags,
        summary: 'List and search assets',
        description:
          'One page in keyset order, of at most `limit` assets and 1 MiB. What is given must all hold. A page may have fewer assets than `limit`, even none, and yet others follow: a search is answered in bounded time, and goes on where it was. Follow `nextCursor`, or the `Link` header with rel="next", until `hasMore` is false.',
        querystring: listQuery.safeExtend(includeQuery),
        response: { 200: assetPage },
      },
      config: {
        action: 'asset.read',
        success: {
          status: 200,
          description: 'A page of assets',
          headers: pageHeaders,
        },
      },
    },
    async (request, reply) => {
      const { projectId } = request.query;
      const place = await placeOf(database, request.caller, projectId);
      const documentOf = (asset: Asset) => ({ ...toDocument(asset), ...publicityOf(request, asset) });
      const { include, limit, ...query } = request.query;
      const asked = { ...query, limit: include ? Math.min(limit, MAX_INCLUDING) : limit };
      const page = await listPage({ assets, database }, asked, place, request, reply, documentOf);
      if (include?.includes('links')) reply.header('cache-control', 'no-store');
      return { ...page, data: await includeIn(request, page.data, { include, issuer }) };
    },
  );

  app.get(
    '/v1/assets/:id',
    {
      schema: {
        operationId: 'getAsset',
        tags,
        summary: 'Get the record of an asset',
        params: byId,
        headers: recordConditions,
        response: { 200: assetDocument },
      },
      config: {
        action: 'asset.read',
        success: {
          status: 200,
          description: 'The record',
          headers: entityTagHeader,
          others: { '304': { description: 'The client has this record already', headers: entityTagHeader } },
        },
        problems: ['not-found', 'precondition-failed'],
      },
    },
    async (request, reply) => {
      const conditions = conditionsOf(request.headers);
      const asset = await required(assets.find(request.caller, request.params.id));
      if (asset.role === 'admin') await inspected(database, asset, actorOf(request));
      const copies = await copiesOf(asset);
      const tag = recordTag(asset, copies.length === 0 ? undefined : JSON.stringify(copies));
      const outcome = evaluateConditions(conditions, tag);
      if (outcome === 'precondition-failed') throw preconditionFailed(asset);
      reply.header('etag', tag).header('cache-control', 'private, no-cache');
      if (outcome === 'not-modified') return sendAnswer(reply, { status: 304, headers: {} });
      const { downloadCount, lastDownloadedAt } = asset;
      return {
        ...toDocument(asset),
        ...toHeldDocument(asset, may(request.caller, 'asset.hold', asset) === 'yes'),
        ...publicityOf(request, asset),
        downloadCount,
        ...(lastDownloadedAt && { lastDownloadedAt: lastDownloadedAt.toISOString() }),
        ...(copies.length > 0 && { copies }),
      };
    },
  );

  app.patch(
    '/v1/assets/:id',
    {
      schema: {
        operationId: 'updateAsset',
        tags,
        summary: 'Rename an asset, move it to a project or folder, replace its metadata or tags, or make it public',
        description:
          'The bytes and their key stay as they are. What is made private is not served to anybody else from then on; `cachedUntil` tells how long caches may have it. With `If-Match` the change is made only if the record is still the one you read.',
        params: byId,
        querystring: withReasonOnly,
        headers: recordConditions,
        body: assetPatch,
        response: { 200: assetDocument },
      },
      config: {
        action: 'asset.write',
        success: { status: 200, description: 'The changed record', headers: entityTagHeader },
        problems: [
          'malformed-request',
          'invalid-name',
          'quota-exceeded',
          'forbidden',
          'not-found',
          'wrong-state',
          'held',
          'precondition-failed',
          'too-large',
          'unsupported-media-type',
          tooManyProjects,
          'public-not-allowed',
        ],
      },
    },
    async (request, reply) => {
      const { caller, params, body } = request;
      const move = body.projectId !== undefined && {
        move: { to: await places.of(caller, body.projectId ?? undefined), limits, caller },
      };
      const changed = await changeUnder({
        conditions: conditionsOf(request.headers),
        // What a name may end in depends on the bytes, and who may move it on where it is.
        readFirst: body.name !== undefined || move !== false || body.visibility !== undefined,
        read: () => required(assets.find(caller, params.id)),
        check: (current) => {
          const isMoved = move && move.move.to.projectId !== current.projectId;
          requireMay(caller, isMoved ? 'asset.move' : 'asset.write', current);
          // See `mayLeave`.
          if (isMoved && may(caller, 'asset.hold', current) !== 'yes') requireFree(current);
          if (body.visibility !== undefined) requireMay(caller, 'asset.publish', current);
          if (current.trashedAt) throw inTrash();
          if (body.visibility !== 'public') return;
          if (isMoved) throw publishedElsewhere();
          requirePublishable(policies, current);
        },
        change: (version, current) =>
          assets.update(
            caller,
            params.id,
            { ...changesOf(body, current), ...move },
            version,
            actorOf(request),
            committing(request, answerOf),
          ),
      });
      return sendAnswer(reply, answerOf(request, changed));
    },
  );

  app.delete(
    '/v1/assets/:id',
    {
      schema: {
        operationId: 'deleteAsset',
        tags,
        summary: 'Move an asset to the trash, or delete it for good',
        description:
          'In the trash an asset counts toward the quota and can be restored; it cannot be downloaded. With `permanent=true` the record and the bytes are deleted for good, and their quota is free again.',
        params: byId,
        querystring: z.strictObject({ permanent: flag, reason: reasonQuery }),
        headers: recordConditions,
      },
      config: {
        actions: ['asset.write', 'asset.delete'],
        success: { status: 204, description: 'Done' },
        problems: ['forbidden', 'not-found', 'held', 'precondition-failed'],
      },
    },
    async (request, reply) => {
      const { caller, params, query, headers } = request;
      const conditions = conditionsOf(headers);
      const actor = actorOf(request);
      const commit = answeringIfNamed(request);
      const inTransaction = commit && ((transaction: Executor) => commit(transaction, gone));
      const action = query.permanent ? 'asset.delete' : 'asset.write';
      requireScope(caller, action);
      await changeUnder({
        conditions,
        check: (current) => {
          requireMay(caller, action, current);
          // What is in the trash already stays there, held or not.
          if (query.permanent || !current.trashedAt) requireFree(current);
        },
        read: () => required(assets.find(caller, params.id)),
        change: (version) =>
          query.permanent
            ? deletions.delete(caller, params.id, version, actor, inTransaction)
            : assets.trash(caller, params.id, version, actor, inTransaction),
      });
      return sendAnswer(reply, gone);
    },
  );

  app.post(
    '/v1/assets/:id/restore',
    {
      schema: {
        operationId: 'restoreAsset',
        tags,
        summary: 'Take an asset out of the trash',
        params: byId,
        querystring: withReasonOnly,
        headers: recordConditions,
        response: { 200: assetDocument },
      },
      config: {
        action: 'asset.write',
        success: { status: 200, description: 'The restored record', headers: entityTagHeader },
        problems: ['forbidden', 'not-found', 'wrong-state', 'precondition-failed'],
      },
    },
    async (request, reply) => {
      const { caller, params } = request;
      const restored = await changeUnder({
        conditions: conditionsOf(request.headers),
        read: () => required(assets.find(caller, params.id)),
        check: (current) => {
          requireMay(caller, 'asset.write', current);
          if (!current.trashedAt) throw notInTrash();
        },
        change: (version) =>
          assets.restore(caller, params.id, version, actorOf(request), committing(request, answerOf)),
      });
      return sendAnswer(reply, answerOf(request, restored));
    },
  );

  /** A changed record. */
  function answerOf(request: FastifyRequest, asset: Asset): Answer {
    const body = { ...toDocument(asset), ...publicityOf(request, asset) };
    return { status: 200, headers: { etag: recordTag(asset) }, body };
  }
}

/** An administrator has looked at a record that is there for him by his reason alone. */
async function inspected(
  database: Database,
  { id: assetId, ownerId, projectId }: FoundAsset,
  actor: Actor,
): Promise<void> {
  const project = projectId !== undefined && { projectId };
  await recordEvent(database, { action: 'asset.inspected', actor, ownerId, assetId, ...project });
}

const gone: Answer = { status: 204, headers: {} };

/** Writes the answer in the transaction of the change; without an Idempotency-Key the change needs no transaction. */
function committing(request: FastifyRequest, answerOf: (request: FastifyRequest, asset: Asset) => Answer) {
  const commit = answeringIfNamed(request);
  return commit && ((transaction: Executor, asset: Asset) => commit(transaction, answerOf(request, asset)));
}

/** @throws Problem not-found */
export async function required<Found extends Asset>(found: Promise<Found | undefined>): Promise<Found> {
  const asset = await found;
  if (!asset) throw assetNotFound();
  return asset;
}

export function inTrash(): Problem {
  return new Problem('wrong-state', { detail: 'The asset is in the trash. Restore it first.' });
}

export function notInTrash(): Problem {
  return new Problem('wrong-state', { detail: 'The asset is not in the trash.' });
}

interface ConditionalChange<Changed> {
  conditions: RecordConditions;
  /** The change needs the record as it is, conditions or not. */
  readFirst?: boolean;
  /** @throws Problem not-found */
  read: () => Promise<FoundAsset>;
  /** @throws Problem when the record does not allow the change */
  check: (current: FoundAsset) => void;
  /**
   * Must do nothing when the record has another version than this one.
   * @returns nothing when it did nothing
   */
  change: (version: number | undefined, current: FoundAsset | undefined) => Promise<Changed | undefined | false>;
}

/**
 * Changes a record under its conditions. Where somebody else was faster, the record is read and judged again: each round
 * means that another change was made, so there is an end. A request that is refused anyway is refused for that and not for
 * its conditions (RFC 9110 section 13.2.1).
 */
async function changeUnder<Changed>(options: ConditionalChange<Changed>): Promise<Changed> {
  const { conditions, readFirst = false, read, check, change } = options;
  const { ifMatch, ifNoneMatch } = conditions;
  const isConditional = ifMatch !== undefined || ifNoneMatch !== undefined;
  for (let current = isConditional || readFirst ? await read() : undefined; ; current = await read()) {
    if (current) {
      check(current);
      requireConditions(conditions, current);
    }
    const changed = await change(isConditional ? current?.version : undefined, current);
    if (changed) return changed;
  }
}

/** @throws Problem precondition-failed */
export function requireConditions(conditions: RecordConditions, asset: Asset): void {
  if (evaluateConditions(ofVersion(conditions, asset), recordTag(asset)) !== 'proceed') throw preconditionFailed(asset);
}

/** Tags of this version stand for the tag that it has now. */
function ofVersion({ ifMatch, ifNoneMatch }: RecordConditions, asset: Asset): RecordConditions {
  const present = (tag: string) => (isOfVersion(tag, asset) ? recordTag(asset) : tag);
  return { ifMatch: Array.isArray(ifMatch) ? ifMatch.map(present) : ifMatch, ifNoneMatch };
}

function preconditionFailed(asset: Asset): Problem {
  return new Problem('precondition-failed', {
    detail: 'The asset is not as If-Match or If-None-Match wants it. Read it again.',
    headers: { etag: recordTag(asset) },
  });
}

/** @param current of which the name must be; needed where there is a new name */
function changesOf(
  { name, metadata, path, tags, visibility }: z.output<typeof assetPatch>,
  current: Asset | undefined,
) {
  return {
    ...(name !== undefined &&
      current && {
        name: acceptableName(name, current.mediaType),
      }),
    ...(metadata !== undefined && { metadata: metadata ?? {} }),
    ...(visibility !== undefined && { visibility }),
    ...(path !== undefined && { path }),
    ...(tags !== undefined && { tags }),
  };
}

function acceptableName(name: string, mediaType: string): string {
  const checked = checkFileName(name);
  const detail = checked.ok ? findNameFault(checked.name, mediaType) : checked.detail;
  if (checked.ok && detail === undefined) return checked.name;
  throw new Problem('invalid-name', {
    ...(detail !== undefined && { detail, errors: [{ pointer: '/name', detail }] }),
  });
}
