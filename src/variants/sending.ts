/** Sends a variant, whoever asks for it and by whatever right: as it is, or as it is made now. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { contentDisposition } from '../assets/content-disposition.ts';
import { deliver, signalOf } from '../assets/delivery.ts';
import { nameOfDerivative } from '../assets/derivative-names.ts';
import type { Core } from '../core.ts';
import { formatDigest } from '../http/digest-fields.ts';
import { Problem } from '../problems.ts';
import { Pictures } from '../processing/pictures/pictures.ts';
import { VariantMaker } from './maker.ts';
import { mediaTypeOf, serialise, type VariantOptions } from './options.ts';
import type { FoundPicture, Picture } from './repository.ts';

/** To whom, and how it may be kept. */
export interface VariantRecipient {
  /** Whose place for downloads it takes. */
  callerId: string;
  cacheControl: string;
  /** Further header fields. */
  headers?: Record<string, string>;
  /** Whose budget it takes of when it has to be made; the owner's of the picture when absent. */
  onAccountOf?: string;
  beforeBytes?: () => Promise<void>;
}

export class VariantSender {
  readonly #core: Core;
  readonly maker: VariantMaker;

  constructor(core: Core) {
    this.#core = core;
    this.maker = new VariantMaker(core);
  }

  /** @throws Problem derivative-unavailable, overloaded, too-many-requests, and those of `deliver` */
  async send(
    request: FastifyRequest,
    reply: FastifyReply,
    { picture: found, ...rest }: FoundPicture,
    options: VariantOptions,
    { cacheControl, headers, onAccountOf, ...to }: VariantRecipient,
  ): Promise<FastifyReply> {
    requirePicture(found.mediaType);
    const picture = { ...found, ownerId: onAccountOf ?? found.ownerId };
    const signal = signalOf(reply);
    const variant = await this.maker.provide({ picture, ...rest }, options, signal);
    return deliver(request, reply, {
      ...to,
      signal,
      store: this.#core.reads,
      places: this.#core.downloads,
      key: variant.objectKey,
      size: variant.size,
      entityTag: `"${variant.sha256.toString('hex')}"`,
      lastModified: variant.madeAt,
      headers: {
        'content-type': mediaTypeOf(options.format),
        'content-disposition': contentDisposition('inline', fileNameOf(picture, options)),
        'cache-control': cacheControl,
        'repr-digest': formatDigest(variant.sha256),
        ...headers,
      },
      onMissing: async () => (await this.maker.makeAgain(picture, variant, options, signal))?.objectKey,
      onSent: (bytes) => this.#core.metrics.sent(bytes),
    });
  }
}

const senders = new WeakMap<object, VariantSender>();

/** The one of a service: it knows what is being made. */
export function variantsOf(core: Core): VariantSender {
  const known = senders.get(core) ?? new VariantSender(core);
  senders.set(core, known);
  return known;
}

/** @throws Problem derivative-unavailable */
export function requirePicture(mediaType: string): void {
  if (Pictures.canRead(mediaType)) return;
  throw new Problem('derivative-unavailable', {
    detail: `Variants are made of JPEG, PNG, WebP, GIF, AVIF and HEIC. The asset is ${mediaType}.`,
  });
}

/** `photo.jpg` becomes `photo.w512.webp`. */
function fileNameOf({ name }: Picture, options: VariantOptions): string {
  const spelling = serialise(options);
  const stem = spelling.slice(0, spelling.lastIndexOf('.'));
  return nameOfDerivative({ name }, { name: stem, mediaType: mediaTypeOf(options.format) });
}
