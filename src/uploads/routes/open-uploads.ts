/** Uploads that are not finished, of all kinds: which there are, and how they are ended. */
import { z } from 'zod';
import { actorOf } from '../../access/caller.ts';
import type { App } from '../../http/openapi.ts';
import { decodeCursor, encodeCursor } from '../../http/paging.ts';
import { assetId, bytesCount, projectId, timestamp } from '../../http/schema-types.ts';
import type { OpenUpload, OpenUploads } from '../open-uploads.ts';

const tags = ['Uploads'];
const MAX_PAGE = 200;
const ORDER = 'createdAt.desc';

const query = z.strictObject({
  limit: z
    .string()
    .regex(/^\d{1,3}$/, `must be 1 to ${MAX_PAGE}`)
    .transform(Number)
    .refine((n) => n >= 1 && n <= MAX_PAGE, `must be 1 to ${MAX_PAGE}`)
    .default(50)
    .meta({
      override: { type: 'integer', minimum: 1, maximum: MAX_PAGE, default: 50 },
      description: 'Uploads per page',
    }),
  cursor: z.string().max(4096).optional().meta({ description: '`nextCursor` of the previous page' }),
});

const openUpload = z
  .object({
    uploadId: z
      .string()
      .meta({ override: { type: 'string', format: 'uuid' }, description: 'Also the id of the asset to be' }),
    kind: z.string().meta({
      override: { type: 'string', 'x-extensible-enum': ['direct', 'resumable', 'single'] },
      description:
        '`direct`: straight to the store; `resumable`: by tus; `single`: a form or raw body that is being sent. There may be others in future.',
    }),
    name: z.string().meta({ example: 'film.mp4' }),
    projectId: projectId.optional(),
    size: bytesCount.optional().meta({ description: 'Bytes of the file, where they are known' }),
    offset: bytesCount.optional().meta({
      description:
        'Bytes that are safe; of resumable uploads only. `GET /v1/uploads/{id}` tells the parts of a direct one',
    }),
    reservedBytes: bytesCount.meta({ description: 'Bytes of the quota that it holds' }),
    createdAt: timestamp,
    expiresAt: timestamp.meta({ description: 'When it ends by itself, unless something is heard of it' }),
  })
  .meta({ id: 'OpenUpload' });

const page = z
  .object({
    data: z.array(openUpload),
    page: z
      .object({
        nextCursor: z.string().optional().meta({ description: 'Present while more uploads follow' }),
        hasMore: z.boolean(),
      })
      .meta({ id: 'OpenUploadPageInfo' }),
  })
  .meta({ id: 'OpenUploadPage' });

export function openUploadRoutes(app: App, uploads: OpenUploads): void {
  app.get(
    '/v1/uploads',
    {
      schema: {
        operationId: 'listUploads',
        tags,
        summary: 'List uploads that are not finished',
        description:
          'Of all kinds, the latest first. Each holds bytes of the quota until it is finished, cancelled or expired. Follow `nextCursor`, or the `Link` header with rel="next", until `hasMore` is false.',
        querystring: query,
        response: { 200: page },
      },
      config: {
        action: 'asset.upload',
        success: {
          status: 200,
          description: 'A page of uploads',
          headers: z.object({
            Link: z.string().optional().meta({ description: 'RFC 8288; rel="next" while more follow' }),
          }),
        },
      },
    },
    async (request, reply) => {
      const { cursor, limit } = request.query;
      const after = cursor === undefined ? undefined : decodeCursor(ORDER, cursor);
      const rows = await uploads.list(request.caller, { limit: limit + 1, ...(after && { after }) });
      const shown = rows.slice(0, limit);
      const last = shown.at(-1);
      const nextCursor =
        rows.length > limit && last ? encodeCursor(ORDER, { value: last.value, id: last.upload.id }) : undefined;
      if (nextCursor !== undefined)
        reply.header(
          'link',
          `</v1/uploads?${new URLSearchParams({ limit: String(limit), cursor: nextCursor })}>; rel="next"`,
        );
      return {
        data: shown.map(({ upload }) => toDocument(upload)),
        page: { ...(nextCursor !== undefined && { nextCursor }), hasMore: nextCursor !== undefined },
      };
    },
  );

  app.delete(
    '/v1/uploads/:id',
    {
      schema: {
        operationId: 'cancelUpload',
        tags,
        summary: 'Cancel an upload; nothing is kept',
        description: 'Of any kind, as `listUploads` tells them.',
        params: z.object({ id: assetId }),
      },
      config: {
        action: 'asset.upload',
        success: { status: 204, description: 'Cancelled' },
        problems: ['not-found', 'wrong-state'],
      },
    },
    async (request, reply) => {
      await uploads.cancel(actorOf(request), request.caller, request.params.id);
      return reply.code(204).send() as never;
    },
  );
}

function toDocument({ id, fileName, reserved, createdAt, expiresAt, ...rest }: OpenUpload): z.input<typeof openUpload> {
  return {
    ...rest,
    uploadId: id,
    name: fileName,
    reservedBytes: reserved,
    createdAt: createdAt.toISOString(),
    expiresAt: expiresAt.toISOString(),
  };
}
