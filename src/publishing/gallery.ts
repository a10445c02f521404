/**
 * Galleries: what is public in a project, for everybody who knows its id. `Galleries` tells what is in one; programs get
 * that as JSON, and browsers a page (gallery-page.ts).
 */
import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { Asset } from '../assets/asset.ts';
import type { Core } from '../core.ts';
import type { App } from '../http/openapi.ts';
import {
  decodeCursor,
  encodeCursor,
  nextLink,
  pageCursor,
  pageEnd,
  pageHeaders,
  pageInfo,
  pageLimit,
} from '../http/paging.ts';
import { contentUrls } from '../http/public-url.ts';
import { bytesCount, projectId, timestamp } from '../http/schema-types.ts';
import { wantsHtml } from '../pages/negotiation.ts';
import { contextOf, problemPages, sendPage, varyBy } from '../pages/sending.ts';
import { galleryPage } from '../pages/share-pages.ts';
import { Problem } from '../problems.ts';
import { Pictures } from '../processing/pictures/pictures.ts';
import { wantedDerivatives } from '../processing/wanted.ts';
import { projectSettings } from '../projects/settings.ts';
import { DEFAULTS } from '../variants/options.ts';
import { publicAddress, type Wanted } from './address.ts';
import { galleryView } from './gallery-page.ts';
import { PublishingRepository } from './repository.ts';

/** Of cursors. */
const ORDER = 'publishedAt.desc';
/** Pixels: on the ladder, and enough for three in a row of a phone at twice its density. */
const THUMBNAIL_WIDTH = 384;

const url = z.string().meta({ override: { type: 'string', format: 'uri' } });
const pixels = z
  .number()
  .int()
  .min(1)
  .meta({ override: { type: 'integer', minimum: 1 }, description: 'Pixels' });

const galleryItem = z
  .object({
    id: z.string().meta({ override: { type: 'string', format: 'uuid' } }),
    name: z.string().meta({ example: 'photo.jpg' }),
    mediaType: z.string().meta({ example: 'image/jpeg' }),
    size: bytesCount,
    url: url.meta({ description: 'Where its bytes are, without a token' }),
    thumbnailUrl: url
      .optional()
      .meta({ description: 'A picture of it, where one can be made; the next address may say 404' }),
    width: pixels.optional(),
    height: pixels.optional(),
    duration: z.number().optional().meta({ description: 'Seconds, of sound and films' }),
    thumbHash: z.string().optional().meta({ description: 'A blurred picture in some 30 bytes, to be shown meanwhile' }),
    publishedAt: timestamp,
  })
  .meta({ id: 'GalleryItem' });

const galleryDocument = z
  .object({
    project: z
      .object({ id: z.string(), name: z.string().meta({ description: 'What people call it', example: 'Web site' }) })
      .meta({ id: 'GalleryProject' }),
    data: z.array(galleryItem),
    page: pageInfo,
  })
  .meta({ id: 'Gallery' });
export type GalleryDocument = z.input<typeof galleryDocument>;

/** Which page of a gallery. */
export interface GalleryQuery {
  cursor?: string | undefined;
  limit: number;
}

export class Galleries {
  readonly #core: Core;
  readonly #publishing: PublishingRepository;
  readonly #toUrl: ReturnType<typeof contentUrls>;

  constructor(core: Core) {
    this.#core = core;
    this.#publishing = new PublishingRepository(core.database.database);
    this.#toUrl = contentUrls(core.config);
  }

  /**
   * One page of a gallery, the latest first.
   * @throws Problem not-found for a project that is none, whatever else it is; invalid-parameter for a foreign cursor
   */
  async page(request: FastifyRequest, id: string, { cursor, limit }: GalleryQuery): Promise<GalleryDocument> {
    const after = cursor === undefined ? undefined : decodeCursor(ORDER, cursor);
    const { PUBLIC_GALLERIES } = this.#core.settings(projectSettings);
    const project = PUBLIC_GALLERIES ? await this.#publishing.gallery(id) : undefined;
    if (!project) throw new Problem('not-found', { detail: 'There is no gallery at this address.' });
    const assetTypes = this.#core.policies.all.flatMap((policy) => (policy.public ? policy.assetType : []));
    const rows = await this.#publishing.list(id, { assetTypes, after, limit: limit + 1 });
    const shown = rows.slice(0, limit);
    const last = rows.length > limit ? shown.at(-1) : undefined;
    const page = pageEnd(last && encodeCursor(ORDER, last.position));
    return { project, data: shown.map(({ asset }) => this.#item(request, asset)), page };
  }

  #item(request: FastifyRequest, asset: Asset): GalleryDocument['data'][number] {
    const { id, name, mediaType, size, facts = {}, thumbHash } = asset;
    const at = (wanted: Wanted) => this.#toUrl(request, publicAddress(asset, wanted));
    const thumbnail = this.#thumbnailOf(asset);
    return {
      id,
      name,
      mediaType,
      size,
      url: at({ kind: 'file' }),
      ...(thumbnail && { thumbnailUrl: at(thumbnail) }),
      ...(facts.width !== undefined && { width: facts.width }),
      ...(facts.height !== undefined && { height: facts.height }),
      ...(facts.duration !== undefined && { duration: facts.duration }),
      ...(thumbHash !== undefined && { thumbHash }),
      publishedAt: (asset.publishedAt ?? asset.createdAt).toISOString(),
    };
  }

  /** Of a picture a variant, which is there for all sizes of screens; of others what their policy makes of them. */
  #thumbnailOf({ mediaType, assetType }: Asset): Wanted | undefined {
    if (Pictures.canRead(mediaType))
      return { kind: 'variant', options: { width: THUMBNAIL_WIDTH, ...DEFAULTS, format: 'webp' } };
    const made = wantedDerivatives(this.#core, this.#core.policies.named(assetType), mediaType);
    const name = ['thumbnail', 'poster'].find((each) => made.has(each));
    return name === undefined ? undefined : { kind: 'derivative', name };
  }
}

export function galleryRoute(app: App, { config }: Pick<Core, 'config'>, galleries: Galleries, tags: string[]): void {
  app.get(
    '/g/:projectId',
    {
      schema: {
        operationId: 'getGallery',
        tags,
        summary: 'Look at the public gallery of a project',
        description:
          'For everybody, without a token: the public assets of a project that is a `gallery`, the latest first. Browsers get a page at the same address. Follow `nextCursor`, or the `Link` header with rel="next", until `hasMore` is false.',
        security: [],
        params: z.object({ projectId }),
        querystring: z.strictObject({ limit: pageLimit, cursor: pageCursor }),
        response: { 200: galleryDocument },
      },
      config: {
        public: true,
        anyOrigin: true,
        countsAsPublic: true,
        sendProblemPage: problemPages(config),
        success: { status: 200, description: 'A page of the gallery', headers: pageHeaders },
        problems: ['invalid-parameter', 'not-found', 'too-many-requests'],
      },
    },
    async (request, reply) => {
      const { params, query } = request;
      const gallery = await galleries.page(request, params.projectId, query);
      const { nextCursor } = gallery.page;
      // Kept for no time: what is taken out of it is out of it at once.
      reply.header('cache-control', 'no-cache');
      if (wantsHtml(request)) {
        const view = galleryView(gallery, query.limit, query.cursor !== undefined);
        return sendPage(reply, galleryPage(contextOf(config, request), view)) as never;
      }
      if (nextCursor !== undefined) reply.header('link', nextLink(request.url, nextCursor));
      varyBy(reply, 'Accept');
      return gallery;
    },
  );
}
