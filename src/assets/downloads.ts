/** Downloads: a link to the object store or a CDN, and the bytes through the service. */
import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import { actorOf } from '../access/caller.ts';
import { accessOf } from '../access/conditions.ts';
import { MAX_LINK } from '../config.ts';
import { formatDigest } from '../http/digest-fields.ts';
import type { DownloadPlaces } from '../http/download-places.ts';
import type { App } from '../http/openapi.ts';
import { assetId, binary, timestamp } from '../http/schema-types.ts';
import { assetNotFound, type ProblemType } from '../problems.ts';
import { type Reads, servedByOf } from '../storage/reads.ts';
import { archivedProblem } from './archived.ts';
import { type Asset, assetDocument, contentTag, toDocument } from './asset.ts';
import { conditionalHeaders, deliver } from './delivery.ts';
import { derivativeName } from './derivative-names.ts';
import { dispositionFor, downloadable, type LinkIssuer } from './issued-links.ts';
import { linkUrl } from './link-document.ts';
import type { AssetsRepository } from './repository.ts';
import { required } from './routes.ts';
import { changing } from './serving.ts';

export interface DownloadRoutesOptions {
  assets: AssetsRepository;
  issuer: LinkIssuer;
  store: Pick<Reads, 'get'>;
  places: DownloadPlaces;
  onSent: (bytes: number) => void;
}

const tags = ['Downloads'];
const byId = z.object({ id: assetId });

export const disposition = z
  .enum(['inline', 'attachment'], { error: 'must be inline or attachment' })
  .meta({ id: 'Disposition' })
  .optional()
  .meta({
    description:
      'Whether browsers show or save the file. `inline` is possible for images, audio and video; everything else is an attachment',
  });

/** In a body. */
export const linkLifetime = z
  .number({ error: `must be 1 to ${MAX_LINK}` })
  .int(`must be 1 to ${MAX_LINK}`)
  .min(1, `must be 1 to ${MAX_LINK}`)
  .max(MAX_LINK, `must be 1 to ${MAX_LINK}`)
  .meta({
    override: { type: 'integer', minimum: 1, maximum: MAX_LINK },
    description: 'How long each link is valid at most, in seconds, up to 7 days; at least half of it is left',
    example: 3600,
  });

export const expiresIn = z
  .string()
  .regex(/^\d{1,6}$/, `must be 1 to ${MAX_LINK}`)
  .transform(Number)
  .refine((n) => n >= 1 && n <= MAX_LINK, `must be 1 to ${MAX_LINK}`)
  .optional()
  .meta({
    override: { type: 'integer', minimum: 1, maximum: MAX_LINK },
    description: 'How long the link is valid at most, in seconds, up to 7 days; at least half of it is left',
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
    url: linkUrl,
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
export const bytesContent = { 'application/octet-stream': { schema: binary } };

const linkProblems: ProblemType[] = [
  'not-found',
  'wrong-state',
  archivedProblem,
  'derivative-pending',
  'derivative-unavailable',
];

/** Header fields that may make the answer another one than all the bytes. */
const asksMore = Object.keys(conditionalHeaders.shape);

export function downloadRoutes(app: App, { assets, issuer, store, places, onSent }: DownloadRoutesOptions): void {
  app.get(
    '/v1/assets/:id/download',
    {
      schema: {
        operationId: 'createDownloadLink',
        tags,
        summary: 'Get a download link that is valid for a limited time',
        description:
          'The link needs no token and leads straight to the object store, or to the CDN in front of it. It is the same for everybody who asks within a window, so browsers and caches keep what it leads to; between half and all of `expiresIn` is left of it, as `expiresAt` tells. It ends when it expires or the asset is deleted for good; links of the disk store end in the trash too. To be led there at once, ask `redirectToDownload`.',
        params: byId,
        querystring: linkQuery,
        response: { 200: link },
      },
      config: { action: 'asset.download', success: { status: 200, description: 'The link' }, problems: linkProblems },
    },
    async (request, reply) => {
      const { url, expiresAt, asset, servedBy } = await issuer.issue(request, request.params.id, request.query);
      reply.header('cache-control', 'no-store').headers(servedByOf({ servedBy }));
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
      const { url, servedBy } = await issuer.issue(request, request.params.id, request.query);
      return reply.header('cache-control', 'no-store').headers(servedByOf({ servedBy })).redirect(url, 302) as never;
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
        archivedProblem,
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
        ? await findForDownload(request, params.id, {}, true)
        : downloadable(await required(assets.find(caller, params.id)));
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
          'cache-control': changing(asset.cacheControl),
          ...(asset.sha256 && { 'repr-digest': formatDigest(asset.sha256) }),
        },
        ...(!isPlain && {
          beforeBytes: async () => {
            const { range, isFirst } = rangeOf(request);
            await findForDownload(request, params.id, range, isFirst);
          },
        }),
        onSent,
      });
    },
  });

  /** Finds the asset and writes the audit row in one statement; what is not served says why. */
  async function findForDownload(
    request: FastifyRequest,
    id: string,
    detail: { range?: string },
    counts: boolean,
  ): Promise<Asset> {
    const { caller } = request;
    const action = 'asset.downloaded';
    const found = await assets.findWanted({
      id,
      access: accessOf(caller),
      actor: actorOf(request),
      action,
      detail,
      counts,
    });
    if (!found) throw assetNotFound();
    return downloadable(found.asset);
  }
}

/** What is kept of the range that is asked for, and whether it begins with the first byte. */
export function rangeOf({ headers: { range } }: FastifyRequest): { range: { range?: string }; isFirst: boolean } {
  if (range === undefined) return { range: {}, isFirst: true };
  return { range: { range: range.slice(0, 100) }, isFirst: /^bytes=0-/.test(range) };
}
