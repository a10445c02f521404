/** Owners over HTTP, for administrators. */
import { z } from 'zod';
import { actorOf, type Caller } from '../access/caller.ts';
import { MAX_SUBJECT } from '../access/subject.ts';
import { assetPage, listPage } from '../assets/list-page.ts';
import { listQuery, sortOrder } from '../assets/list-query.ts';
import type { AssetsRepository } from '../assets/repository.ts';
import { recordEvent } from '../database/audit.ts';
import type { Database } from '../database/client.ts';
import { cursorOf, pageCursor, pageLimit, storableText, wholeNumber } from '../http/keyset-cursor.ts';
import type { App } from '../http/openapi.ts';
import { nextLink, pageHeaders, pageInfo } from '../http/paging.ts';
import { bytesCount, timestamp } from '../http/schema-types.ts';
import { type OwnerRow, type OwnerSort, type OwnersRepository, ownerSorts } from './repository.ts';

interface OwnerRoutesOptions {
  owners: OwnersRepository;
  assets: AssetsRepository;
  database: Database;
}

export const ownerDocument = z
  .object({
    id: z.string().meta({ description: 'Subject of the tokens of the owner', example: 'user-1' }),
    limit: bytesCount.meta({ description: 'Bytes of the quota' }),
    used: bytesCount.meta({
      description: 'Bytes of all assets that the quota of the owner pays for, the trash included',
    }),
    reserved: bytesCount.meta({ description: 'Bytes of uploads in progress' }),
    fileCount: bytesCount.meta({
      override: { type: 'integer', format: 'int64' },
      description: 'Assets that the quota of the owner pays for, the trash included',
    }),
    tier: z.string().optional().meta({
      description: 'That an administrator has given him; absent: what his tokens say counts, or else `default`',
      example: 'pro',
    }),
    lastActivityAt: timestamp.optional().meta({
      description: 'When something last happened to an asset of the owner, as the audit trail tells',
    }),
  })
  .meta({ id: 'Owner' });
const ownerPage = z.object({ data: z.array(ownerDocument), page: pageInfo }).meta({ id: 'OwnerPage' });
const ownersQuery = z.strictObject({
  sort: z.enum(ownerSorts, { error: 'must be usage, id or tier' }).meta({ id: 'OwnerSort' }).default('usage'),
  order: sortOrder.optional().meta({
    description: 'By default `desc` by usage, the largest first, and `asc` by id and by tier',
  }),
  tier: z
    .string()
    .min(1)
    .max(64)
    .refine((text) => text.isWellFormed() && !text.includes('\0'), 'must be text')
    .optional()
    .meta({
      override: { type: 'string', minLength: 1, maxLength: 64 },
      description: 'Only those to whom an administrator has given this tier',
    }),
  limit: pageLimit,
  cursor: pageCursor,
});
const cursors = {
  usage: cursorOf(z.tuple([wholeNumber, storableText])),
  id: cursorOf(z.tuple([z.literal(''), storableText])),
  tier: cursorOf(z.tuple([storableText, storableText])),
};
const byOwner = z.object({
  ownerId: z
    .string()
    .min(1)
    .max(MAX_SUBJECT)
    .refine((text) => text.isWellFormed() && !text.includes('\0'), 'must be text')
    .meta({ override: { type: 'string', minLength: 1, maxLength: MAX_SUBJECT }, example: 'user-1' }),
});
const tags = ['Administration'];

export function toDocument({
  ownerId,
  limit,
  used,
  reserved,
  fileCount,
  tier,
  lastActivityAt,
}: OwnerRow): z.input<typeof ownerDocument> {
  return {
    id: ownerId,
    limit: Number(limit),
    used: Number(used),
    reserved: Number(reserved),
    fileCount: Number(fileCount),
    ...(tier !== null && { tier }),
    ...(lastActivityAt && { lastActivityAt: lastActivityAt.toISOString() }),
  };
}

function encodeCursor(sort: OwnerSort, order: string, { value, account }: { value: string; account: string }): string {
  return sort === 'id' ? cursors.id.encode(order, ['', account]) : cursors[sort].encode(order, [value, account]);
}

export function ownerRoutes(app: App, { owners, assets, database }: OwnerRoutesOptions): void {
  app.get(
    '/v1/admin/owners',
    {
      schema: {
        operationId: 'listOwners',
        tags,
        summary: 'List who stores something, and how much',
        description:
          'Whoever has ever stored something that his own quota pays for, or was given a quota or a tier. One page in keyset order; follow `nextCursor`, or the `Link` header with rel="next", until `hasMore` is false. While uploads run, an owner whose usage changes may come twice or not at all in the order of usage.',
        querystring: ownersQuery,
        response: { 200: ownerPage },
      },
      config: {
        scope: 'admin',
        success: { status: 200, description: 'A page of owners', headers: pageHeaders },
        problems: ['missing-scope'],
      },
    },
    async (request, reply) => {
      const { sort, limit, cursor, tier, order = sort === 'usage' ? 'desc' : 'asc' } = request.query;
      const [value, account] = cursor === undefined ? [] : cursors[sort].decode(`${sort}.${order}`, cursor);
      const rows = await owners.list({
        sort,
        order,
        limit: limit + 1,
        ...(tier !== undefined && { tier }),
        ...(value !== undefined && account !== undefined && { after: { value, account } }),
      });
      const page = rows.slice(0, limit);
      const last = rows.length > limit ? page.at(-1) : undefined;
      const nextCursor = last && encodeCursor(sort, `${sort}.${order}`, last);
      if (nextCursor !== undefined) reply.header('link', nextLink(request.url, nextCursor));
      return {
        data: page.map(toDocument),
        page: { ...(nextCursor !== undefined && { nextCursor }), hasMore: nextCursor !== undefined },
      };
    },
  );

  app.get(
    '/v1/admin/owners/:ownerId/assets',
    {
      schema: {
        operationId: 'listAssetsOfOwner',
        tags,
        summary: 'List the assets that somebody has uploaded, in projects or not',
        description:
          'Each request is written to the audit trail. With a reason in the header field `Stowage-Reason`, every operation on one of these assets is open to you as well.',
        params: byOwner,
        querystring: listQuery,
        response: { 200: assetPage },
      },
      config: {
        scope: 'admin',
        success: { status: 200, description: 'A page of assets', headers: pageHeaders },
        problems: ['missing-scope'],
      },
    },
    async (request, reply) => {
      const { params, query } = request;
      const { ownerId } = params;
      const { projectId } = query;
      const actor = actorOf(request);
      await recordEvent(database, { action: 'owner.listed', actor, ownerId });
      // As the owner, whom nothing is hidden from that he has left in projects.
      const caller: Caller = {
        id: ownerId,
        scopes: new Set(['admin']),
        reason: actor.because ?? 'listed by an administrator',
      };
      const project = projectId !== undefined && { projectId };
      const place = { scope: { kind: 'own' as const, caller }, ...project, folders: { ownerId, ...project } };
      return listPage({ assets, database }, query, place, request, reply);
    },
  );
}
