/** Pages of assets over HTTP: what is asked for, and how one page leads to the next. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { Caller } from '../access/caller.ts';
import type { Database } from '../database/client.ts';
import {
  decodeCursor,
  decodeTextCursor,
  encodeCursor,
  encodeTextCursor,
  nextLink,
  orderOf,
  pageEnd,
  pageInfo,
} from '../http/paging.ts';
import { Problem } from '../problems.ts';
import { standingOf } from '../projects/places.ts';
import { type Asset, type AssetDocument, assetDocument, toDocument } from './asset.ts';
import { type FolderPlace, foldersIn } from './folders.ts';
import type { ListQuery, ListScope } from './list.ts';
import type { listQuery } from './list-query.ts';
import type { AssetsRepository } from './repository.ts';

export const assetPage = z
  .object({
    data: z.array(assetDocument),
    folders: z
      .array(z.string())
      .optional()
      .meta({ description: 'With `delimiter`: folders that lie here, each with its whole path', example: ['photos/'] }),
    page: pageInfo,
  })
  .meta({ id: 'AssetPage' });

/** Whose assets are listed, and of which place the folders are; absent where the caller sees none. */
export interface ListedPlace {
  scope: ListScope;
  projectId?: string;
  folders?: FolderPlace;
}

type Asked = z.output<typeof listQuery>;
/** A page that has folders has assets only when there are no more of them. */
interface Listed {
  folders?: string[];
  found: Asset[];
  nextCursor?: string | undefined;
}

/** One page of a list, and the header field that leads to the next. */
export async function listPage(
  { assets, database }: { assets: AssetsRepository; database: Database },
  asked: Asked,
  place: ListedPlace,
  request: FastifyRequest,
  reply: FastifyReply,
  documentOf: (asset: Asset) => AssetDocument = toDocument,
): Promise<z.input<typeof assetPage>> {
  const isByFolder = asked.delimiter !== undefined;
  if (isByFolder && asked.trashed)
    throw invalid('delimiter', 'must not be there with trashed: the trash has no folders');
  const listed = isByFolder
    ? await withFolders(database, assets, asked, place, request.caller)
    : await assetsOf(assets, asked, place, request.caller);
  const { nextCursor, found, ...page } = listed;
  if (nextCursor !== undefined) reply.header('link', nextLink(request.url, nextCursor));
  return { ...page, data: found.map(documentOf), page: pageEnd(nextCursor) };
}

/** Folders first, and then assets, so many together. */
async function withFolders(
  database: Database,
  assets: AssetsRepository,
  asked: Asked,
  place: ListedPlace,
  caller: Caller,
): Promise<Listed> {
  const { cursor, limit, path = '' } = asked;
  const isOfAssets = cursor !== undefined && orderOf(cursor) !== FOLDERS;
  if (isOfAssets || !place.folders)
    return { folders: [], ...(await assetsOf(assets, { ...asked, path }, place, caller)) };
  const after = cursor === undefined ? undefined : decodeTextCursor(FOLDERS, cursor);
  const { folders, hasMore } = await foldersIn(database, place.folders, { path, after, limit });
  const last = folders.at(-1);
  if (last !== undefined && (hasMore || folders.length === limit))
    return { folders, found: [], nextCursor: encodeTextCursor(FOLDERS, last) };
  const { cursor: _, ...rest } = asked;
  return { folders, ...(await assetsOf(assets, { ...rest, path, limit: limit - folders.length }, place, caller)) };
}
const FOLDERS = 'folders';

async function assetsOf(
  assets: AssetsRepository,
  { cursor, projectId: _, delimiter, tag, metadata, ...filters }: Asked,
  { scope, projectId }: ListedPlace,
  caller: Caller,
): Promise<Listed> {
  const order = `${filters.sort}.${filters.order}`;
  const scanned = `${order}.scanned`;
  const query: ListQuery = {
    ...withoutUndefined(filters),
    ...(tag && { tags: tag }),
    ...(metadata && { metadata: entriesOf(metadata) }),
    scope,
    ...(projectId !== undefined && { projectId }),
    flat: delimiter !== undefined,
  };
  if (cursor !== undefined) {
    query.scans = orderOf(cursor) === scanned;
    query.after = decodeCursor(query.scans ? scanned : order, cursor);
  }
  const page = await assets.list(query, caller.id);
  const nextCursor = page.next && encodeCursor(page.next.scans ? scanned : order, page.next);
  return { found: page.assets, nextCursor };
}

function entriesOf(pairs: readonly (readonly [string, string])[]): Record<string, string> {
  if (new Set(pairs.map(([name]) => name)).size < pairs.length)
    throw invalid('metadata', 'must have each name once: an asset has one value of it');
  return Object.fromEntries(pairs);
}

/**
 * Whose assets are listed. Of a project that is none for the caller, as of one that nobody has made, what he has uploaded
 * there and may still see: nothing.
 */
export async function placeOf(database: Database, caller: Caller, projectId: string | undefined): Promise<ListedPlace> {
  const isLimited = caller.only !== undefined || caller.ticket !== undefined;
  if (projectId === undefined)
    return { scope: { kind: 'own', caller }, ...(!isLimited && { folders: { ownerId: caller.id } }) };
  const { role, ownOnly } = await standingOf(database, caller, projectId);
  if (role === undefined) return { scope: { kind: 'own', caller }, projectId };
  if (ownOnly) return { scope: { kind: 'own', caller }, projectId, folders: { ownerId: caller.id, projectId } };
  return { scope: { kind: 'project', projectId }, folders: { projectId } };
}

function invalid(parameter: string, detail: string): Problem {
  return new Problem('invalid-parameter', { detail: `${parameter} ${detail}.`, errors: [{ parameter, detail }] });
}

type Defined<T> = { [K in keyof T]: Exclude<T[K], undefined> };

/** Absent rather than undefined, as exactOptionalPropertyTypes wants it. */
function withoutUndefined<T extends object>(value: T): Defined<T> {
  return Object.fromEntries(Object.entries(value).filter(([, each]) => each !== undefined)) as Defined<T>;
}
