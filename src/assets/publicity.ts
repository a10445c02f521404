/**
 * What everybody may see. An asset is public when somebody who may publish it has made it so and its upload policy allows
 * it: then its bytes are at an address that needs no token. Here is what its record tells of that; src/publishing/ serves it.
 */
import type { FastifyRequest } from 'fastify';
import type { Core } from '../core.ts';
import { contentUrls } from '../http/public-url.ts';
import { Problem } from '../problems.ts';
import { isAtHand } from './archived.ts';
import type { Asset } from './asset.ts';

/** The one spelling of the public address, under the base that `contentUrls` tells. */
export function publicPath({ id, name }: Pick<Asset, 'id' | 'name'>): string {
  return `/p/${id}/${encodeURIComponent(name)}`;
}

/** Members of a record. */
export interface Publicity {
  publicUrl?: string;
  cachedUntil?: string;
}

export type PublicityOf = (request: FastifyRequest, asset: Asset) => Publicity;

export function publicityOf({ config, policies }: Pick<Core, 'config' | 'policies'>): PublicityOf {
  const toUrl = contentUrls(config);
  const isServed = (asset: Asset) =>
    asset.publishedAt &&
    !asset.trashedAt &&
    asset.state === 'ready' &&
    isAtHand(asset) &&
    mayBePublic(policies, asset.assetType);
  return (request, asset) => {
    if (isServed(asset)) return { publicUrl: toUrl(request, publicPath(asset)) };
    const endedAt = asset.publishedAt ? asset.trashedAt : asset.unpublishedAt;
    const until = (endedAt?.getTime() ?? 0) + config.PUBLIC_MAX_AGE;
    return until > Date.now() ? { cachedUntil: new Date(until).toISOString() } : {};
  };
}

export function mayBePublic(policies: Core['policies'], assetType: string): boolean {
  return policies.named(assetType)?.public === true;
}

/** @throws Problem public-not-allowed */
export function requirePublishable(policies: Core['policies'], { assetType }: Pick<Asset, 'assetType'>): void {
  if (mayBePublic(policies, assetType)) return;
  const detail = `The upload policy ${assetType} does not allow it; \`GET /v1/policies\` tells which ones do.`;
  throw new Problem('public-not-allowed', { detail, errors: [{ pointer: '/visibility', detail: 'must be private' }] });
}

/** So that whoever may move an asset does not publish it where he may not. */
export function publishedElsewhere(): Problem {
  const detail = 'What is moved to another project is private there. Publish it afterwards, by a request of its own.';
  return new Problem('invalid-parameter', {
    detail,
    errors: [{ pointer: '/visibility', detail: 'must not be public in a request that moves the asset' }],
  });
}
