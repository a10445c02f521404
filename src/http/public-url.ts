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

/** @param kind of the object store; links to S3 are left as they are */
export function publicUrls(config: Config, kind: 'disk' | 's3'): ToPublicUrl {
  if (kind !== 'disk' || config.PUBLIC_URL !== undefined || config.TRUST_PROXY.length === 0)
    return (_request, url) => url;
  return (request, url) => new URL(url.replace(/^https?:\/\/[^/]*/, ''), `${request.protocol}://${request.host}`).href;
}
