/** Shares as pages: what a browser gets at the addresses at which programs get JSON. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Config } from '../config.ts';
import type { Page, PageContext } from '../pages/layout.ts';
import { wantsHtml } from '../pages/negotiation.ts';
import { contextOf, sendPage, varyBy } from '../pages/sending.ts';
import { pageOf } from '../pages/share-pages.ts';
import { Problem } from '../problems.ts';
import { sharePasswordNeeded } from './problems.ts';
import { pathOf } from './token.ts';
import type { ShareView } from './view.ts';

export class ShareShowing {
  readonly #config: Config;

  constructor(config: Config) {
    this.#config = config;
  }

  wantsPage(request: FastifyRequest, reply: FastifyReply): boolean {
    varyBy(reply, 'Accept');
    return wantsHtml(request);
  }

  show(
    request: FastifyRequest,
    reply: FastifyReply,
    status: number,
    page: (context: PageContext) => Page,
  ): FastifyReply {
    return sendPage(
      reply.code(status).header('cache-control', 'private, no-store'),
      page(contextOf(this.#config, request)),
    );
  }

  /** What a person can do something about is a page for him. @throws the error where it is none of these */
  showProblem(request: FastifyRequest, reply: FastifyReply, token: string, error: unknown): FastifyReply {
    if (!(error instanceof Problem)) throw error;
    const isTooMany = error.type === 'too-many-requests' && request.method === 'POST';
    if (!isTooMany && error.type !== sharePasswordNeeded) throw error;
    const path = pathOf(token);
    // RFC 9110 section 15.5.2 asks for the field; by a scheme of our own no browser asks beside the page.
    const headers = isTooMany ? error.headers : { 'www-authenticate': 'Stowage-Share' };
    const view: ShareView = {
      ...{ kind: 'locked', path, unlockPath: `${path}/unlock` },
      ...(isTooMany && { refusal: 'too-many-tries', retryAfter: error.options.retryAfter ?? 1 }),
      ...(!isTooMany && request.method === 'POST' && { refusal: 'wrong-password' }),
    };
    return this.show(request, reply.headers(headers), error.status, (context) => pageOf(context, view, request.id));
  }
}
