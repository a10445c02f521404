/** Public assets over HTTP. What is not there, not public, or not any more, is answered alike, and costs one statement. */

import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { archivedForStrangers, archivedProblem, isAtHand } from '../assets/archived.ts';
import { type Asset, contentTag } from '../assets/asset.ts';
import { contentDisposition } from '../assets/content-disposition.ts';
import { conditionalHeaders, deliver } from '../assets/delivery.ts';
import { nameOfDerivative } from '../assets/derivative-names.ts';
import { mayBePublic } from '../assets/publicity.ts';
import { ServedDerivatives } from '../assets/served-derivative.ts';
import type { Core } from '../core.ts';
import { contentHost } from '../http/content-host.ts';
import { formatDigest } from '../http/digest-fields.ts';
import type { App } from '../http/openapi.ts';
import { contentUrls } from '../http/public-url.ts';
import { networkOf } from '../http/refusal-limit.ts';
import { binary } from '../http/schema-types.ts';
import { Problem } from '../problems.ts';
import { VariantBudget } from '../variants/budget.ts';
import { serialise, type VariantOptions } from '../variants/options.ts';
import { VariantsRepository } from '../variants/repository.ts';
import { requirePicture, variantsOf } from '../variants/sending.ts';
import { variantSettings } from '../variants/settings.ts';
import { publicAddress, publicQuery, type Wanted, wantedIn } from './address.ts';
import type { PublicDownloads } from './downloads.ts';
import { cacheControl, cacheTag, showing } from './headers.ts';
import { PublishingRepository } from './repository.ts';

export const tags = ['Public'];
/** One address may have half of the new variants that the pictures of one owner may cost, so others find some left. */
const SHARE_OF_ADDRESS = 0.5;
/** Milliseconds for which what was found is believed: who waits for a place may wait for much longer. */
const BELIEVED = 500;
const isId = (text: string) => /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/.test(text);

const bytesHeaders = z.object({
  ETag: z.string(),
  'Last-Modified': z.string(),
  'Accept-Ranges': z.string(),
  'Cache-Control': z.string().meta({ example: 'public, max-age=3600, must-revalidate' }),
  'Content-Disposition': z.string(),
  'Cache-Tag': z.string().meta({ description: 'By which caches are told to forget it' }),
});
const bytesContent = { 'application/octet-stream': { schema: binary } };

/** One request for public bytes, of which it is known that they are there. */
interface PublicRequest {
  request: FastifyRequest;
  reply: FastifyReply;
  asset: Asset;
  /** Header fields that all of them have. */
  headers: Record<string, string>;
  callerId: string;
  /** Asks once more, where that takes long, before bytes are sent. @throws Problem not-found */
  stillPublic: () => Promise<void>;
}

export class PublicRoutes {
  readonly #core: Core;
  readonly #publishing: PublishingRepository;
  readonly #variants: VariantsRepository;
  readonly #derivatives: ServedDerivatives;
  readonly #downloads: PublicDownloads;
  readonly #budget: VariantBudget;
  readonly #isContentHost: ReturnType<typeof contentHost>;
  readonly #toUrl: ReturnType<typeof contentUrls>;

  constructor(core: Core, downloads: PublicDownloads) {
    const { VARIANTS_PER_MINUTE } = core.settings(variantSettings);
    this.#core = core;
    this.#publishing = new PublishingRepository(core.database.database);
    this.#variants = new VariantsRepository(core.database.database);
    this.#derivatives = new ServedDerivatives(core);
    this.#downloads = downloads;
    this.#budget = new VariantBudget(Math.ceil(VARIANTS_PER_MINUTE * SHARE_OF_ADDRESS));
    this.#isContentHost = contentHost(core.config.USERCONTENT_URL);
    this.#toUrl = contentUrls(core.config);
  }

  register(app: App): void {
    app.route({
      method: ['GET', 'HEAD'],
      url: '/p/:id/:name',
      schema: {
        operationId: 'getPublicAsset',
        tags,
        summary: 'Get the bytes of a public asset',
        description:
          'Where `publicUrl` leads: for everybody, without a token, for pages of every origin. With `width` a picture in another size. Under another name than the asset has now, the answer leads to the right one.',
        security: [],
        // What cannot be an id or a name is one that nothing has.
        params: z.object({ id: z.string(), name: z.string() }),
        querystring: publicQuery,
        headers: conditionalHeaders,
      },
      config: {
        public: true,
        servesBytes: true,
        anyOrigin: true,
        countsAsPublic: true,
        success: {
          status: 200,
          description: 'The bytes',
          headers: bytesHeaders,
          content: bytesContent,
          others: {
            '206': { description: 'The range', headers: bytesHeaders, content: bytesContent },
            '301': {
              description: 'It has another name now',
              headers: z.object({ Location: z.string().meta({ override: { type: 'string', format: 'uri' } }) }),
            },
            '304': { description: 'The client has these bytes already' },
          },
        },
        problems: [
          'invalid-parameter',
          'not-found',
          archivedProblem,
          'derivative-unavailable',
          'derivative-pending',
          'precondition-failed',
          'range-not-satisfiable',
          'too-many-requests',
          'too-many-downloads',
          'overloaded',
        ],
      },
      handler: async (request, reply) => {
        const { params, query } = request;
        const wanted = wantedIn(query);
        const asset = await this.#find(params.id);
        if (params.name !== asset.name) return this.#leadOn(request, reply, publicAddress(asset, wanted));
        return this.#send(request, reply, asset, wanted);
      },
    });
  }

  /** @throws Problem not-found */
  async #find(id: string): Promise<Asset> {
    const asset = isId(id) ? await this.#publishing.find(id) : undefined;
    if (!asset || !mayBePublic(this.#core.policies, asset.assetType)) throw nothingPublic();
    return asset;
  }

  /**
   * Links outlive names. It is not kept by anybody, as names may change back: a browser that has kept both ways round would go
   * in a circle.
   */
  #leadOn(request: FastifyRequest, reply: FastifyReply, address: string): FastifyReply {
    return reply.header('cache-control', 'no-cache').redirect(this.#toUrl(request, address), 301);
  }

  #send(request: FastifyRequest, reply: FastifyReply, asset: Asset, wanted: Wanted): Promise<FastifyReply> {
    const isTheSpelling = request.raw.url === publicAddress(asset, wanted);
    const foundAt = performance.now();
    const to: PublicRequest = {
      stillPublic: async () => {
        if (performance.now() - foundAt > BELIEVED) await this.#find(asset.id);
      },
      request,
      reply,
      asset,
      headers: {
        'cache-control': cacheControl(this.#core.config.PUBLIC_MAX_AGE, isTheSpelling),
        'cache-tag': cacheTag(asset.id),
      },
      callerId: `address ${networkOf(request.ip)}`,
    };
    if (wanted.kind === 'variant') return this.#sendVariant(to, wanted.options);
    return wanted.kind === 'derivative' ? this.#sendDerivative(to, wanted.name) : this.#sendFile(to);
  }

  async #sendFile({ request, reply, asset, headers, callerId, stillPublic }: PublicRequest): Promise<FastifyReply> {
    if (!isAtHand(asset)) throw archivedForStrangers();
    const shown = showing(asset.mediaType, this.#isContentHost(request));
    return deliver(request, reply, {
      store: this.#core.reads,
      places: this.#core.downloads,
      callerId,
      key: asset.objectKey,
      size: asset.size,
      entityTag: contentTag(asset),
      // The bytes may have been replaced since it was made.
      lastModified: asset.updatedAt,
      headers: {
        'content-type': asset.mediaType,
        'content-disposition': contentDisposition(shown.disposition, asset.name),
        ...(asset.sha256 && { 'repr-digest': formatDigest(asset.sha256) }),
        ...headers,
        ...shown.headers,
      },
      beforeBytes: async () => {
        await stillPublic();
        const { range } = request.headers;
        if (range === undefined || /^bytes=0-/.test(range)) this.#downloads.count(asset.id);
      },
      onSent: (bytes) => this.#core.metrics.sent(bytes),
    });
  }

  async #sendVariant(to: PublicRequest, options: VariantOptions): Promise<FastifyReply> {
    const { request, reply, asset, headers, callerId, stillPublic } = to;
    requirePicture(asset.mediaType);
    const found = await this.#variants.find(asset.id, serialise(options));
    if (!found) throw nothingPublic();
    if (found.found.state === 'absent') this.#takeOne(networkOf(request.ip));
    return variantsOf(this.#core).send(request, reply, found, options, {
      callerId,
      cacheControl: headers['cache-control'] ?? 'no-store',
      headers,
      // What strangers ask for takes nothing of what the owner may ask for himself.
      onAccountOf: `public ${asset.ownerId}`,
      beforeBytes: stillPublic,
    });
  }

  /** @throws Problem too-many-requests */
  #takeOne(network: string): void {
    const seconds = this.#budget.take(network);
    if (seconds === undefined) return;
    throw new Problem('too-many-requests', {
      detail: 'Too many new pictures were asked for from this address. Try again later.',
      retryAfter: seconds,
    });
  }

  async #sendDerivative(to: PublicRequest, name: string): Promise<FastifyReply> {
    const { request, reply, asset, headers, callerId, stillPublic } = to;
    const derivative = await this.#derivatives.find(asset, name);
    const shown = showing(derivative.mediaType, this.#isContentHost(request));
    return deliver(request, reply, {
      store: this.#core.reads,
      places: this.#core.downloads,
      callerId,
      key: derivative.objectKey,
      size: derivative.size,
      entityTag: `"${derivative.sha256?.toString('hex') ?? derivative.id}"`,
      lastModified: derivative.createdAt,
      headers: {
        'content-type': derivative.mediaType,
        'content-disposition': contentDisposition(shown.disposition, nameOfDerivative(asset, derivative)),
        ...(derivative.sha256 && { 'repr-digest': formatDigest(derivative.sha256) }),
        ...headers,
        ...shown.headers,
      },
      beforeBytes: stillPublic,
      onSent: (bytes) => this.#core.metrics.sent(bytes),
    });
  }
}

/** For a private asset, one that is gone and one that never was: the same, to the letter. */
function nothingPublic(): Problem {
  return new Problem('not-found', { detail: 'There is nothing public at this address.' });
}
