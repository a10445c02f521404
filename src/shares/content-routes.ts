/** The bytes of what is shared: of files, as players and podcast programs ask for them, and of what was made of them. */

import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { archivedForStrangers, archivedProblem, isAtHand } from '../assets/archived.ts';
import { contentTag } from '../assets/asset.ts';
import { contentDisposition } from '../assets/content-disposition.ts';
import { conditionalHeaders, type Delivery, deliver } from '../assets/delivery.ts';
import { derivativeName, nameOfDerivative } from '../assets/derivative-names.ts';
import { ServedDerivatives } from '../assets/served-derivative.ts';
import { dispositionOf, isSafeInline } from '../assets/serving.ts';
import type { Core } from '../core.ts';
import { formatDigest } from '../http/digest-fields.ts';
import type { App } from '../http/openapi.ts';
import { assetId, binary } from '../http/schema-types.ts';
import { Problem, type ProblemType } from '../problems.ts';
import { serialise } from '../variants/options.ts';
import { addressedOptions, linkQuery } from '../variants/query.ts';
import { VariantsRepository } from '../variants/repository.ts';
import { type VariantSender, variantsOf } from '../variants/sending.ts';
import type { EnteredAsset, ShareDoor } from './door.ts';
import { leavingNoTrace } from './no-trace.ts';
import { sharePasswordNeeded, shareViewOnly, unknownShare } from './problems.ts';
import type { FoundShare } from './reach.ts';
import { isShownByBytes } from './show.ts';
import { byToken, publicBytes, strangerHeaders, strangerTags } from './stranger-routes.ts';

const bytesContent = { 'application/octet-stream': { schema: binary } };
const success = {
  status: 200,
  description: 'The bytes',
  content: bytesContent,
  headers: z.object({
    'Content-Disposition': z.string(),
    ETag: z.string(),
    'Last-Modified': z.string(),
    'Accept-Ranges': z.string(),
  }),
  others: {
    '206': { description: 'The range', content: bytesContent },
    '304': { description: 'The client has these bytes already' },
  },
};
const problems: ProblemType[] = [
  'not-found',
  sharePasswordNeeded,
  'invalid-parameter',
  'precondition-failed',
  'range-not-satisfiable',
  'too-many-requests',
  'too-many-downloads',
  'overloaded',
];
const disposition = z
  .enum(['inline', 'attachment'], { error: 'must be inline or attachment' })
  .optional()
  .meta({
    override: { type: 'string', enum: ['inline', 'attachment'] },
    description: 'Whether browsers show or save the file; `inline` is possible for images, audio and video',
  });
const contentQuery = z.strictObject({ disposition });
const ofAsset = byToken.extend({ assetId });
const imageQuery = linkQuery.omit({ expiresIn: true, srcset: true });

type BytesRequest = FastifyRequest & { params: { token: string; assetId?: string } };

export class ShareContentRoutes {
  readonly #core: Core;
  readonly #door: ShareDoor;
  readonly #derivatives: ServedDerivatives;
  readonly #variants: VariantsRepository;
  readonly #sender: VariantSender;

  constructor(core: Core, door: ShareDoor) {
    this.#core = core;
    this.#door = door;
    this.#derivatives = new ServedDerivatives(core);
    this.#variants = new VariantsRepository(core.database.database);
    this.#sender = variantsOf(core);
  }

  register(app: App): void {
    this.#contentRoutes(app);
    this.#derivativeRoute(app);
    this.#imageRoute(app);
  }

  #contentRoutes(app: App): void {
    const common = {
      method: ['GET', 'HEAD'] as ['GET', 'HEAD'],
      config: { ...publicBytes, success, problems: [...problems, shareViewOnly, archivedProblem] },
    };
    app.route({
      ...common,
      url: '/s/:token/content',
      schema: {
        operationId: 'downloadShare',
        tags: strangerTags,
        summary: 'Get the bytes of the one file that is shared',
        description:
          'The address stays as long as the share does, whatever the file is replaced by: for feeds and players. Honours one Range and all conditional header fields. The ranges of one download count once.',
        security: [],
        params: byToken,
        querystring: contentQuery,
        headers: conditionalHeaders,
      },
      handler: (request, reply) => this.#content(request, reply, request.query.disposition),
    });
    app.route({
      ...common,
      url: '/s/:token/assets/:assetId/content',
      schema: {
        operationId: 'downloadSharedAsset',
        tags: strangerTags,
        summary: 'Get the bytes of one of the files that are shared',
        security: [],
        params: ofAsset,
        querystring: contentQuery,
        headers: conditionalHeaders,
      },
      handler: (request, reply) => this.#content(request, reply, request.query.disposition),
    });
  }

  #derivativeRoute(app: App): void {
    app.route({
      method: ['GET', 'HEAD'],
      url: '/s/:token/assets/:assetId/derivatives/:name',
      schema: {
        operationId: 'downloadSharedDerivative',
        tags: strangerTags,
        summary: 'Get a thumbnail, a poster or a waveform of what is shared',
        description: 'Is no download of the file.',
        security: [],
        params: ofAsset.extend({ name: derivativeName }),
        headers: conditionalHeaders,
      },
      config: {
        ...publicBytes,
        success,
        problems: [...problems, 'derivative-pending', 'derivative-unavailable'],
      },
      handler: async (request, reply) => {
        const { row, share } = await this.#enter(request, reply);
        const made = await this.#derivatives.find(row.asset, request.params.name);
        // A transcode is the sound or the film itself.
        if (made.kind !== 'derivative') throw unknownShare();
        const type = dispositionOf(made.mediaType);
        return this.#deliver(request, reply, share, {
          key: made.objectKey,
          size: made.size,
          entityTag: `"${made.sha256?.toString('hex') ?? made.id}"`,
          lastModified: made.createdAt,
          headers: {
            'content-type': made.mediaType,
            'content-disposition': contentDisposition(type, nameOfDerivative(row.asset, made)),
            ...(made.sha256 && { 'repr-digest': formatDigest(made.sha256) }),
          },
        });
      },
    });
  }

  #imageRoute(app: App): void {
    app.route({
      method: ['GET', 'HEAD'],
      url: '/s/:token/assets/:assetId/image',
      schema: {
        operationId: 'getSharedVariant',
        tags: strangerTags,
        summary: 'Get a picture that is shared in another size or format',
        description: 'Sizes are rounded up to the ladder. Is no download of the file.',
        security: [],
        params: ofAsset,
        querystring: imageQuery,
        headers: conditionalHeaders,
      },
      config: { ...publicBytes, success, problems: [...problems, 'derivative-unavailable'] },
      handler: async (request, reply) => {
        const { row, share } = await this.#enter(request, reply);
        const { asset } = row;
        const options = addressedOptions(request.query, false);
        const found = await this.#variants.find(asset.id, serialise(options));
        if (!found) throw unknownShare();
        return this.#sender.send(request, reply, found, options, {
          callerId: `address ${request.ip}`,
          cacheControl: cachingOf(share),
        });
      },
    });
  }

  #enter(request: BytesRequest, reply: FastifyReply): Promise<EnteredAsset> {
    reply.headers(strangerHeaders);
    return this.#door.enterAsset(request, request.params.token, request.params.assetId);
  }

  async #content(
    request: BytesRequest,
    reply: FastifyReply,
    wanted: 'inline' | 'attachment' | undefined,
  ): Promise<FastifyReply> {
    const entered = await this.#enter(request, reply);
    const { share, row } = entered;
    const { asset } = row;
    if (share.allow === 'view' && (wanted === 'attachment' || !isShownByBytes(asset.mediaType)))
      throw new Problem(shareViewOnly, { detail: 'Whoever shared it lets it be looked at, and not saved.' });
    const type =
      wanted === 'inline' && !isSafeInline(asset.mediaType) ? 'attachment' : (wanted ?? dispositionOf(asset.mediaType));
    if (!isAtHand(asset)) throw archivedForStrangers();
    let isCounted = false;
    const sent = () =>
      this.#deliver(request, reply, share, {
        key: asset.objectKey,
        size: asset.size,
        entityTag: contentTag(asset),
        lastModified: asset.updatedAt,
        headers: {
          'content-type': asset.mediaType,
          'content-disposition': contentDisposition(type, asset.name),
          ...(asset.sha256 && { 'repr-digest': formatDigest(asset.sha256) }),
        },
        beforeBytes: async () => {
          isCounted = await this.#door.begin(entered, reply.statusCode === 206);
        },
      });
    return leavingNoTrace(reply, async () => {
      try {
        return await sent();
      } catch (error) {
        if (isCounted) await this.#door.downloads.takeBack(entered.download);
        throw error;
      }
    });
  }

  #deliver(
    request: FastifyRequest,
    reply: FastifyReply,
    share: FoundShare,
    delivery: Omit<Delivery, 'store' | 'places' | 'callerId' | 'onSent'>,
  ): Promise<FastifyReply> {
    const { reads, downloads: places, metrics } = this.#core;
    return deliver(request, reply, {
      ...delivery,
      ...{ store: reads, places, callerId: `address ${request.ip}` },
      headers: { ...delivery.headers, 'cache-control': cachingOf(share) },
      onSent: (bytes) => metrics.sent(bytes),
    });
  }
}

/** Whoever keeps bytes asks each time whether he may still show them: so what was revoked is gone from caches too. */
export function cachingOf({ password, maxDownloads, permanent }: FoundShare): string {
  if (password !== null || maxDownloads !== null) return 'private, no-store';
  return permanent ? 'public, no-cache' : 'private, no-cache';
}
