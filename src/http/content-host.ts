/**
 * Another host for bytes. A file can be a page, a picture with a script in it, or something that a browser takes for one;
 * what it could do, it could do to its origin. So operators give the bytes of files a host of their own (USERCONTENT_URL):
 * links to bytes lead there, and nothing else is there, so there is no API, no reference page and no session to reach.
 *
 * Elsewhere the same routes go on to serve bytes, with headers under which nothing runs (assets/serving.ts). They do not lead
 * to the other host: a cache that asks under a name of its own, as many do, would be led round in a circle.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { Problem } from '../problems.ts';
import type { KnownPaths } from './known-paths.ts';
import type { RefusalLimit } from './refusal-limit.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Sends the bytes of files: it is there under the host for them, too. */
    servesBytes?: boolean;
  }
}

/** Tells whether a request was sent to the host for bytes. */
export type IsContentHost = (request: Pick<FastifyRequest, 'host'>) => boolean;

/** @param url USERCONTENT_URL; when absent, no request was */
export function contentHost(url: string | undefined): IsContentHost {
  const content = url === undefined ? null : URL.parse(url);
  if (!content) return () => false;
  const usualPort = content.protocol === 'https:' ? ':443' : ':80';
  return ({ host }) => {
    const asked = host.toLowerCase();
    return asked === content.host || asked === `${content.host}${usualPort}`;
  };
}

/** Under the host for bytes, whatever does not serve them is not there, to the letter. */
export function separateHosts(
  app: FastifyInstance,
  { isContentHost, paths, refusals }: { isContentHost: IsContentHost; paths: KnownPaths; refusals: RefusalLimit },
): void {
  app.addHook('onRequest', async (request) => {
    if (!isContentHost(request) || paths.configFor(request)?.servesBytes) return;
    refusals.count(request.ip);
    throw new Problem('not-found', { detail: 'There is nothing at this path.' });
  });
}
