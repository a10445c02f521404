/**
 * Galleries: what is public in a project, for everybody who knows its id. `Galleries` tells what is in one; the routes send
 * that as JSON, or as a page to browsers.
 */
import type { FastifyReply, FastifyRequest } from 'fastify';
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
import { assetId, bytesCount, projectId, timestamp } from '../http/schema-types.ts';
import { wantsHtml } from '../pages/negotiation.ts';
import { contextOf, problemPages, sendPage, varyBy } from '../pages/sending.ts';
import { filePage, galleryPage } from '../pages/share-pages.ts';
import { Problem, type ProblemType } from '../problems.ts';
import { Pictures } from '../processing/pictures/pictures.ts';
import { wantedDerivatives } from '../processing/wanted.ts';
import { projectSettings } from '../projects/settings.ts';
import { DEFAULTS } from '../variants/options.ts';
import { publicAddress, type Wanted } from './address.ts';
import { type GalleryPlaces, galleryView } from './gallery-view.ts';
import { type Gallery, PublishingRepository } from './repository.ts';

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

/** One page of a gallery. */
interface GalleryPage {
  project: Gallery;
  assets: Asset[];
  /** The cursor of the page after it. */
  next?: string;
}

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
  async page(id: string, { cursor, limit }: GalleryQuery): Promise<GalleryPage> {
    const after = cursor === undefined ? undefined : decodeCursor(ORDER, cursor);
    const project = await this.#gallery(id);
    const rows = await this.#publishing.list(id, { assetTypes: this.#publicTypes(), after, limit: limit + 1 });
    const shown = rows.slice(0, limit);
    const last = rows.length > limit ? shown.at(-1) : undefined;
    return {
      project,
      assets: shown.map(({ asset }) => asset),
      ...(last && { next: encodeCursor(ORDER, last.position) }),
    };
  }

  /** One asset of a gallery. @throws Problem not-found */
  async one(id: string, assetId: string): Promise<{ project: Gallery; asset: Asset }> {
    const project = await this.#gallery(id);
    const asset = await this.#publishing.find(assetId);
    if (asset?.projectId !== id || !this.#publicTypes().includes(asset.assetType)) throw noGallery();
    return { project, asset };
  }

  /** What pages say where bytes are. */
  get places(): GalleryPlaces {
    const { config, policies } = this.#core;
    return {
      contentUrl: config.USERCONTENT_URL,
      derivativesOf: ({ mediaType, assetType }) =>
        new Set(wantedDerivatives(this.#core, policies.named(assetType), mediaType).keys()),
    };
  }

  async #gallery(id: string): Promise<Gallery> {
    const { PUBLIC_GALLERIES } = this.#core.settings(projectSettings);
    const project = PUBLIC_GALLERIES ? await this.#publishing.gallery(id) : undefined;
    if (!project) throw noGallery();
    return project;
  }

  #publicTypes(): string[] {
    return this.#core.policies.all.flatMap((policy) => (policy.public ? policy.assetType : []));
  }

  /** As programs see it. */
  item(request: FastifyRequest, asset: Asset): z.input<typeof galleryItem> {
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

/** For what is no gallery, or not any more, and for what is not in one: the same, to the letter. */
function noGallery(): Problem {
  return new Problem('not-found', { detail: 'There is no gallery at this address.' });
}

export function galleryRoutes(app: App, core: Core, tags: string[]): void {
  const galleries = new Galleries(core);
  const common = { public: true, anyOrigin: true, countsAsPublic: true, sendProblemPage: problemPages(core.config) };
  const problems: ProblemType[] = ['invalid-parameter', 'not-found', 'too-many-requests'];
  /** Kept for no time: what is taken out of a gallery is out of it at once. */
  const start = (request: FastifyRequest, reply: FastifyReply): boolean => {
    varyBy(reply.header('cache-control', 'no-cache'), 'Accept');
    return wantsHtml(request);
  };

  app.get(
    '/g/:projectId',
    {
      schema: {
        operationId: 'getGallery',
        tags,
        summary: 'Look at the public gallery of a project',
        description:
          'For everybody, without a token: the public assets of a project that is a `gallery`, the latest first; a page for whoever prefers HTML. Follow `nextCursor`, or the `Link` header with rel="next", until `hasMore` is false.',
        security: [],
        params: z.object({ projectId }),
        querystring: z.strictObject({ limit: pageLimit, cursor: pageCursor }),
        response: { 200: galleryDocument },
      },
      config: {
        ...common,
        success: { status: 200, description: 'A page of the gallery', headers: pageHeaders },
        problems,
      },
    },
    async (request, reply) => {
      const { params, query } = request;
      const isPage = start(request, reply);
      const { project, assets, next } = await galleries.page(params.projectId, query);
      if (next !== undefined) reply.header('link', nextLink(request.url, next));
      if (!isPage) return { project, data: assets.map((asset) => galleries.item(request, asset)), page: pageEnd(next) };
      const parameters =
        next === undefined ? undefined : new URLSearchParams({ limit: `${query.limit}`, cursor: next });
      const more = { next: parameters?.toString(), isContinued: query.cursor !== undefined };
      const view = galleryView(project, assets, galleries.places, more);
      return sendPage(reply, galleryPage(contextOf(core.config, request), view)) as never;
    },
  );

  app.get(
    '/g/:projectId/assets/:assetId',
    {
      schema: {
        operationId: 'getGalleryItem',
        tags,
        summary: 'Look at one asset of a public gallery',
        description: 'For everybody, without a token; a page for whoever prefers HTML.',
        security: [],
        params: z.object({ projectId, assetId }),
        response: { 200: galleryItem },
      },
      config: { ...common, success: { status: 200, description: 'The asset' }, problems },
    },
    async (request, reply) => {
      const { params } = request;
      const isPage = start(request, reply);
      const { project, asset } = await galleries.one(params.projectId, params.assetId);
      if (!isPage) return galleries.item(request, asset);
      const view = galleryView(project, [asset], galleries.places, { isContinued: false });
      const [file] = view.assets;
      if (!file) throw noGallery();
      return sendPage(reply, filePage(contextOf(core.config, request), { ...view, file })) as never;
    },
  );
}
