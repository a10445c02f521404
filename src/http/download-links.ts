/**
 * The links that are given out, all of them: to the object store, or to the CDN in front of it. Whoever asks for the same within a
 * window gets the same link (storage/link-window.ts), so signing it once is enough; those signed last are kept.
 */
import type { FastifyRequest } from 'fastify';
import { LRUCache } from 'lru-cache';
import type { Cdn } from '../storage/cdn.ts';
import { linkWindow } from '../storage/link-window.ts';
import type { LinkOptions, ObjectStore } from '../storage/object-store.ts';
import type { Reads, Served, Signer } from '../storage/reads.ts';
import type { ToPublicUrl } from './public-url.ts';

/** Of all links that are kept, with what they are kept under: some two thousand. Bytes. */
const MAX_KEPT = 2 * 1024 * 1024;
/** Of an entry, beside its texts. Bytes. */
const ENTRY = 300;

export interface Link extends Served {
  url: string;
  /** When it ends. */
  expiresAt: Date;
}

export interface DownloadLinksOptions {
  store: ObjectStore;
  /** Who signs while the store is away; the store itself when absent. */
  reads?: Pick<Reads, 'signerOf'>;
  cdn: Cdn | undefined;
  toPublicUrl: ToPublicUrl;
  now?: () => Date;
}

export class DownloadLinks {
  readonly #options: Required<DownloadLinksOptions>;
  readonly #kept = new LRUCache<string, Link>({
    maxSize: MAX_KEPT,
    sizeCalculation: ({ url }, name) => url.length + name.length + ENTRY,
  });

  constructor({ store, reads, cdn, toPublicUrl, now = () => new Date() }: DownloadLinksOptions) {
    const signer = { signerOf: async (key: string): Promise<Signer> => ({ store, key }) };
    this.#options = { store, reads: reads ?? signer, cdn, toPublicUrl, now };
  }

  /**
   * @param request of whoever is to follow the link
   * @param wanted `expiresIn` is what was asked for; between half and all of it is what the link has left
   */
  async issue(request: FastifyRequest, key: string, wanted: LinkOptions): Promise<Link> {
    const { cdn, toPublicUrl } = this.#options;
    const link = await this.#signed(key, wanted);
    return cdn || link.servedBy !== undefined ? link : { ...link, url: toPublicUrl(request, link.url) };
  }

  async #signed(key: string, wanted: LinkOptions): Promise<Link> {
    const { store, reads, cdn } = this.#options;
    const now = this.#options.now();
    const { signedAt, life, expiresAt } = linkWindow(now, wanted.expiresIn);
    const { contentType, contentDisposition, cacheControl } = wanted;
    const signer: Signer = cdn ? { store, key } : await reads.signerOf(key);
    const name = [
      signer.servedBy ?? '',
      key,
      signedAt.getTime(),
      life,
      contentType,
      contentDisposition,
      cacheControl,
    ].join('\n');
    const kept = this.#kept.get(name);
    // Of credentials that end before it does, there may be newer ones.
    if (kept && kept.expiresAt.getTime() - now.getTime() >= (life / 2) * 1000) return kept;
    const link = await this.#sign(signer, { ...wanted, expiresIn: life, signedAt }, expiresAt);
    this.#kept.set(name, link);
    return link;
  }

  async #sign(signer: Signer, wanted: LinkOptions & { signedAt: Date }, expiresAt: Date): Promise<Link> {
    const { cdn, now } = this.#options;
    const { store, key, servedBy } = signer;
    const { expiresIn: life, contentType, contentDisposition, cacheControl } = wanted;
    if (cdn) {
      const url = await cdn.sign({ key, contentType, contentDisposition, cacheControl, expiresAt, life });
      return { url, expiresAt };
    }
    const url = await store.presignGet(key, wanted);
    const longest = now().getTime() + (await store.longestLink()) * 1000;
    return {
      url,
      expiresAt: new Date(Math.min(expiresAt.getTime(), longest)),
      ...(servedBy !== undefined && { servedBy }),
    };
  }
}
