/** Pages as answers. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Config } from '../config.ts';
import type { Problem } from '../problems.ts';
import type { Page, PageContext } from './layout.ts';
import { languageOf, wantsHtml } from './negotiation.ts';
import { problemPage } from './state-pages.ts';

/** Who asks, and by which address. */
export function contextOf(config: Pick<Config, 'PUBLIC_URL'>, request: FastifyRequest): PageContext {
  return {
    language: languageOf(request),
    base: config.PUBLIC_URL ?? '',
    origin: originOf(config.PUBLIC_URL ?? `${request.protocol}://${request.host}`),
  };
}

/** A host may hold `;` and `'` (RFC 3986), which mean something else in a policy; no host that is in use does. */
function originOf(url: string): string {
  const { origin, host } = new URL(url);
  return /^[\w.:[\]-]+$/.test(host) ? origin : 'http://localhost';
}

/**
 * Sends a page. How long it may be kept is said by who sends it (`Cache-Control`), before; else nobody keeps it.
 * @param page what `filePage`, `galleryPage`, `passwordPage` or `problemPage` has made
 */
export function sendPage(reply: FastifyReply, { html, policy }: Page): FastifyReply {
  if (reply.getHeader('cache-control') === undefined) reply.header('cache-control', 'no-store');
  if (reply.getHeader('x-robots-tag') === undefined) reply.header('x-robots-tag', 'noindex');
  varyBy(reply, 'Accept', 'Accept-Language');
  return reply
    .headers({
      'content-security-policy': policy,
      // Forms tell where they come from, which the service asks for; nobody else is told the address.
      'referrer-policy': 'same-origin',
    })
    .type('text/html; charset=utf-8')
    .serializer((text: unknown) => String(text))
    .send(html);
}

/** For answers at addresses that have a page as well, pages or not. */
export function varyBy(reply: FastifyReply, ...fields: string[]): void {
  const others = String(reply.getHeader('vary') ?? '')
    .split(',')
    .map((field) => field.trim())
    .filter((field) => field !== '');
  const known = new Set(others.map((field) => field.toLowerCase()));
  reply.header('vary', [...others, ...fields.filter((field) => !known.has(field.toLowerCase()))].join(', '));
}

/** For `config.sendProblemPage` of routes that have pages: what a browser is told instead of a problem document. */
export function problemPages(config: Pick<Config, 'PUBLIC_URL'>) {
  return (request: FastifyRequest, reply: FastifyReply, problem: Problem): boolean => {
    varyBy(reply, 'Accept');
    if (!wantsHtml(request)) return false;
    const { retryAfter } = problem.options;
    sendPage(
      reply,
      problemPage(contextOf(config, request), { status: problem.status, retryAfter, requestId: request.id }),
    );
    return true;
  };
}
