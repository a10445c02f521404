/** What was made of an asset, over HTTP: thumbnails, posters, waveforms, transcodes. */
import { z } from 'zod';
import { actorOf } from '../access/caller.ts';
import type { Core } from '../core.ts';
import { formatDigest } from '../http/digest-fields.ts';
import type { App } from '../http/openapi.ts';
import { assetId, binary } from '../http/schema-types.ts';
import { assetNotFound } from '../problems.ts';
import { contentDisposition } from './content-disposition.ts';
import { conditionalHeaders, deliver } from './delivery.ts';
import { derivativeDocuments, toDerivativeDocument } from './derivative-document.ts';
import { derivativeName, nameOfDerivative } from './derivative-names.ts';
import { servable } from './issued-links.ts';
import type { AssetsRepository } from './repository.ts';
import { required } from './routes.ts';
import { ServedDerivatives } from './served-derivative.ts';
import { changing, dispositionOf } from './serving.ts';

const tags = ['Derivatives'];

export function derivativeRoutes(app: App, core: Core, assets: AssetsRepository): void {
  const { reads, downloads: places, metrics } = core;
  const derivatives = new ServedDerivatives(core);

  app.get(
    '/v1/assets/:id/derivatives',
    {
      schema: {
        operationId: 'listDerivatives',
        tags,
        summary: 'List what was made of an asset: thumbnail, poster, waveform, transcodes',
        params: z.object({ id: assetId }),
        response: { 200: derivativeDocuments },
      },
      config: {
        action: 'asset.read',
        success: { status: 200, description: 'The derivatives, by name' },
        problems: ['not-found'],
      },
    },
    async (request, reply) => {
      const asset = await required(assets.find(request.caller, request.params.id));
      reply.header('cache-control', 'private, no-cache');
      return { data: (await derivatives.list(asset)).map(toDerivativeDocument) };
    },
  );

  app.route({
    method: ['GET', 'HEAD'],
    url: '/v1/assets/:id/derivatives/:name',
    schema: {
      operationId: 'downloadDerivative',
      tags,
      summary: 'Get the bytes of a derivative',
      description:
        'Honours one Range and all conditional header fields. While it is being made, the answer is 409 with `Retry-After`. For a link that needs no token ask `createDownloadLink` with `derivative`.',
      params: z.object({ id: assetId, name: derivativeName }),
      headers: conditionalHeaders,
    },
    config: {
      action: 'asset.download',
      servesBytes: true,
      success: {
        status: 200,
        description: 'The bytes',
        content: { 'application/octet-stream': { schema: binary } },
        others: {
          '206': { description: 'The range', content: { 'application/octet-stream': { schema: binary } } },
          '304': { description: 'The client has these bytes already' },
        },
      },
      problems: [
        'not-found',
        'wrong-state',
        'derivative-pending',
        'derivative-unavailable',
        'precondition-failed',
        'range-not-satisfiable',
        'too-many-downloads',
        'overloaded',
      ],
    },
    handler: async (request, reply) => {
      const { caller, params } = request;
      const asset = servable(await required(assets.find(caller, params.id)));
      const derivative = await derivatives.find(asset, params.name);
      const disposition = contentDisposition(dispositionOf(derivative.mediaType), nameOfDerivative(asset, derivative));
      return deliver(request, reply, {
        store: reads,
        places,
        callerId: caller.id,
        key: derivative.objectKey,
        size: derivative.size,
        entityTag: `"${derivative.sha256?.toString('hex') ?? derivative.id}"`,
        lastModified: derivative.createdAt,
        headers: {
          'content-type': derivative.mediaType,
          'content-disposition': disposition,
          'cache-control': changing(asset.cacheControl),
          ...(derivative.sha256 && { 'repr-digest': formatDigest(derivative.sha256) }),
        },
        beforeBytes: async () => {
          const detail = { derivative: params.name };
          const found = await assets.findForDownload(caller, params.id, 'asset.downloaded', actorOf(request), detail);
          if (!found) throw assetNotFound();
        },
        onSent: (bytes) => metrics.sent(bytes),
      });
    },
  });
}
