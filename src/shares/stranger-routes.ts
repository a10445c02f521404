/** What a stranger looks at: a share as JSON or as a page, and its password. */
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
import { assetId } from '../http/schema-types.ts';
import { problemPages } from '../pages/sending.ts';
import { filePage, pageOf } from '../pages/share-pages.ts';
import { sharedAsset, sharedView, unlocked, unlockRequest } from './documents.ts';
import type { EnteredShare, ShareDoor } from './door.ts';
import { sharePasswordNeeded, unknownShare } from './problems.ts';
import type { FoundShare, SharedRow } from './reach.ts';
import { openView } from './show.ts';
import { ShareShowing } from './showing.ts';
import { pathOf } from './token.ts';
import { newVisit, VISIT_COOKIE } from './visitor.ts';

export const strangerTags = ['Shared'];
export const byToken = z.object({
  token: z.string().meta({ description: 'Of the address of the share', example: 'aXk3mQ0eQ1uT2vR5wY8zLw' }),
});
/** Header fields of every answer: no search engine lists it. */
export const strangerHeaders = { 'x-robots-tag': 'noindex, nofollow' };
/** What anybody may ask for who has an address: any page, too, as far as there is no password. */
const publicRoute = { public: true, anyOrigin: true, countsAsPublic: true };
export const publicBytes = { ...publicRoute, servesBytes: true };
/** Seconds for which a browser is known again by its visit. */
const VISIT_LIFE = 24 * 3600;

const viewQuery = z.strictObject({ limit: pageLimit, cursor: pageCursor });

export interface StrangerRouteOptions {
  core: Core;
  door: ShareDoor;
}

export class StrangerRoutes {
  readonly #door: ShareDoor;
  readonly #showing: ShareShowing;
  readonly #sendProblemPage: ReturnType<typeof problemPages>;
  readonly #toUrl: ReturnType<typeof serviceUrls>;
  readonly #contentUrl: string | undefined;

  constructor({ core, door }: StrangerRouteOptions) {
    this.#door = door;
    this.#showing = new ShareShowing(core.config);
    this.#sendProblemPage = problemPages(core.config);
    this.#toUrl = serviceUrls(core.config);
    this.#contentUrl = core.config.USERCONTENT_URL;
  }

  /**
   * Where a page gets bytes. The cookies of a share are of the host of its page (visitor.ts, pass.ts): with a password, or with a
   * number of downloads, they are needed for the bytes, too, which then come from this host, with header fields under which
   * nothing runs.
   */
  #bytesAt({ password, maxDownloads }: FoundShare): string | undefined {
    return password === null && maxDownloads === null ? this.#contentUrl : undefined;
  }

  register(app: App): void {
    // A page without JavaScript sends its form so (HTML, "URL-encoded form data").
    app.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, (_request, body, done) =>
      done(null, Object.fromEntries(new URLSearchParams(body.toString()))),
    );
    this.#viewRoute(app);
    this.#assetRoute(app);
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
        ...publicRoute,
        sendProblemPage: this.#sendProblemPage,
        success: { status: 200, description: 'What is shared; a page of it where there is much' },
        problems: ['not-found', sharePasswordNeeded, 'invalid-parameter', 'too-many-requests', 'overloaded'],
      },
      handler: async (request, reply) => {
        const { token } = request.params;
        reply.headers(strangerHeaders);
        const isPage = this.#showing.wantsPage(request, reply);
        try {
          const entered = await this.#door.enter(request, token);
          const view = await this.#viewOf(entered, pathOf(token), request.query, isPage);
          reply.header('cache-control', 'private, no-store');
          if (!isPage) return view;
          // By it the ranges of one download are known as such, where they are counted.
          if (entered.share.maxDownloads !== null)
            reply.header('set-cookie', this.#door.cookie(request, token, VISIT_COOKIE, newVisit(), VISIT_LIFE));
          // A player that looks at the beginning of a film before somebody plays it would be a download.
          const shown = {
            ...view,
            isCounted: entered.share.maxDownloads !== null,
            isContinued: request.query.cursor !== undefined,
          };
          return this.#showing.show(request, reply, 200, (context) => pageOf(context, shown, request.id)) as never;
        } catch (error) {
          if (!isPage) throw error;
          return this.#showing.showProblem(request, reply, token, error) as never;
        }
      },
    });
  }

  #assetRoute(app: App): void {
    app.route({
      method: ['GET', 'HEAD'],
      url: '/s/:token/assets/:assetId',
      schema: {
        operationId: 'openSharedAsset',
        tags: strangerTags,
        summary: 'Look at one of the files that are shared',
        description: 'JSON, or a page for whoever prefers HTML.',
        security: [],
        params: byToken.extend({ assetId }),
        response: { 200: sharedAsset },
      },
      config: {
        ...publicRoute,
        sendProblemPage: this.#sendProblemPage,
        success: { status: 200, description: 'The file' },
        problems: ['not-found', sharePasswordNeeded, 'invalid-parameter', 'too-many-requests', 'overloaded'],
      },
      handler: async (request, reply) => {
        const { token, assetId: id } = request.params;
        reply.headers(strangerHeaders);
        const isPage = this.#showing.wantsPage(request, reply);
        try {
          const { share } = await this.#door.enter(request, token);
          const row = await this.#door.reach.asset(share, id);
          if (!row) throw unknownShare();
          const { assets, ...view } = openView(share, pathOf(token), [row], {
            limit: 1,
            bytesAt: isPage ? this.#bytesAt(share) : undefined,
          });
          const [file] = assets;
          if (!file) throw unknownShare();
          reply.header('cache-control', 'private, no-store');
          if (!isPage) return file;
          const shown = { ...view, file, isCounted: share.maxDownloads !== null };
          return this.#showing.show(request, reply, 200, (context) =>
            filePage(context, shown, share.target !== 'asset'),
          ) as never;
        } catch (error) {
          if (!isPage) throw error;
          return this.#showing.showProblem(request, reply, token, error) as never;
        }
      },
    });
  }

  async #viewOf({ share }: EnteredShare, path: string, { limit, cursor }: z.output<typeof viewQuery>, isPage: boolean) {
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
    return openView(share, path, rows, { next, limit, bytesAt: isPage ? this.#bytesAt(share) : undefined });
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
          sendProblemPage: this.#sendProblemPage,
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
        const isPage = this.#showing.wantsPage(request, reply);
        try {
          const opened = await this.#door.unlock(request, reply, token, request.body.password);
          reply.header('cache-control', 'no-store');
          const { pathname } = new URL(this.#toUrl(request, pathOf(token)));
          if (isPage) return reply.redirect(pathname, 303) as never;
          return { ...(opened && { expiresAt: opened.endsAt.toISOString() }) };
        } catch (error) {
          if (!isPage) throw error;
          return this.#showing.showProblem(request, reply, token, error) as never;
        }
      },
    );
  }
}

function nextOf(order: string, { position }: SharedRow): string {
  return order === 'position' ? encodeTextCursor(order, position.value) : encodeCursor(order, position);
}

/** A forged one must not become a fault of the database. */
function positionIn(text: string): string {
  return /^\d{1,7}$/.test(text) ? text : '0';
}
