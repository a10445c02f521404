/** Links of the disk object store, and addresses of variants, lead back to the service, wherever its clients find it. */
import type { FastifyRequest } from 'fastify';
import type { Config } from '../config.ts';

/** A link as the client of this request can follow it. */
export type ToPublicUrl = (request: FastifyRequest, url: string) => string;

/** A path of this service as the client of this request can follow it: under PUBLIC_URL, or where it has reached us. */
export function serviceUrls(config: Config): (request: FastifyRequest, path: string) => string {
  const { PUBLIC_URL: base } = config;
  return (request, path) => `${base ?? `${request.protocol}://${request.host}`}${path}`;
}

/**
 * A path under which bytes of files are served, as the client of this request can follow it: at the host for them where
 * there is one (content-host.ts). The only place that decides where bytes are linked from.
 */
export function contentUrls(config: Config): (request: FastifyRequest, path: string) => string {
  const { USERCONTENT_URL: base } = config;
  return base === undefined ? serviceUrls(config) : (_request, path) => `${base}${path}`;
}

/** The same where nobody asks, as in jobs; undefined where only requests tell it. */
export function contentBase({ USERCONTENT_URL, PUBLIC_URL }: Config): string | undefined {
  return USERCONTENT_URL ?? PUBLIC_URL;
}

/** @param kind of the object store; links to S3 are left as they are */
export function publicUrls(config: Config, kind: 'disk' | 's3'): ToPublicUrl {
  if (kind !== 'disk' || config.PUBLIC_URL !== undefined || config.TRUST_PROXY.length === 0)
    return (_request, url) => url;
  const { USERCONTENT_URL: content } = config;
  return (request, url) =>
    content !== undefined && url.startsWith(`${content}/`)
      ? url
      : new URL(url.replace(/^https?:\/\/[^/]*/, ''), `${request.protocol}://${request.host}`).href;
}
