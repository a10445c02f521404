/** Variants of pictures over HTTP: for callers, by signed addresses for pages and CDNs, and the signing of those. */
import type { FastifyReply } from 'fastify';
import { z } from 'zod';
import { actorOf, type Caller } from '../access/caller.ts';
import { linkLifeOf } from '../access/tiers.ts';
import { conditionalHeaders } from '../assets/delivery.ts';
import { servable } from '../assets/issued-links.ts';
import { AssetsRepository } from '../assets/repository.ts';
import { required } from '../assets/routes.ts';
import { changing } from '../assets/serving.ts';
import type { Core } from '../core.ts';
import type { App } from '../http/openapi.ts';
import { contentUrls } from '../http/public-url.ts';
import { assetId, binary, timestamp } from '../http/schema-types.ts';
import { assetNotFound, Problem, type ProblemType } from '../problems.ts';
import { linkWindow } from '../storage/link-window.ts';
import { chooseFormat } from './accept.ts';
import { readAddress, revisionOf, signAddress } from './address.ts';
import { VariantKeys } from './keys.ts';
import { type Format, mediaTypeOf, serialise } from './options.ts';
import { addressedOptions, imageQuery, linkQuery, optionsFor } from './query.ts';
import { type FoundPicture, VariantsRepository } from './repository.ts';
import { requirePicture, type VariantSender, variantsOf } from './sending.ts';
import { variantSettings } from './settings.ts';
import { type Step, srcsetOf, stepsOf } from './srcset.ts';

const tags = ['Pictures'];
/** Seconds; a year, which is as long as caches keep anything. */
const IMMUTABLE = 'max-age=31536000, immutable';

const problems: ProblemType[] = [
  'not-found',
  'derivative-unavailable',
  'precondition-failed',
  'range-not-satisfiable',
  'too-many-downloads',
  'overloaded',
];

const bytesHeaders = z.object({
  ETag: z.string(),
  'Last-Modified': z.string(),
  'Accept-Ranges': z.string(),
  'Cache-Control': z.string(),
});
const bytesContent = { 'application/octet-stream': { schema: binary } };
const success = {
  status: 200,
  description: 'The picture',
  headers: bytesHeaders,
  content: bytesContent,
  others: {
    '206': { description: 'The range', headers: bytesHeaders, content: bytesContent },
    '304': { description: 'The client has these bytes already' },
  },
};

const url = z.string().meta({
  override: { type: 'string', format: 'uri' },
  description: 'Whoever has this address can see the picture, without a token',
  example:
    'https://files.example.com/v1/variants/019aa1b2-7c3d-7e4f-8a5b-6c7d8e9fa0b1/b94d27b9934d3e08/w512.webp?exp=1795003200&sig=k1hE0yqJ8n2mZk3n0mV9Aw',
});
const width = z
  .number()
  .int()
  .min(1)
  .meta({ override: { type: 'integer', minimum: 1 }, description: 'Pixels' });
const variantLink = z
  .object({
    url,
    expiresAt: timestamp,
    variant: z
      .string()
      .meta({ description: 'The one spelling of what was asked for', example: 'w512-h384-cover.webp' }),
    mediaType: z.string().meta({ example: 'image/webp' }),
    srcset: z.string().optional().meta({ description: 'For the attribute `srcset` of an `<img>`, with `srcset=true`' }),
    steps: z
      .array(z.object({ url, variant: z.string(), width }).meta({ id: 'VariantStep' }))
      .optional()
      .meta({ description: 'The same as a list, from the smallest, with `srcset=true`' }),
  })
  .meta({ id: 'VariantLink' });

/** Header fields that may make the answer another one than all the bytes. */
const asksMore = Object.keys(conditionalHeaders.shape);

export class VariantRoutes {
  readonly #core: Core;
  readonly #sender: VariantSender;
  readonly #assets: AssetsRepository;
  readonly #variants: VariantsRepository;
  readonly #keys: VariantKeys;
  readonly #toUrl: ReturnType<typeof contentUrls>;

  constructor(core: Core) {
    this.#core = core;
    this.#sender = variantsOf(core);
    this.#assets = new AssetsRepository(core.database);
    this.#variants = new VariantsRepository(core.database.database);
    this.#keys = new VariantKeys(core.database.database, core.onError);
    this.#toUrl = contentUrls(core.config);
  }

  register(app: App): void {
    this.#callersRoute(app);
    this.#linkRoute(app);
    this.#addressRoute(app);
  }

  #callersRoute(app: App): void {
    app.route({
      method: ['GET', 'HEAD'],
      url: '/v1/assets/:id/image',
      schema: {
        operationId: 'getVariant',
        tags,
        summary: 'Get a picture in another size or format',
        description:
          'Made when it is asked for first, and kept. Upright, in sRGB, without metadata; of a moving picture the first frame. For pages use addresses that are signed by `createVariantLink`: browsers and CDNs may keep what those lead to.',
        params: z.object({ id: assetId }),
        querystring: imageQuery,
        headers: conditionalHeaders.extend({
          accept: z.string().optional().meta({ description: 'Chooses the format with `format=auto`' }),
        }),
      },
      config: {
        action: 'asset.download',
        servesBytes: true,
        success,
        problems: ['wrong-state', 'not-acceptable', ...problems],
      },
      handler: async (request, reply) => {
        const { caller, params, query, headers } = request;
        if (query.format === 'auto') varyByAccept(reply);
        const options = optionsFor(query, query.format === 'auto' ? acceptedFormat(headers.accept) : query.format);
        const variant = serialise(options);
        const actor = actorOf(request);
        // Without a condition or a range it is certain that bytes are sent: one statement finds them and writes the audit row.
        const isPlain = request.method === 'GET' && !asksMore.some((name) => request.headers[name] !== undefined);
        const find = () =>
          isPlain
            ? this.#variants.download(caller, params.id, variant, actor)
            : this.#variants.findFor(caller, params.id, variant);
        const found = (await find()) ?? (await this.#notShown(caller, params.id, find));
        const isAudited = isPlain && found.found.state === 'ready';
        const audit = async () => {
          const audited = await this.#assets.findForDownload(caller, params.id, 'asset.downloaded', actor, {
            variant,
          });
          if (!audited) throw assetNotFound();
        };
        const picture = { ...found.picture, askedBy: caller };
        return this.#sender.send(request, reply, { ...found, picture }, options, {
          callerId: caller.id,
          cacheControl: changing(found.picture.cacheControl ?? 'private'),
          ...(!isAudited && { beforeBytes: audit }),
        });
      },
    });
  }

  /** Says why an asset is not shown; or finds it, if it is shown since. @throws Problem not-found, wrong-state */
  async #notShown(
    caller: Caller,
    id: string,
    findAgain: () => Promise<FoundPicture | undefined>,
  ): Promise<FoundPicture> {
    servable(await required(this.#assets.find(caller, id)));
    const found = await findAgain();
    if (!found) throw assetNotFound();
    return found;
  }

  #linkRoute(app: App): void {
    const { VARIANT_LINK_TTL } = this.#core.settings(variantSettings);
    app.get(
      '/v1/assets/:id/variants/link',
      {
        schema: {
          operationId: 'createVariantLink',
          tags,
          summary: 'Sign the address of a variant, or of a whole ladder of sizes',
          description:
            'The address needs no token, and its answer never changes. It ends when it expires, or the asset is deleted or in the trash. Sizes are rounded up to the ladder. With `srcset=true` one address for each width of the ladder up to `width` is signed.',
          params: z.object({ id: assetId }),
          querystring: linkQuery,
          response: { 200: variantLink },
        },
        config: {
          action: 'asset.download',
          success: { status: 200, description: 'The address' },
          problems: ['not-found', 'wrong-state', 'derivative-unavailable'],
        },
      },
      async (request, reply) => {
        const { caller, params, query } = request;
        const options = addressedOptions(query, query.srcset);
        const expiresIn = linkLifeOf(caller, query.expiresIn, VARIANT_LINK_TTL / 1000);
        requirePicture(servable(await required(this.#assets.find(caller, params.id))).mediaType);
        const detail = { variant: serialise(options), expiresIn, ...(query.srcset && { srcset: true }) };
        const action = 'asset.variant-link-issued';
        const asset = await this.#assets.findForDownload(caller, params.id, action, actorOf(request), detail);
        if (!asset) throw assetNotFound();
        const { expiresAt } = linkWindow(new Date(), expiresIn);
        const expires = expiresAt.getTime() / 1000;
        const { current } = await this.#keys.ring();
        const parts = { assetId: asset.id, revision: revisionOf(asset), expires };
        const signed = (step: Step) => ({
          url: this.#toUrl(request, signAddress(current, { ...parts, options: step.options })),
          variant: serialise(step.options),
          width: step.width,
        });
        const steps = query.srcset ? stepsOf(options, asset.facts ?? {}).map(signed) : undefined;
        const single = steps?.at(-1) ?? signed({ options, width: 0 });
        reply.header('cache-control', 'no-store');
        return {
          url: single.url,
          expiresAt: expiresAt.toISOString(),
          variant: single.variant,
          mediaType: mediaTypeOf(options.format),
          ...(steps && { srcset: srcsetOf(steps), steps }),
        };
      },
    );
  }

  /** The signature is the permission, so there is no caller. What is wrong with an address, nobody is told. */
  #addressRoute(app: App): void {
    const { VARIANT_CACHE } = this.#core.settings(variantSettings);
    app.route({
      method: ['GET', 'HEAD'],
      url: '/v1/variants/:assetId/:revision/:variant',
      schema: {
        operationId: 'followVariantLink',
        tags,
        summary: 'Follow the signed address of a variant',
        description:
          'Where `createVariantLink` leads. There is one spelling of each address; do not build them yourself.',
        security: [],
        params: z.object({ assetId: z.string(), revision: z.string(), variant: z.string() }),
        // Nothing is refused here: an address that is not as it was signed is unknown, whatever is wrong with it.
        querystring: z.object({
          exp: z
            .unknown()
            .optional()
            .meta({ override: { type: 'integer' }, description: 'When it ends, seconds since 1970' }),
          sig: z
            .unknown()
            .optional()
            .meta({ override: { type: 'string' }, description: 'The signature' }),
        }),
        headers: conditionalHeaders,
      },
      config: { public: true, servesBytes: true, success, problems: [...problems, 'too-many-requests'] },
      handler: async (request, reply) => {
        const { accepted } = await this.#keys.ring();
        const address = readAddress(accepted, request.raw.url ?? '', Math.floor(Date.now() / 1000));
        const found = address && (await this.#variants.find(address.assetId, serialise(address.options)));
        if (!found || revisionOf(found.picture) !== address.revision)
          throw new Problem('not-found', { detail: 'The address is not valid. Get a new one.' });
        return this.#sender.send(request, reply, found, address.options, {
          callerId: `address ${request.ip}`,
          cacheControl: `${VARIANT_CACHE}, ${IMMUTABLE}`,
        });
      },
    });
  }
}

/** @throws Problem not-acceptable */
function acceptedFormat(accept: string | undefined): Format {
  const format = chooseFormat(accept);
  if (format === undefined)
    throw new Problem('not-acceptable', { detail: 'There are image/webp, image/avif, image/jpeg and image/png.' });
  return format;
}

/** Beside what else the answer depends on. */
function varyByAccept(reply: FastifyReply): void {
  const others = reply.getHeader('vary');
  reply.header('vary', others === undefined ? 'Accept' : `${others}, Accept`);
}
