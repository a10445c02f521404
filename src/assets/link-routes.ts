/**
 * Where links lead that the service itself answers: those of the disk store, and those of a CDN whose origin it is. As with a presigned
 * URL of S3, the signature is the permission, so there is no caller; but the asset is asked for, so links of what is in the
 * trash or deleted end at once here, if not in caches.
 */
import { createHash } from 'node:crypto';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { Core } from '../core.ts';
import type { DownloadPlaces } from '../http/download-places.ts';
import type { App } from '../http/openapi.ts';
import { Problem } from '../problems.ts';
import { diskIn } from '../storage/archive/archiving-store.ts';
import { CDN_PATH, HmacCdn, sharedCacheControl } from '../storage/cdn.ts';
import type { DiskObjectStore } from '../storage/disk/disk-object-store.ts';
import { assetIdOf } from '../storage/object-key.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { conditionalHeaders, deliver } from './delivery.ts';
import { bytesContent, rangeOf } from './downloads.ts';
import type { AssetsRepository } from './repository.ts';

/** What both kinds of link say. */
interface Permission {
  key: string;
  contentType: string;
  contentDisposition: string;
  cacheControl: string;
}

interface Context {
  assets: AssetsRepository;
  store: ObjectStore;
  places: DownloadPlaces;
  keyPrefix: string;
  onSent: (bytes: number) => void;
}

const success = {
  status: 200,
  description: 'The bytes',
  content: bytesContent,
  others: {
    '206': { description: 'The range', content: bytesContent },
    '304': { description: 'The client has these bytes already' },
  },
};

export function linkRoutes(app: App, core: Core, assets: AssetsRepository): void {
  const { store, downloads: places, config, metrics, cdn } = core;
  const context: Context = {
    assets,
    store,
    places,
    keyPrefix: config.S3_KEY_PREFIX,
    onSent: (bytes) => metrics.sent(bytes),
  };
  const disk = diskIn(store);
  if (disk) diskRoute(app, context, disk);
  if (cdn instanceof HmacCdn) cdnRoute(app, context, cdn);
}

function diskRoute(app: App, context: Context, store: DiskObjectStore): void {
  app.route({
    method: ['GET', 'HEAD'],
    url: '/v1/links/:token',
    schema: {
      operationId: 'followLink',
      tags: ['Downloads'],
      summary: 'Follow a download link of the disk object store',
      description:
        'Where `createDownloadLink` leads when the service stores on its own disk. Do not build these URLs yourself.',
      security: [],
      params: z.object({ token: z.string().max(8192) }),
      headers: conditionalHeaders,
    },
    config: {
      public: true,
      servesBytes: true,
      success,
      problems: [
        'not-found',
        'link-expired',
        'precondition-failed',
        'range-not-satisfiable',
        'too-many-downloads',
        'overloaded',
      ],
    },
    handler: async (request, reply) => send(request, reply, context, permitted(store.readLink(request.params.token))),
  });
}

/** No part of the contract: who is at this address is the CDN, and it was told the address by a link. */
function cdnRoute(app: App, context: Context, cdn: HmacCdn): void {
  app.route({
    method: ['GET', 'HEAD'],
    url: `${CDN_PATH}*`,
    config: { public: true, servesBytes: true },
    handler: async (request, reply) => {
      const now = new Date();
      const { expiresAt, cacheControl, ...permission } = permitted(cdn.read(request.raw.url ?? '', now));
      // A copy in a cache that asks nobody ends with the link.
      const left = Math.floor((expiresAt.getTime() - now.getTime()) / 1000);
      const shared = { ...permission, cacheControl: sharedCacheControl(cacheControl, left) };
      return send(request, reply, context, shared);
    },
  });
}

/** @throws Problem not-found, link-expired */
function permitted<Read extends Permission>(permission: Read | 'expired' | 'invalid'): Read {
  if (permission === 'invalid') throw new Problem('not-found', { detail: 'The link is not valid. Get a new one.' });
  if (permission === 'expired') throw new Problem('link-expired', { detail: 'Get a new link.' });
  return permission;
}

async function send(
  request: FastifyRequest,
  reply: FastifyReply,
  { assets, store, places, keyPrefix, onSent }: Context,
  permission: Permission,
): Promise<FastifyReply> {
  const id = assetIdOf(keyPrefix, permission.key);
  const isServed = id === undefined || (await assets.isServed(id));
  const head = isServed ? await store.head(permission.key, {}) : undefined;
  if (!head) throw new Problem('not-found', { detail: 'The file of this link was deleted, or is in the trash.' });
  return deliver(request, reply, {
    store,
    places,
    callerId: `address ${request.ip}`,
    key: permission.key,
    size: head.size,
    // A key is written once, so it stands for its bytes.
    entityTag: `"${createHash('sha256').update(permission.key).digest('base64url').slice(0, 22)}"`,
    lastModified: head.lastModified,
    headers: {
      'content-type': permission.contentType,
      'content-disposition': permission.contentDisposition,
      'cache-control': permission.cacheControl,
    },
    ...(id !== undefined && {
      beforeBytes: () => {
        const { range, isFirst } = rangeOf(request);
        const actor = { callerId: 'stowage:link', requestId: request.id, via: null, because: null };
        return assets.followLink(id, permission.key, actor, { ...range, counts: isFirst });
      },
    }),
    onSent,
  });
}
