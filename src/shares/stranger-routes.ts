/** What a stranger looks at: a share as JSON or as a page, and its password. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { Core } from '../core.ts';
import type { App } from '../http/openapi.ts';
import {
  decodeCursor,
  decodeTextCursor,
  encodeCursor,
  encodeTextCursor,
  pageCursor,
  pageLimit,
} from '../http/paging.ts';
import { serviceUrls } from '../http/public-url.ts';
import { Problem } from '../problems.ts';
import { sharedView, unlocked, unlockRequest } from './documents.ts';
import type { EnteredShare, ShareDoor } from './door.ts';
import { sharePasswordNeeded } from './problems.ts';
import type { SharedRow } from './reach.ts';
import { openView } from './show.ts';
import { pathOf } from './token.ts';
import type { SharePages, ShareView } from './view.ts';
import { newVisit, VISIT_COOKIE } from './visitor.ts';

export const strangerTags = ['Shared'];
export const byToken = z.object({
  token: z.string().meta({ description: 'Of the address of the share', example: 'aXk3mQ0eQ1uT2vR5wY8zLw' }),
});
/** Header fields of every answer: no search engine lists it, and any page may ask for what has no password. */
export const strangerHeaders = {
  'x-robots-tag': 'noindex, nofollow',
  'access-control-allow-origin': '*',
  'access-control-expose-headers':
    'Accept-Ranges, Content-Disposition, Content-Length, Content-Range, ETag, Last-Modified, Repr-Digest, Retry-After',
};
/** Seconds for which a browser is known again by its visit. */
const VISIT_LIFE = 24 * 3600;

const viewQuery = z.strictObject({ limit: pageLimit, cursor: pageCursor });

export interface StrangerRouteOptions {
  core: Core;
  door: ShareDoor;
  /** Shows shares to people; without it there is JSON only. */
  pages?: SharePages;
}

export class StrangerRoutes {
  readonly #door: ShareDoor;
  readonly #pages: SharePages | undefined;
  readonly #toUrl: ReturnType<typeof serviceUrls>;

  constructor({ core, door, pages }: StrangerRouteOptions) {
    this.#door = door;
    this.#pages = pages;
    this.#toUrl = serviceUrls(core.config);
  }

  register(app: App): void {
    // A page without JavaScript sends its form so (HTML, "URL-encoded form data").
    app.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, (_request, body, done) =>
      done(null, Object.fromEntries(new URLSearchParams(body.toString()))),
    );
    this.#viewRoute(app);
    this.#unlockRoute(app);
  }

  #viewRoute(app: App): void {
    app.route({
      method: ['GET', 'HEAD'],
      url: '/s/:token',
      schema: {
        operationId: 'openShare',
        tags: strangerTags,
        summary: 'Look at a share',
        description:
          'JSON, or a page for whoever prefers HTML. What is unknown, revoked, expired, used up or deleted is told alike. With a password send it as that of `Authorization: Basic`, whatever the name, or unlock the share.',
        security: [],
        params: byToken,
        querystring: viewQuery,
        response: { 200: sharedView },
      },
      config: {
        public: true,
        success: { status: 200, description: 'What is shared; a page of it where there is much' },
        problems: ['not-found', sharePasswordNeeded, 'invalid-parameter', 'too-many-requests', 'overloaded'],
      },
      handler: async (request, reply) => {
        const { token } = request.params;
        reply.headers(strangerHeaders);
        const isPage = this.#wantsPage(request, reply);
        try {
          const entered = await this.#door.enter(request, token);
          const view = await this.#viewOf(entered, pathOf(token), request.query);
          reply.header('cache-control', 'private, no-store');
          if (!isPage) return view;
          // By it the ranges of one download are known as such, where they are counted.
          if (entered.share.maxDownloads !== null)
            reply.header('set-cookie', this.#door.cookie(request, token, VISIT_COOKIE, newVisit(), VISIT_LIFE));
          return this.#show(request, reply, 200, view) as never;
        } catch (error) {
          return this.#showProblem(request, reply, isPage, token, error) as never;
        }
      },
    });
  }

  async #viewOf({ share }: EnteredShare, path: string, { limit, cursor }: z.output<typeof viewQuery>) {
    const order = share.target === 'project' ? 'createdAt.desc' : 'position';
    const after =
      cursor === undefined
        ? undefined
        : share.target === 'project'
          ? decodeCursor(order, cursor)
          : { value: positionIn(decodeTextCursor(order, cursor)), id: share.id };
    const found = await this.#door.reach.list(share, { after, limit: limit + 1 });
    const rows = found.slice(0, limit);
    const last = found.length > limit ? rows.at(-1) : undefined;
    const next = last && nextOf(order, last);
    return openView(share, path, rows, { next, limit });
  }

  #unlockRoute(app: App): void {
    app.post(
      '/s/:token/unlock',
      {
        schema: {
          operationId: 'unlockShare',
          tags: strangerTags,
          summary: 'Unlock a share with its password',
          description:
            'The answer sets a cookie that opens the share for four hours. Programs without cookies send the password with each request, as that of `Authorization: Basic`. Wrong passwords are counted by share and address over all instances.',
          security: [],
          params: byToken,
          body: unlockRequest,
          response: { 200: unlocked },
        },
        config: {
          public: true,
          success: { status: 200, description: 'It is open' },
          problems: [
            'not-found',
            sharePasswordNeeded,
            'invalid-parameter',
            'too-many-requests',
            'overloaded',
            'malformed-request',
            'too-large',
            'unsupported-media-type',
          ],
        },
      },
      async (request, reply) => {
        const { token } = request.params;
        reply.headers(strangerHeaders);
        const isPage = this.#wantsPage(request, reply);
        try {
          const opened = await this.#door.unlock(request, reply, token, request.body.password);
          reply.header('cache-control', 'no-store');
          const { pathname } = new URL(this.#toUrl(request, pathOf(token)));
          if (isPage) return reply.redirect(pathname, 303) as never;
          return { ...(opened && { expiresAt: opened.endsAt.toISOString() }) };
        } catch (error) {
          return this.#showProblem(request, reply, isPage, token, error) as never;
        }
      },
    );
  }

  #wantsPage(request: FastifyRequest, reply: FastifyReply): boolean {
    if (!this.#pages) return false;
    const others = reply.getHeader('vary');
    reply.header('vary', others === undefined ? 'Accept' : `${others}, Accept`);
    return prefersHtml(request.headers.accept);
  }

  #show(request: FastifyRequest, reply: FastifyReply, status: number, view: ShareView): FastifyReply {
    const { origin } = new URL(this.#toUrl(request, '/'));
    const shown = this.#pages?.render(view, { origin });
    if (!shown) throw new Error('there are no pages of shares');
    return reply
      .code(status)
      .headers({ 'content-security-policy': shown.contentSecurityPolicy, 'cache-control': 'private, no-store' })
      .type('text/html; charset=utf-8')
      .serializer((html) => String(html))
      .send(shown.html);
  }

  /** What a person can do something about is a page for him. @throws the error where it is none of these */
  #showProblem(
    request: FastifyRequest,
    reply: FastifyReply,
    isPage: boolean,
    token: string,
    error: unknown,
  ): FastifyReply {
    if (!isPage || !(error instanceof Problem)) throw error;
    const { type, status, options } = error;
    if (type === 'not-found') return this.#show(request, reply, status, { kind: 'unknown' });
    const isTooMany = type === 'too-many-requests';
    if (!isTooMany && type !== sharePasswordNeeded) throw error;
    const isTried = request.method === 'POST';
    const path = pathOf(token);
    // RFC 9110 section 15.5.2 asks for the field; by a scheme of our own no browser asks beside the page.
    if (!isTooMany) reply.header('www-authenticate', 'Stowage-Share');
    return this.#show(request, reply.headers(isTooMany ? error.headers : {}), status, {
      ...{ kind: 'locked', path, unlockPath: `${path}/unlock` },
      ...(isTooMany && { refusal: 'too-many-tries', retryAfter: options.retryAfter ?? 1 }),
      ...(!isTooMany && isTried && { refusal: 'wrong-password' }),
    });
  }
}

function nextOf(order: string, { position }: SharedRow): string {
  return order === 'position' ? encodeTextCursor(order, position.value) : encodeCursor(order, position);
}

/** A forged one must not become a fault of the database. */
function positionIn(text: string): string {
  return /^\d{1,7}$/.test(text) ? text : '0';
}

/** Whether the client names HTML and does not like JSON as much (RFC 9110 section 12.5.1): browsers do, programs do not. */
export function prefersHtml(accept: string | undefined): boolean {
  const quality = (wanted: string) => {
    for (const range of (accept ?? '').split(',')) {
      const [type = '', ...parameters] = range.split(';').map((part) => part.trim().toLowerCase());
      if (type !== wanted) continue;
      const q = parameters.find((parameter) => parameter.startsWith('q='));
      return q === undefined ? 1 : Number(q.slice(2)) || 0;
    }
    return 0;
  };
  return quality('text/html') > quality('application/json');
}
