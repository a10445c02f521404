/** Pages of assets over HTTP: what is asked for, and how one page leads to the next. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { Caller } from '../access/caller.ts';
import type { Database } from '../database/client.ts';
import { decodeCursor, encodeCursor, nextLink, pageCursor, pageEnd, pageInfo, pageLimit } from '../http/paging.ts';
import { assetType, flag, projectId } from '../http/schema-types.ts';
import { standingOf } from '../projects/places.ts';
import { type Asset, type AssetDocument, assetDocument, toDocument } from './asset.ts';
import type { ListQuery, ListScope } from './list.ts';
import type { AssetsRepository } from './repository.ts';

export const sortOrder = z.enum(['asc', 'desc'], { error: 'must be asc or desc' }).meta({ id: 'SortOrder' });
export const listQuery = z.strictObject({
  projectId: projectId.optional().meta({ description: 'Only this project' }),
  assetType: assetType.optional().meta({ description: 'Only this asset type' }),
  mediaType: z
    .string()
    .regex(
      /^[a-z0-9][a-z0-9!#$&^_.+-]*\/(\*|[a-z0-9][a-z0-9!#$&^_.+-]*)$/i,
      'must be a media type such as image/png, or image/*',
    )
    .transform((text) => text.toLowerCase())
    .optional()
    .meta({
      override: { type: 'string' },
      description: 'Only this media type, or all types of a family',
      example: 'image/*',
    }),
  state: z
    .enum(['processing', 'ready', 'rejected', 'lost'], { error: 'must be processing, ready, rejected or lost' })
    .meta({ id: 'AssetStateFilter' })
    .optional()
    .meta({ description: 'Only this state' }),
  name: z
    .string()
    .min(1)
    .max(255)
    .refine((text) => text.isWellFormed() && !text.includes('\0'), 'must be text')
    .transform((text) => text.normalize('NFC'))
    .optional()
    .meta({
      override: { type: 'string' },
      description: 'Only names that begin with this text; upper and lower case are equal',
      example: 'holiday',
    }),
  trashed: flag.meta({
    override: { type: 'boolean', default: false },
    description: 'Lists the trash instead of the other assets',
  }),
  sort: z
    .enum(['createdAt', 'name', 'size'], { error: 'must be createdAt, name or size' })
    .meta({ id: 'AssetSort' })
    .default('createdAt'),
  order: sortOrder.default('desc'),
  limit: pageLimit,
  cursor: pageCursor,
});

export const assetPage = z
  .object({
    data: z.array(assetDocument),
    page: pageInfo,
  })
  .meta({ id: 'AssetPage' });

/** One page of a list, and the header field that leads to the next. */
export async function listPage(
  assets: AssetsRepository,
  { cursor, limit, projectId: _, ...filters }: z.output<typeof listQuery>,
  scope: { scope: ListScope; projectId?: string },
  request: FastifyRequest,
  reply: FastifyReply,
  documentOf: (asset: Asset) => AssetDocument = toDocument,
): Promise<z.input<typeof assetPage>> {
  const order = `${filters.sort}.${filters.order}`;
  const query: ListQuery = { ...withoutUndefined(filters), ...scope, limit };
  if (cursor !== undefined) query.after = decodeCursor(order, cursor);
  const page = await assets.list(query);
  const nextCursor = page.next && encodeCursor(order, page.next);
  if (nextCursor !== undefined) reply.header('link', nextLink(request.url, nextCursor));
  return { data: page.assets.map(documentOf), page: pageEnd(nextCursor) };
}

/**
 * Whose assets are listed. Of a project that is none for the caller, as of one that nobody has made, what he has uploaded
 * there and may still see: nothing.
 */
export async function scopeOf(
  database: Database,
  caller: Caller,
  projectId: string | undefined,
): Promise<{ scope: ListScope; projectId?: string }> {
  if (projectId === undefined) return { scope: { kind: 'own', caller } };
  const { role, ownOnly } = await standingOf(database, caller, projectId);
  if (role === undefined || ownOnly) return { scope: { kind: 'own', caller }, projectId };
  return { scope: { kind: 'project', projectId } };
}

type Defined<T> = { [K in keyof T]: Exclude<T[K], undefined> };

/** Absent rather than undefined, as exactOptionalPropertyTypes wants it. */
function withoutUndefined<T extends object>(value: T): Defined<T> {
  return Object.fromEntries(Object.entries(value).filter(([, each]) => each !== undefined)) as Defined<T>;
}
