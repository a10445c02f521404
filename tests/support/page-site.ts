/** A site of pages alone: what `src/pages` makes of views that tests hand over, with files for it to show. */
import Fastify, { type FastifyRequest } from 'fastify';
import type { Page, PageContext } from '../../src/pages/layout.ts';
import type { OpenView, PageFile } from '../../src/pages/model.ts';
import { contextOf, sendPage } from '../../src/pages/sending.ts';
import { ICON, pathOf, SCRIPT, STYLE } from '../../src/pages/static-files.ts';
import { fixture } from './corpus.ts';
import { picture } from './pictures.ts';

export type MakePage = (context: PageContext) => Page;

const WAVEFORM =
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 120"><path fill="#888" d="M0 60L100 10 200 90 300 20 400 100 500 30 600 80 700 40 800 60z"/></svg>';

export type SiteFiles = Record<string, [type: string, bytes: Buffer | string]>;

export class PageSite {
  readonly #app = Fastify();
  readonly #pages = new Map<string, MakePage>();
  url = '';

  /** @param more files, by the names under which pages find them: `/files/{name}` */
  static async start(more: SiteFiles = {}): Promise<PageSite> {
    const site = new PageSite();
    const files: SiteFiles = {
      'large.jpg': ['image/jpeg', await picture({ width: 1600, height: 1000, seed: 3 })],
      'medium.jpg': ['image/jpeg', await picture({ width: 800, height: 500, seed: 3 })],
      'thumbnail.jpg': ['image/jpeg', await picture({ width: 400, height: 250, seed: 3 })],
      'waveform.svg': ['image/svg+xml', WAVEFORM],
      'film.webm': ['video/webm', fixture('clip.webm')],
      'sound.mp3': ['audio/mpeg', fixture('sound.mp3')],
      ...more,
    };
    for (const file of [STYLE, SCRIPT, ICON])
      site.#app.get(pathOf(file), (_request, reply) => reply.type(file.type).send(file.content));
    site.#app.get('/files/:name', (request: FastifyRequest<{ Params: { name: string } }>, reply) => {
      const [type, bytes] = files[request.params.name] ?? ['text/plain', ''];
      return reply.header('content-security-policy', "default-src 'none'; sandbox").type(type).send(bytes);
    });
    site.#app.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, (_request, body, done) =>
      done(null, body),
    );
    const answer = (request: FastifyRequest<{ Params: { id: string } }>) =>
      site.#pages.get(request.params.id)?.(contextOf({ PUBLIC_URL: undefined }, request));
    site.#app.route<{ Params: { id: string } }>({
      method: ['GET', 'POST'],
      url: '/s/:id',
      handler: (request, reply) => {
        const page = answer(request);
        return page ? sendPage(reply, page) : reply.code(404).send();
      },
    });
    site.url = await site.#app.listen({ host: '127.0.0.1', port: 0 });
    return site;
  }

  /** @returns the address of the page */
  show(id: string, page: MakePage): string {
    this.#pages.set(id, page);
    return `${this.url}/s/${id}`;
  }

  async close(): Promise<void> {
    this.#app.server.closeAllConnections();
    await this.#app.close();
  }
}

const common = { size: 2_400_000, contentPath: '/files/large.jpg', downloadPath: '/files/large.jpg' };

export const aPicture: PageFile = {
  ...common,
  name: 'Sunset over the harbour.jpg',
  mediaType: 'image/jpeg',
  kind: 'picture',
  picture: {
    src: '/files/medium.jpg',
    srcset: '/files/thumbnail.jpg 400w, /files/medium.jpg 800w, /files/large.jpg 1600w',
    width: 1600,
    height: 1000,
  },
  thumbnailPath: '/files/thumbnail.jpg',
};
export const aFilm: PageFile = {
  ...common,
  name: 'clip.webm',
  mediaType: 'video/webm',
  kind: 'video',
  duration: 187,
  contentPath: '/files/film.webm',
  posterPath: '/files/medium.jpg',
  thumbnailPath: '/files/thumbnail.jpg',
};
export const aSound: PageFile = {
  ...common,
  name: 'Episode 1.mp3',
  mediaType: 'audio/mpeg',
  kind: 'sound',
  duration: 3723,
  contentPath: '/files/sound.mp3',
  waveformPicturePath: '/files/waveform.svg',
};
export const aDocument: PageFile = {
  ...common,
  name: 'Offer.pdf',
  mediaType: 'application/pdf',
  kind: 'document',
  pages: 12,
  thumbnailPath: '/files/thumbnail.jpg',
};
export const aModel: PageFile = {
  ...common,
  name: 'chair.glb',
  mediaType: 'model/gltf-binary',
  kind: 'model',
  thumbnailPath: '/files/thumbnail.jpg',
};
export const aFile: PageFile = { ...common, name: 'Notes.txt', mediaType: 'text/plain', kind: 'file' };

export function viewOf(of: OpenView['of'], assets: readonly PageFile[], more: Partial<OpenView> = {}): OpenView {
  return { kind: 'open', path: '/s/share', allow: 'download', isProtected: false, of, assets, ...more };
}
