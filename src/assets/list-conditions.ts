/** What lists compare: their orders, their filters, and whose assets they have. */
import { and, eq, isNull, or, type Placeholder, type SQL, sql } from 'drizzle-orm';
import { type AccessParameter, isFor } from '../access/conditions.ts';
import type { Parameter } from '../database/statements.ts';
import { assets, folded, foldedName, hasPath, isHeld, searchLabels } from '../database/tables/assets.ts';

export const sorts = ['createdAt', 'name', 'size'] as const;
export type Sort = (typeof sorts)[number];

interface SortKey {
  expression: SQL;
  /** The same in a form that no index has: so it is sorted what was found, and not read in order until enough is found. */
  unindexed: SQL;
  /** Of its value in a cursor. */
  type: SQL;
  /** What the statement selects that is the same, so that Postgres knows the rows to be in order already. */
  selectedAs: 'createdAt' | 'sortValue' | 'size';
}

const lowerName = sql`lower(${assets.name}) collate "C"`;
/** What each sort compares. */
export const sortKeys: Record<Sort, SortKey> = {
  createdAt: {
    expression: sql`${assets.createdAt}`,
    unindexed: sql`(${assets.createdAt} + interval '0')`,
    type: sql`timestamptz`,
    selectedAs: 'createdAt',
  },
  name: {
    expression: lowerName,
    unindexed: sql`(lower(${assets.name}) || '') collate "C"`,
    type: sql`text collate "C"`,
    selectedAs: 'sortValue',
  },
  size: {
    expression: sql`${assets.size}`,
    unindexed: sql`(${assets.size} + 0)`,
    type: sql`bigint`,
    selectedAs: 'size',
  },
};

/** What each filter compares its value with. */
export const filters = {
  projectId: (value) => eq(assets.projectId, value),
  assetType: (value) => eq(assets.assetType, value),
  state: (value) => eq(assets.state, value),
  mediaType: (value) => eq(assets.mediaType, value),
  // '/' and '0' are neighbours in ASCII: between them lies the whole family.
  mediaFamily: (value) =>
    sql`${assets.mediaType} collate "C" > ${value}::text || '/' and ${assets.mediaType} collate "C" < ${value}::text || '0'`,
  name: (value) => {
    const lowest = sql`lower(${value}::text) collate "C"`;
    return sql`${lowerName} >= ${lowest} and ${lowerName} < ${lowest} || chr(1114111)`;
  },
  nameContains: (value) => sql`${foldedName} like '%' || ${folded(sql`${value}::text`)} || '%'`,
  /** The same of text that the index does not know: it would be read from end to end. */
  nameHas: (value) => sql`(${foldedName} || '') like '%' || ${folded(sql`${value}::text`)} || '%'`,
  isHeld: () => isHeld,
  tags: (value) => sql`${assets.tags} @> ${value}::text[]`,
  metadata: (value) => sql`${assets.metadata} @> ${value}::jsonb`,
  createdFrom: (value) => sql`${assets.createdAt} >= ${value}::timestamptz`,
  createdBefore: (value) => sql`${assets.createdAt} < ${value}::timestamptz`,
  minSize: (value) => sql`${assets.size} >= ${value}::bigint`,
  maxSize: (value) => sql`${assets.size} <= ${value}::bigint`,
  /** In no project. */
  isOutside: () => isNull(assets.projectId),
  /** In this folder itself. */
  folder: (value) => sql`${hasPath} and ${assets.path} collate "C" = ${value}::text`,
  /** In no folder. */
  isTop: () => eq(assets.path, sql`''`),
  /** In this folder or below it; the text that follows on all of them ends with the neighbour of '/'. */
  below: (value) =>
    sql`${hasPath} and ${assets.path} collate "C" >= ${value}::text and ${assets.path} collate "C" < left(${value}::text, -1) || '0'`,
} satisfies Record<string, (value: Placeholder) => SQL>;
export type Filter = keyof typeof filters;

export const filterNames = Object.keys(filters) as Filter[];

/** Those that the search index answers. */
export const searchedFilters: readonly Filter[] = ['nameContains', 'tags', 'metadata', 'folder', 'isTop'];

/** Whether a part of a name has three letters or digits in a row, by which pg_trgm knows it. */
export const hasTrigram = (text: string) => /[\p{L}\p{N}]{3}/u.test(text);

/** Text as `like` takes it for itself (PostgreSQL documentation, LIKE). */
export const literally = (text: string) => text.replace(/[\\%_]/g, '\\$&');

/** Filters that are a range of what each sort compares: they bound what is read in its order. */
const rangesOf: Record<Sort, readonly Filter[]> = {
  createdAt: ['createdFrom', 'createdBefore'],
  name: ['name'],
  size: ['minSize', 'maxSize'],
};
/** Equalities that have an index of their own in the order of time, of what one has uploaded himself. */
const leading: readonly Filter[] = ['projectId', 'assetType', 'mediaType'];

/**
 * The filters that the index of an order does not answer: with one of them, rows are read that are not on the page, and
 * nobody knows how many.
 * @param scope whose assets are listed
 */
export function unindexedFilters(
  given: readonly Filter[],
  { scope, sort, trashed }: { scope: 'own' | 'project'; sort: Sort; trashed: boolean },
): Filter[] {
  const others = given.filter((name) => !rangesOf[sort].includes(name));
  // The indexes of paths have the order of names within each folder of a place.
  if (sort === 'name' && !trashed && given.includes('folder')) {
    const ofPlace: readonly Filter[] = ['folder', 'projectId', 'isOutside'];
    return others.filter((name) => !ofPlace.includes(name));
  }
  if (scope === 'own' && sort === 'createdAt' && !trashed) {
    const first = leading.find((name) => others.includes(name));
    return others.filter((name) => name !== first);
  }
  return others;
}

/** What the caller has uploaded, where he may still see it: who has left a project has left his assets there. */
export const isOwn = (p: Parameter<AccessParameter>) => and(eq(assets.ownerId, p('subject')), isStillSeen(p));

export const isStillSeen = (p: Parameter<AccessParameter>) =>
  or(
    and(isNull(assets.projectId), isNull(sql`${p('only')}::text[]`), isNull(sql`${p('ticket')}::uuid`)),
    isFor(p, 'asset.read'),
  );

/** The same for the search index: it may read what is of one owner, project or folder only. */
export const labelled = {
  own: (p: Parameter<AccessParameter>) => sql`${searchLabels} @> array['owner:' || ${p('subject')}::text]`,
  project: (p: Parameter<'inProject'>) => sql`${searchLabels} @> array['project:' || ${p('inProject')}::text]`,
  folder: (p: Parameter<'folder'>) => sql`${searchLabels} @> array['in:' || ${p('folder')}::text]`,
  isTop: () => sql`${searchLabels} @> array['in:']`,
};
