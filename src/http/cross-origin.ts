/**
 * Pages of other origins: CORS for those that are configured (Fetch standard, "CORS protocol"), OPTIONS for everybody, and
 * in development mode a door that is open to this machine only.
 *
 * In development mode nobody has to say who he is, so a page that the developer visits could do whatever he can: by a form
 * or a script that asks this address, or by a name of its own that leads here (DNS rebinding). So requests must name a
 * loopback host, and must not come from another origin than that of the service or one in CORS_ORIGINS.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { isLoopback } from '../config.ts';
import { Problem } from '../problems.ts';
import { allowOf, type KnownPaths, pathOf } from './known-paths.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Pages of every origin may read the answers, which are the same for everybody: without credentials. */
    anyOrigin?: boolean;
  }
}

/** The same for everybody, so answers do not vary by `Origin`. */
const forEverybody = { 'access-control-allow-origin': '*' };
const METHODS = 'GET, HEAD, POST, PUT, PATCH, DELETE';
/** Seconds for which browsers keep the answer to a preflight; none keeps it for longer. */
const PREFLIGHT_AGE = 7200;

/** Header fields of answers that pages may read. */
const exposed = [
  'Accept-Ranges',
  'Allow',
  'Asset-Id',
  'Content-Disposition',
  'Content-Length',
  'Content-Location',
  'Content-Range',
  'ETag',
  'Idempotency-Replayed',
  'Preference-Applied',
  'Last-Modified',
  'Link',
  'Location',
  'RateLimit-Limit',
  'RateLimit-Remaining',
  'RateLimit-Reset',
  'Repr-Digest',
  'Retry-After',
  'Tus-Checksum-Algorithm',
  'Tus-Extension',
  'Tus-Max-Size',
  'Tus-Resumable',
  'Tus-Version',
  'Upload-Defer-Length',
  'Upload-Expires',
  'Upload-Length',
  'Upload-Metadata',
  'Upload-Offset',
  'WWW-Authenticate',
  'X-Request-Id',
].join(', ');

export class CrossOrigin {
  readonly #origins: readonly string[];

  /** @param origins that may call from a browser; `*` for any */
  constructor(origins: readonly string[]) {
    this.#origins = origins;
  }

  /** Header fields of every answer. @param origin as the request names it */
  fieldsFor(origin: string | undefined): Record<string, string> {
    if (this.#origins.length === 0) return {};
    if (!this.allows(origin)) return { vary: 'Origin' };
    return {
      vary: 'Origin',
      'access-control-allow-origin': origin,
      'access-control-expose-headers': exposed,
    };
  }

  allows(origin: string | undefined): origin is string {
    return origin !== undefined && (this.allowsAny || this.#origins.includes(origin));
  }

  get allowsAny(): boolean {
    return this.#origins.includes('*');
  }

  /** For errors before any hook has run. */
  addTo(request: FastifyRequest, reply: FastifyReply): void {
    reply.headers(this.fieldsFor(request.headers.origin));
  }

  install(app: FastifyInstance, paths: KnownPaths): void {
    app.addHook('onRequest', async (request, reply) => {
      if (isForAll(request, paths)) {
        answerEverybody(request, reply);
        return;
      }
      this.addTo(request, reply);
      if (request.method !== 'OPTIONS') return;
      const { origin } = request.headers;
      if (this.allows(origin) && request.headers['access-control-request-method'] !== undefined) {
        const asked = request.headers['access-control-request-headers'];
        reply.headers({
          vary: 'Origin, Access-Control-Request-Headers',
          'access-control-allow-methods': METHODS,
          ...(asked !== undefined && { 'access-control-allow-headers': asked }),
          'access-control-max-age': PREFLIGHT_AGE,
        });
      }
      const methods = paths.methodsOf(pathOf(request));
      if (methods) reply.header('allow', allowOf(methods));
    });
  }
}

function isForAll(request: FastifyRequest, paths: KnownPaths): boolean {
  return paths.configFor(request)?.anyOrigin === true;
}

function answerEverybody(request: FastifyRequest, reply: FastifyReply): void {
  reply.headers({ ...forEverybody, 'access-control-expose-headers': exposed });
  if (request.method !== 'OPTIONS') return;
  reply.headers({
    allow: allowOf(['GET', 'HEAD']),
    'access-control-allow-methods': 'GET, HEAD',
    'access-control-allow-headers': '*',
    'access-control-max-age': PREFLIGHT_AGE,
  });
}

/** In development mode. @throws Problem not-local */
export function admitLocalOnly(app: FastifyInstance, crossOrigin: CrossOrigin, paths: KnownPaths): void {
  app.addHook('onRequest', async (request) => {
    const { host = '', origin } = request.headers;
    if (!isLoopback(hostName(host))) throw notLocal('Ask for it as localhost.');
    if (isForAll(request, paths)) return;
    if (origin !== undefined && origin !== `http://${host}` && !isTrusted(crossOrigin, origin))
      throw notLocal('Add the origin of the page to CORS_ORIGINS if it may call.');
    if (request.routeOptions.config.public || origin !== undefined) return;
    // Browsers tell no origin when a page embeds something or, older ones, sends a form.
    const site = request.headers['sec-fetch-site'];
    const isRead = request.method === 'GET' || request.method === 'HEAD';
    if (site === 'cross-site' || (site === 'same-site' && !isRead))
      throw notLocal('A page of another site asked for this.');
  });
}

/** `*` opens a configured service to all pages, but this one to those of the same machine. */
function isTrusted(crossOrigin: CrossOrigin, origin: string): boolean {
  if (!crossOrigin.allows(origin)) return false;
  const url = URL.parse(origin);
  return url !== null && (!crossOrigin.allowsAny || isLoopback(hostName(url.host)));
}

/** Without the port, and without the brackets of an IPv6 address. */
function hostName(host: string): string {
  return host
    .replace(/:\d*$/, '')
    .replace(/^\[(.*)\]$/, '$1')
    .toLowerCase();
}

function notLocal(hint: string): Problem {
  return new Problem('not-local', {
    detail: `In development mode the service answers this machine and its own pages only. ${hint}`,
  });
}
