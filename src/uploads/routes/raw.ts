/** Raw uploads: the body is the file. `curl -T photo.jpg http://localhost:3000/v1/assets/raw/` */
import type { IncomingMessage } from 'node:http';
import { z } from 'zod';
import { actorOf } from '../../access/caller.ts';
import { sizeBoundOf } from '../../access/tiers.ts';
import { assetDocument } from '../../assets/asset.ts';
import { entityTagHeader } from '../../assets/routes.ts';
import { wantBody } from '../../http/body-guard.ts';
import { parseDigest } from '../../http/digest-fields.ts';
import type { App } from '../../http/openapi.ts';
import { binary } from '../../http/schema-types.ts';
import { sendAnswer } from '../../idempotency/requests.ts';
import { ClientGone, Problem } from '../../problems.ts';
import { chunksOf, free } from '../../storage/chunks.ts';
import { refuseBeyond } from '../../validation/file-validation.ts';
import { incompleteBody } from '../metered-source.ts';
import {
  audited,
  contentLength,
  declaredLimit,
  described,
  description,
  receiveOnce,
  requestSignal,
  type UploadRouteOptions,
  uploadProblems,
} from './upload-request.ts';

export const locationHeader = entityTagHeader.extend({
  Location: z.string().meta({ description: 'Path of the record' }),
});

export const digestHeaders = z.object({
  'repr-digest': z.string().optional().meta({
    description: 'RFC 9530; the bytes must have this SHA-256',
    example: 'sha-256=:uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=:',
  }),
  'content-digest': z.string().optional().meta({ description: 'RFC 9530, the same as Repr-Digest here' }),
});

export function rawUploadRoute(app: App, options: UploadRouteOptions): void {
  const { context } = options;
  // Every Content-Type is a file here; nothing is parsed.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', (_request, _payload, done) => done(null));

  app.put(
    '/v1/assets/raw/:fileName',
    {
      schema: {
        operationId: 'uploadRawAsset',
        tags: ['Uploads'],
        summary: 'Upload a file as the body',
        description:
          'The media type is told from the bytes; a `Content-Type` that says something must agree. Several clients know the whole of it as `curl -T photo.jpg`.',
        params: z.object({
          fileName: z.string().max(2048).meta({ description: 'File name, percent-encoded', example: 'photo.jpg' }),
        }),
        querystring: description,
        headers: digestHeaders,
        response: { 201: assetDocument },
      },
      config: {
        action: 'asset.upload',
        streamsBody: true,
        idempotent: 'content',
        requestBody: { required: true, content: { 'application/octet-stream': { schema: binary } } },
        success: { status: 201, description: 'The stored asset', headers: locationHeader },
        problems: uploadProblems,
      },
      // Refuses by Content-Length before anything is read.
      preHandler: async (request) => {
        const limit = declaredLimit(
          context,
          request.caller,
          (request.query as { assetType?: string }).assetType,
          request.headers['content-type'],
        );
        const length = contentLength(request);
        if (length !== undefined) refuseBeyond(limit, length, sizeBoundOf(request.caller));
      },
    },
    (request, reply) =>
      audited(request, context, async () => {
        const { caller, params, query, headers } = request;
        const signal = requestSignal(reply, options.stopping);
        const sha256 = declaredDigest(headers['repr-digest'], headers['content-digest'], query.sha256);
        const size = contentLength(request);
        const declaredType = headers['content-type'];
        const answer = await receiveOnce(options, request, {
          ...described(query),
          ...(sha256 && { sha256 }),
          ...(size !== undefined && { size }),
          ...(declaredType !== undefined && { declaredType }),
          actor: actorOf(request),
          caller,
          fileName: params.fileName,
          source: bodyOf(request.raw, () => wantBody(request)),
          signal,
        });
        return sendAnswer(reply, answer);
      }),
  );
}

/**
 * The chunks of the body. A client that waits for 100 Continue gets it with the first one asked for.
 * @param release called with each chunk when the next one is asked for
 */
export async function* bodyOf(
  request: IncomingMessage,
  want: () => void,
  release: (chunk: Buffer) => void = free,
): AsyncGenerator<Buffer> {
  want();
  try {
    // Ending the loop early does not destroy the socket: the answer is yet to come.
    for await (const chunk of chunksOf(request)) {
      yield chunk;
      release(chunk);
    }
  } catch (error) {
    throw request.socket.destroyed ? new ClientGone('the client has gone', { cause: error }) : incompleteBody();
  }
  if (!request.complete) throw incompleteBody();
}

/** All digests that the client names must be the same one. @throws Problem invalid-parameter */
export function declaredDigest(
  reprDigest: string | undefined,
  contentDigest: string | undefined,
  hexadecimal: string | undefined,
): Buffer | undefined {
  const digests = [
    digestField('Repr-Digest', reprDigest),
    digestField('Content-Digest', contentDigest),
    hexadecimal === undefined ? undefined : Buffer.from(hexadecimal, 'hex'),
  ].filter((digest) => digest !== undefined);
  const [first] = digests;
  if (first && digests.some((digest) => !digest.equals(first)))
    throw new Problem('invalid-parameter', { detail: 'The digests you name differ from each other. Name one.' });
  return first;
}

function digestField(name: string, value: string | undefined): Buffer | undefined {
  if (value === undefined) return undefined;
  const digest = parseDigest(value);
  if (digest) return digest.sha256;
  const detail = 'must be a dictionary such as sha-256=:BASE64:';
  throw new Problem('invalid-parameter', { detail: `${name} ${detail}`, errors: [{ parameter: name, detail }] });
}
