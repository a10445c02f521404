/** Gives an asset other bytes: the body is the file. `curl -T photo.jpg http://localhost:3000/v1/assets/{id}/content` */
import { z } from 'zod';
import { actorOf } from '../../access/caller.ts';
import { assetDocument } from '../../assets/asset.ts';
import { entityTagHeader } from '../../assets/routes.ts';
import { wantBody } from '../../http/body-guard.ts';
import type { App } from '../../http/openapi.ts';
import { assetId, binary, binaryDigest } from '../../http/schema-types.ts';
import { sendAnswer } from '../../idempotency/requests.ts';
import { Problem } from '../../problems.ts';
import { bodyOf, declaredDigest, digestHeaders } from './raw.ts';
import { acceptedResponse, replacing, replacingHeaders, replacingProblems } from './replacing.ts';
import {
  audited,
  contentLength,
  declaredLimit,
  receiveOnce,
  requestSignal,
  type UploadRouteOptions,
  uploadProblems,
} from './upload-request.ts';

export function replaceRoute(app: App, options: UploadRouteOptions): void {
  const { context } = options;
  // Every Content-Type is a file here; nothing is parsed.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', (_request, _payload, done) => done(null));

  app.put(
    '/v1/assets/:id/content',
    {
      schema: {
        operationId: 'replaceAssetContent',
        tags: ['Versions'],
        summary: 'Give an asset other bytes: the body is the file',
        description:
          'The asset keeps its id, and whoever has a link to it by that id gets the new bytes from the moment of the answer. Its upload policy must allow them; their media type may be another. The former bytes become a version where the policy keeps versions, and go otherwise. With `If-Match` it is done only if the record is still the one you read, judged before the bytes and after them. While the new bytes come, quota is reserved for them beside the old ones.',
        params: z.object({ id: assetId }),
        querystring: z.strictObject({
          fileName: z.string().max(2048).optional().meta({
            description:
              'New file name; needed where the extension of the present one does not belong to the new media type',
            example: 'photo.png',
          }),
          sha256: binaryDigest.optional(),
        }),
        headers: digestHeaders.extend(replacingHeaders.shape),
        response: { 200: assetDocument, 202: assetDocument },
      },
      config: {
        action: 'asset.write',
        streamsBody: true,
        idempotent: 'content',
        requestBody: { required: true, content: { 'application/octet-stream': { schema: binary } } },
        success: {
          status: 200,
          description: 'The asset with its new bytes',
          headers: entityTagHeader,
          others: { '202': { ...acceptedResponse, headers: entityTagHeader } },
        },
        problems: [...uploadProblems, ...replacingProblems],
      },
    },
    (request, reply) =>
      audited(request, context, async () => {
        const { caller, params, query, headers } = request;
        const signal = requestSignal(reply, options.stopping);
        const { place: _place, ...replaced } = await replacing(context, request, params.id, query.fileName);
        const size = contentLength(request);
        const declaredType = headers['content-type'];
        const limit = declaredLimit(context, caller, replaced.assetType, declaredType);
        // Before anything is read.
        if (size !== undefined && size > limit)
          throw new Problem('too-large', {
            detail: `A file of this type may have at most ${limit} bytes. Send a smaller one.`,
          });
        const sha256 = declaredDigest(headers['repr-digest'], headers['content-digest'], query.sha256);
        const arrival = {
          ...replaced,
          ...(sha256 && { sha256 }),
          ...(size !== undefined && { size }),
          ...(declaredType !== undefined && { declaredType }),
          actor: actorOf(request),
          caller,
          fileName: query.fileName ?? replaced.replaces.asset.name,
          source: bodyOf(request.raw, () => wantBody(request)),
          signal,
        };
        const answer = await receiveOnce(options, request, arrival, 200);
        return sendAnswer(reply, answer);
      }),
  );
}
