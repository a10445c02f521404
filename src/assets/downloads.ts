/** Downloads: a link to the object store, the bytes through the service, and the links of the disk store. */
import { createHash } from 'node:crypto';
import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import { actorOf, type Caller } from '../access/caller.ts';
import { linkLifeOf } from '../access/tiers.ts';
import { MAX_LINK } from '../config.ts';
import type { AuditAction } from '../database/audit.ts';
import { formatDigest } from '../http/digest-fields.ts';
import type { DownloadPlaces } from '../http/download-places.ts';
import type { App } from '../http/openapi.ts';
import type { ToPublicUrl } from '../http/public-url.ts';
import { assetId, binary, timestamp } from '../http/schema-types.ts';
import { assetNotFound, Problem, type ProblemType } from '../problems.ts';
import { DiskObjectStore } from '../storage/disk/disk-object-store.ts';
import { assetIdOf } from '../storage/object-key.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { type Asset, assetDocument, contentTag, toDocument } from './asset.ts';
import { contentDisposition } from './content-disposition.ts';
import { conditionalHeaders, deliver } from './delivery.ts';
import { derivativeName, nameOfDerivative } from './derivative-names.ts';
import type { AssetsRepository } from './repository.ts';
import { inTrash, required } from './routes.ts';
import type { ServedDerivatives } from './served-derivative.ts';
import { dispositionOf, isSafeInline } from './serving.ts';

export interface DownloadRoutesOptions {
  assets: AssetsRepository;
  derivatives: ServedDerivatives;
  store: ObjectStore;
  places: DownloadPlaces;
  /** Seconds that a link lives when the caller names none. */
  linkLife: number;
  /** Of the object keys. */
  keyPrefix: string;
  onSent: (bytes: number) => void;
  toPublicUrl: ToPublicUrl;
}

const tags = ['Downloads'];
const byId = z.object({ id: assetId });

const disposition = z
  .enum(['inline', 'attachment'], { error: 'must be inline or attachment' })
  .meta({ id: 'Disposition' })
  .optional()
  .meta({
    description:
      'Whether browsers show or save the file. `inline` is possible for images, audio and video; everything else is an attachment',
  });

export const expiresIn = z
  .string()
  .regex(/^\d{1,6}$/, `must be 1 to ${MAX_LINK}`)
  .transform(Number)
  .refine((n) => n >= 1 && n <= MAX_LINK, `must be 1 to ${MAX_LINK}`)
  .optional()
  .meta({
    override: { type: 'integer', minimum: 1, maximum: MAX_LINK },
    description: 'How long the link is valid, in seconds; at most 7 days',
    example: 3600,
  });

const linkQuery = z.strictObject({
  expiresIn,
  disposition,
  derivative: derivativeName.optional().meta({
    description: 'Of a derivative instead of the file itself',
    example: 'thumbnail',
  }),
});

const link = z
  .object({
    url: z.string().meta({
      override: { type: 'string', format: 'uri' },
      description: 'Whoever has this link can download the bytes; keep it secret',
      example: 'https://files.example.com/v1/links/eyJr',
    }),
    expiresAt: timestamp,
    asset: assetDocument,
  })
  .meta({ id: 'DownloadLink' });

const contentResponseHeaders = z.object({
  'Content-Disposition': z.string(),
  'Repr-Digest': z.string().optional().meta({
    description: 'RFC 9530, SHA-256 of the whole file, where it is known',
    example: 'sha-256=:uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=:',
  }),
  ETag: z.string(),
  'Last-Modified': z.string(),
  'Accept-Ranges': z.string(),
});

/** Their media type is that of the file; generators know bytes by this one. */
const bytesContent = { 'application/octet-stream': { schema: binary } };

const linkProblems: ProblemType[] = ['not-found', 'wrong-state', 'derivative-pending', 'derivative-unavailable'];

/** Header fields that may make the answer another one than all the bytes. */
const asksMore = Object.keys(conditionalHeaders.shape);

export function downloadRoutes(
  app: App,
  { assets, derivatives, store, places, linkLife, keyPrefix, onSent, toPublicUrl }: DownloadRoutesOptions,
): void {
  app.get(
    '/v1/assets/:id/download',
    {
      schema: {
        operationId: 'createDownloadLink',
        tags,
        summary: 'Get a download link that is valid for a limited time',
        description:
          'The link needs no token and leads straight to the object store. It ends when it expires or the asset is deleted for good; links of the disk store end in the trash too. To be led there at once, ask `redirectToDownload`.',
        params: byId,
        querystring: linkQuery,
        response: { 200: link },
      },
      config: { action: 'asset.download', success: { status: 200, description: 'The link' }, problems: linkProblems },
    },
    async (request, reply) => {
      const { url, expiresAt, asset } = await issueLink(request);
      reply.header('cache-control', 'no-store');
      return { url, expiresAt: expiresAt.toISOString(), asset: toDocument(asset) };
    },
  );

  app.get(
    '/v1/assets/:id/download/redirect',
    {
      schema: {
        operationId: 'redirectToDownload',
        tags,
        summary: 'Be led to a download link',
        description:
          'For places that take a URL but cannot read JSON, such as `<a href>` behind a session of your own.',
        params: byId,
        querystring: linkQuery,
      },
      config: {
        action: 'asset.download',
        success: {
          status: 302,
          description: 'At Location',
          headers: z.object({ Location: z.string().meta({ override: { type: 'string', format: 'uri' } }) }),
        },
        problems: linkProblems,
      },
    },
    async (request, reply) => {
      const { url } = await issueLink(request);
      return reply.header('cache-control', 'no-store').redirect(url, 302) as never;
    },
  );

  app.route({
    method: ['GET', 'HEAD'],
    url: '/v1/assets/:id/content',
    schema: {
      operationId: 'downloadAsset',
      tags,
      summary: 'Get the bytes through the service',
      description:
        'Honours one Range and all conditional header fields. For large files prefer links: their bytes do not pass through the service.',
      params: byId,
      querystring: z.strictObject({ disposition }),
      headers: conditionalHeaders,
    },
    config: {
      action: 'asset.download',
      servesBytes: true,
      success: {
        status: 200,
        description: 'The bytes',
        headers: contentResponseHeaders,
        content: bytesContent,
        others: {
          '206': { description: 'The range', headers: contentResponseHeaders, content: bytesContent },
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
      const { caller, params, query } = request;
      // Without a condition or a range it is certain that bytes are sent: one statement finds the asset and writes the audit row.
      const isPlain = request.method === 'GET' && !asksMore.some((name) => request.headers[name] !== undefined);
      const asset = isPlain
        ? await findForDownload(request, params.id, 'asset.downloaded', {}, true)
        : servable(await required(assets.find(caller, params.id)));
      return deliver(request, reply, {
        store,
        places,
        callerId: caller.id,
        key: asset.objectKey,
        size: asset.size,
        entityTag: contentTag(asset),
        lastModified: asset.contentAt ?? asset.createdAt,
        headers: {
          'content-type': asset.mediaType,
          'content-disposition': dispositionFor(asset, query.disposition),
          'cache-control': asset.cacheControl,
          ...(asset.sha256 && { 'repr-digest': formatDigest(asset.sha256) }),
        },
        ...(!isPlain && {
          beforeBytes: async () => {
            const { range, isFirst } = rangeOf(request);
            await findForDownload(request, params.id, 'asset.downloaded', range, isFirst);
          },
        }),
        onSent,
      });
    },
  });

  if (store instanceof DiskObjectStore) diskLinkRoute(app, store, { assets, places, keyPrefix, onSent });

  async function issueLink(
    request: FastifyRequest & { params: z.output<typeof byId>; query: z.output<typeof linkQuery> },
  ): Promise<{ url: string; expiresAt: Date; asset: Asset }> {
    const { caller, params, query } = request;
    const life = linkLifeOf(caller, query.expiresIn, linkLife);
    const expiresIn = Math.min(life, await store.longestLink());
    const { derivative: wanted } = query;
    const detail = {
      expiresIn,
      ...(query.disposition !== undefined && { disposition: query.disposition }),
      ...(wanted !== undefined && { derivative: wanted }),
    };
    // Before the audit row, so that there is none of a link that was not made.
    const derivative =
      wanted === undefined
        ? undefined
        : await derivatives.find(servable(await required(assets.find(request.caller, params.id))), wanted);
    const asset = await findForDownload(request, params.id, 'asset.link-issued', detail, false);
    const expiresAt = new Date(Date.now() + expiresIn * 1000);
    const served = derivative
      ? { ...derivative, name: nameOfDerivative(asset, derivative), cacheControl: asset.cacheControl }
      : asset;
    const signed = await store.presignGet(served.objectKey, {
      expiresIn,
      contentType: served.mediaType,
      contentDisposition: dispositionFor(served, query.disposition),
      cacheControl: served.cacheControl,
    });
    return { url: toPublicUrl(request, signed), expiresAt, asset };
  }

  /** Finds the asset and writes the audit row in one statement; what is not served says why. */
  async function findForDownload(
    request: { caller: Caller; id: string },
    id: string,
    action: AuditAction,
    detail: Record<string, unknown>,
    counts: boolean,
  ): Promise<Asset> {
    const findOnce = () => assets.findForDownload(request.caller, id, action, actorOf(request), detail, counts);
    const asset = await findOnce();
    if (asset) return asset;
    servable(await required(assets.find(request.caller, id)));
    // It has become servable in between; no bytes are sent without an audit row.
    const second = await findOnce();
    if (!second) throw assetNotFound();
    return second;
  }
}

/** @throws Problem wrong-state unless the asset is ready and out of the trash */
export function servable(asset: Asset): Asset {
  if (asset.trashedAt) throw inTrash();
  if (asset.state !== 'ready')
    throw new Problem('wrong-state', { detail: `The asset is ${asset.state} and cannot be downloaded.` });
  return asset;
}

function dispositionFor(asset: Pick<Asset, 'name' | 'mediaType'>, wanted: 'inline' | 'attachment' | undefined): string {
  const type =
    wanted === 'inline' && !isSafeInline(asset.mediaType) ? 'attachment' : (wanted ?? dispositionOf(asset.mediaType));
  return contentDisposition(type, asset.name);
}

/** What is kept of the range that is asked for, and whether it begins with the first byte. */
function rangeOf({ headers: { range } }: FastifyRequest): { range: { range?: string }; isFirst: boolean } {
  if (range === undefined) return { range: {}, isFirst: true };
  return { range: { range: range.slice(0, 100) }, isFirst: /^bytes=0-/.test(range) };
}

/** What a presigned URL is to S3: the signature in the token is the permission, so there is no caller. */
function diskLinkRoute(
  app: App,
  store: DiskObjectStore,
  { assets, places, keyPrefix, onSent }: Pick<DownloadRoutesOptions, 'assets' | 'places' | 'keyPrefix' | 'onSent'>,
): void {
  app.route({
    method: ['GET', 'HEAD'],
    url: '/v1/links/:token',
    schema: {
      operationId: 'followLink',
      tags,
      summary: 'Follow a download link of the disk object store',
      description:
        'Where `createDownloadLink` leads when the service stores on its own disk. Do not build these URLs yourself.',
      security: [],
      params: z.object({ token: z.string().max(8192) }),
      headers: conditionalHeaders,
    },
    config: {
      public: true,
      servesBytes: true,
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
        'link-expired',
        'precondition-failed',
        'range-not-satisfiable',
        'too-many-downloads',
        'overloaded',
      ],
    },
    handler: async (request, reply) => {
      const permission = store.readLink(request.params.token);
      if (permission === 'invalid') throw new Problem('not-found', { detail: 'The link is not valid. Get a new one.' });
      if (permission === 'expired') throw new Problem('link-expired', { detail: 'Get a new link.' });
      // A presigned URL of S3 outlives the trash, as nobody asks the service; here it is asked.
      const id = assetIdOf(keyPrefix, permission.key);
      const isServed = id === undefined || (await assets.isServed(id));
      const head = isServed ? await store.head(permission.key, {}) : undefined;
      if (!head) throw new Problem('not-found', { detail: 'The file of this link was deleted, or is in the trash.' });
      return deliver(request, reply, {
        store,
        places,
        callerId: `address ${request.ip}`,
        key: permission.key,
        size: head.size,
        // A key is written once, so it stands for its bytes.
        entityTag: `"${createHash('sha256').update(permission.key).digest('base64url').slice(0, 22)}"`,
        lastModified: head.lastModified,
        headers: {
          'content-type': permission.contentType,
          'content-disposition': permission.contentDisposition,
          'cache-control': permission.cacheControl,
        },
        ...(id !== undefined && {
          beforeBytes: () => {
            const { range, isFirst } = rangeOf(request);
            const actor = { callerId: 'stowage:link', requestId: request.id, via: null, because: null };
            return assets.followLink(id, permission.key, actor, { ...range, counts: isFirst });
          },
        }),
        onSent,
      });
    },
  });
}
