/**
 * The pages of the list, in keyset order. A page ends after its last row or its last byte, whichever comes first: Postgres
 * adds up what the records take and sends none beyond MAX_PAGE_BYTES, so neither its answer nor ours grows with what is in
 * them. Nearly all of them are usual: 50 assets, no filter. Such statements are compiled
 * when this module is loaded and are prepared, which makes lists half as fast again: their limit is written out, so the
 * plan that serves every owner is the one over the index of its order. With filters the best plan depends on the values,
 * and there would be too many statements: they are compiled when they are first asked for.
 *
 * There are three kinds of statement: a `page`, of which every filter is answered by the index of the order; a `scan`, which
 * reads a number of rows in order and gives those that match; and a `lookup`, which finds all that match by whatever
 * index is best, and sorts them. See search.ts for which is run when.
 */
import {
  and,
  asc,
  count,
  desc,
  eq,
  getTableColumns,
  getTableName,
  isNotNull,
  isNull,
  lte,
  type SQL,
  sql,
} from 'drizzle-orm';
import { unionAll } from 'drizzle-orm/pg-core';
import type { Caller } from '../access/caller.ts';
import { type AccessParameter, accessOf } from '../access/conditions.ts';
import { build, compile, type Parameter, type Statement, writtenOut } from '../database/statements.ts';
import { assets, isVisible } from '../database/tables/assets.ts';
import { type AssetRow, assetColumns } from './asset.ts';
import {
  type Filter,
  filterNames,
  filters,
  hasTrigram,
  isOwn,
  isStillSeen,
  labelled,
  literally,
  type Sort,
  searchedFilters,
  sortKeys,
  sorts,
  unindexedFilters,
} from './list-conditions.ts';

/** Whose assets are listed, as far as the caller may see them. */
export type ListScope =
  /** What the caller has uploaded, in projects or not. */
  | { kind: 'own'; caller: Caller }
  /** All of a project, whoever has uploaded it. */
  | { kind: 'project'; projectId: string };

export interface ListQuery {
  scope: ListScope;
  projectId?: string;
  assetType?: string;
  /** Exact, or a whole family such as `image/*`. */
  mediaType?: string;
  state?: string;
  /** Begins with, upper and lower case alike. */
  name?: string;
  /** Without case and accents. */
  nameContains?: string;
  /** All of them. */
  tags?: readonly string[];
  /** Each of them. */
  metadata?: Readonly<Record<string, string>>;
  /** RFC 3339. */
  createdFrom?: string;
  createdBefore?: string;
  /** Bytes. */
  minSize?: number;
  maxSize?: number;
  /** A folder, empty for the top; with what is below it, unless it is `flat`. Folders are of a project, or of none. */
  path?: string;
  flat?: boolean;
  held?: boolean;
  trashed: boolean;
  sort: Sort;
  order: (typeof orders)[number];
  /** Last row of the page before. */
  after?: { value: string; id: string };
  /** The page before was scanned; see search.ts. */
  scans?: boolean;
  limit: number;
}

const orders = ['asc', 'desc'] as const;
/** Of JSON, in one page; one record is sent however large it is. */
export const MAX_PAGE_BYTES = 1024 * 1024;
/** What a record takes at most beside its metadata and labels: a name of 255 bytes, each escaped, is a third of it. */
const RECORD_BYTES = 1536;
/** JSON as Postgres writes it is never shorter than as we send it. A record that is larger than a page counts as one. */
const recordBytes = sql<number>`least(${sql.raw(String(MAX_PAGE_BYTES))}, ${sql.raw(String(RECORD_BYTES))} + octet_length(${assets.metadata}::text)
  + octet_length(to_json(${assets.path})::text) + octet_length(to_json(${assets.tags})::text)
  + coalesce(octet_length(${assets.holds}::text), 0))`;
const isLast = (is: boolean) => sql<boolean>`${sql.raw(String(is))}`.as('is_last');
/** A page of 50, and the one more that tells whether others follow. */
const USUAL_LIMIT = 51;
/** Other statements that are kept, of some thousand that there can be. */
const MAX_OTHERS = 200;

/** Of a list that asks what the caller is to the project before it is made. */
const nobody = { subject: null, claims: null, only: null, ticket: null, anywhere: null };

/** All that decides the text of a statement. */
type Shape = Pick<ListQuery, 'sort' | 'order' | 'trashed'> & {
  kind: 'page' | 'scan' | 'lookup';
  scope: ListScope['kind'];
  goesOn: boolean;
  filters: Filter[];
  isUsual: boolean;
};
type ListParameter = 'inProject' | 'value' | 'id' | 'limit' | 'scanned' | 'skipped' | Filter | AccessParameter;
/** `bytes`: what the page takes up to the end of this row. `isLast`: it is the last one that a scan has read, matching or not. */
export type ListRow = AssetRow & { sortValue: string; bytes: number; isLast: boolean };
type ListStatement = Statement<ListParameter, ListRow>;
export interface FilledStatement {
  statement: ListStatement;
  values: Record<ListParameter, unknown>;
}

const usual = new Map<string, ListStatement>();
for (const scope of ['own', 'project'] as const)
  for (const sort of sorts)
    for (const order of orders)
      for (const trashed of [false, true])
        for (const goesOn of [false, true]) {
          const shape: Shape = { kind: 'page', scope, sort, order, trashed, goesOn, filters: [], isUsual: true };
          usual.set(nameOf(shape), compileList(shape));
        }
const others = new Map<string, ListStatement>();

/**
 * The rows that make the page, out of those that `listStatement` gave for a limit of one row more: it gives one more too
 * where the bytes are used up.
 */
export function pageOf<Row extends { bytes: number }>(rows: Row[], limit: number): { page: Row[]; hasMore: boolean } {
  const page = rows.filter(({ bytes }, index) => index < limit && (index === 0 || bytes <= MAX_PAGE_BYTES));
  return { page, hasMore: rows.length > page.length };
}

/** The statement of a page, and its values; public so that a test can EXPLAIN it. */
export function listStatement(query: ListQuery): FilledStatement {
  return filled(query, 'page', null);
}

/**
 * The statement that reads at most `scanned` rows in order. It gives those that match, until there are as many as the limit,
 * and beside them the last row that was read, when there may be others.
 */
export function scanStatement(query: ListQuery, scanned: number): FilledStatement {
  return filled(query, 'scan', scanned);
}

/** The statement that finds all that match and gives the first of them; its work has no bound but that of time. */
export function lookupStatement(query: ListQuery): FilledStatement {
  return filled(query, 'lookup', null);
}

/** Whether a page can be read in order without rows that are not on it. */
export function isInOrder(query: ListQuery): boolean {
  const { scope, sort, trashed } = query;
  return unindexedFilters(givenOf(filterValues(query)), { scope: scope.kind, sort, trashed }).length === 0;
}

function filled(query: ListQuery, kind: Shape['kind'], scanned: number | null): FilledStatement {
  const { scope, sort, order, trashed, after, limit } = query;
  const given = filterValues(query);
  const values = {
    ...(scope.kind === 'own' ? accessOf(scope.caller) : nobody),
    inProject: scope.kind === 'project' ? scope.projectId : null,
    ...given,
    value: after?.value,
    id: after?.id,
    limit,
    scanned,
    skipped: scanned === null ? null : scanned - 1,
  };
  const names = givenOf(given);
  const isUsual = kind === 'page' && limit === USUAL_LIMIT && names.length === 0;
  const goesOn = after !== undefined;
  const shape: Shape = { kind, scope: scope.kind, sort, order, trashed, goesOn, filters: names, isUsual };
  return { statement: statementOf(shape), values };
}

function filterValues(query: ListQuery): Record<Filter, unknown> {
  const { scope, projectId, mediaType, nameContains, path, flat, metadata } = query;
  const isFamily = mediaType?.endsWith('/*');
  const contained = nameContains === undefined ? undefined : literally(nameContains);
  const isSearchable = nameContains !== undefined && hasTrigram(nameContains);
  return {
    projectId,
    assetType: query.assetType,
    state: query.state,
    mediaType: isFamily ? undefined : mediaType,
    mediaFamily: isFamily ? mediaType?.slice(0, -2) : undefined,
    name: query.name,
    nameContains: isSearchable ? contained : undefined,
    nameHas: isSearchable ? undefined : contained,
    isHeld: query.held ? true : undefined,
    tags: query.tags,
    metadata: metadata && JSON.stringify(metadata),
    createdFrom: query.createdFrom,
    createdBefore: query.createdBefore,
    minSize: query.minSize,
    maxSize: query.maxSize,
    isOutside: path !== undefined && scope.kind === 'own' && projectId === undefined ? true : undefined,
    folder: flat && path !== '' ? path : undefined,
    isTop: flat && path === '' ? true : undefined,
    below: flat || path === '' ? undefined : path,
  };
}

function givenOf(values: Record<Filter, unknown>): Filter[] {
  return filterNames.filter((name) => values[name] !== undefined);
}

function statementOf(shape: Shape): ListStatement {
  const name = nameOf(shape);
  const known = usual.get(name) ?? others.get(name);
  if (known) return known;
  const [oldest] = others.keys();
  if (others.size >= MAX_OTHERS && oldest !== undefined) others.delete(oldest);
  const statement = compileList(shape);
  others.set(name, statement);
  return statement;
}

function nameOf({ kind, scope, sort, order, trashed, goesOn, filters: given, isUsual }: Shape): string {
  const page = `list-${scope === 'own' ? '' : 'project-'}${sort}-${order}${trashed ? '-trashed' : ''}${goesOn ? '-after' : ''}`;
  return isUsual ? page : `${kind}-${page}-by-${given.join('-')}`;
}

function compileList(shape: Shape): ListStatement {
  const { selectedAs: sortKey } = sortKeys[shape.sort];
  const { direction } = directionOf(shape);
  return compile(
    nameOf(shape),
    (p: Parameter<ListParameter>) => {
      const { rows, before } = { page: pageRows, scan: scannedRows, lookup: foundRows }[shape.kind](p, shape);
      return (
        build
          .with(...before)
          .select()
          .from(rows)
          .where(lte(sql`${rows.bytes} - ${rows.own}`, writtenOut(MAX_PAGE_BYTES)))
          // The last row that was read may match as well.
          .orderBy(direction(rows[sortKey]), direction(rows.id), ...(shape.kind === 'scan' ? [asc(rows.isLast)] : []))
      );
    },
    { named: shape.isUsual },
  );
}

type Parameters = Parameter<ListParameter>;

function directionOf({ order }: Pick<Shape, 'order'>) {
  return order === 'asc' ? { direction: asc, comparison: sql`>` } : { direction: desc, comparison: sql`<` };
}

/** What is selected of each row. @param ordering in which the bytes are added up */
function columnsOf({ sort, order }: Shape, key: SQL = sortKeys[sort].expression) {
  const { direction } = directionOf({ order });
  return {
    ...assetColumns,
    sortValue: sql<string>`(${sortKeys[sort].expression})::text`.as('sort_value'),
    own: recordBytes.as('own'),
    bytes: sql`sum(${recordBytes}) over (order by ${direction(key)}, ${direction(assets.id)} rows unbounded preceding)`
      .mapWith(Number)
      .as('bytes'),
  };
}

/** In the trash or not, and after the page before. */
function isListed(p: Parameters, { sort, order, trashed, goesOn }: Shape): SQL | undefined {
  const { expression, type } = sortKeys[sort];
  return and(
    isVisible,
    trashed ? isNotNull(assets.trashedAt) : isNull(assets.trashedAt),
    goesOn
      ? sql`(${expression}, ${assets.id}) ${directionOf({ order }).comparison} (${p('value')}::${type}, ${p('id')}::uuid)`
      : undefined,
  );
}

function pageRows(p: Parameters, shape: Shape) {
  const { direction } = directionOf(shape);
  const rows = build
    .select({ ...columnsOf(shape), isLast: isLast(false) })
    .from(assets)
    .where(
      and(
        shape.scope === 'own' ? isOwn(p) : eq(assets.projectId, p('inProject')),
        isListed(p, shape),
        ...shape.filters.map((filter) => filters[filter](p(filter))),
      ),
    )
    .orderBy(direction(sortKeys[shape.sort].expression), direction(assets.id))
    .limit(shape.isUsual ? writtenOut(USUAL_LIMIT) : p('limit'))
    .as('rows');
  return { rows, before: [] };
}

/**
 * The index of the order is read within its bounds, and each row is looked at outside, where the subquery stands for the table: Postgres ends when the page is full, or
 * when so many rows were read. What the caller is to a row is asked last, as that is another look at the database.
 */
function scannedRows(p: Parameters, shape: Shape) {
  const { direction } = directionOf(shape);
  const unindexed = unindexedFilters(shape.filters, shape);
  const inOrder = [direction(sortKeys[shape.sort].expression), direction(assets.id)] as const;
  const inBounds = and(
    eq(shape.scope === 'own' ? assets.ownerId : assets.projectId, p(shape.scope === 'own' ? 'subject' : 'inProject')),
    isListed(p, shape),
    ...shape.filters.filter((name) => !unindexed.includes(name)).map((filter) => filters[filter](p(filter))),
  );
  const read = build
    .select(getTableColumns(assets))
    .from(assets)
    .where(inBounds)
    .orderBy(...inOrder)
    .limit(p('scanned'))
    .as(getTableName(assets));
  const matching = build.$with('matching').as(
    build
      .select({ ...columnsOf(shape), isLast: isLast(false) })
      .from(read)
      .where(
        and(
          ...unindexed.map((filter) => filters[filter](p(filter))),
          shape.scope === 'own' ? isStillSeen(p) : undefined,
        ),
      )
      .orderBy(...inOrder)
      .limit(p('limit')),
  );
  const sortValue = sql<string>`(${sortKeys[shape.sort].expression})::text`;
  const found = build.select({ count: count() }).from(matching);
  const last = build
    .select({
      ...assetColumns,
      sortValue: sortValue.as('sort_value'),
      own: sql<number>`0`.as('own'),
      bytes: sql<number>`0::numeric`.mapWith(Number).as('bytes'),
      isLast: isLast(true),
    })
    .from(assets)
    .where(and(inBounds, sql`(${found}) < ${p('limit')}::bigint`))
    .orderBy(...inOrder)
    .offset(p('skipped'))
    .limit(writtenOut(1));
  return { rows: unionAll(build.select().from(matching), last).as('rows'), before: [matching] };
}

/** All of its place that match are found first; the bytes are added up of those alone that are on the page. */
function foundRows(p: Parameters, shape: Shape) {
  const { direction } = directionOf(shape);
  const { unindexed } = sortKeys[shape.sort];
  const searched = shape.filters.filter((name) => searchedFilters.includes(name));
  const conditions = and(
    shape.scope === 'own' ? isOwn(p) : eq(assets.projectId, p('inProject')),
    searched.length === 0 ? undefined : shape.scope === 'own' ? labelled.own(p) : labelled.project(p),
    shape.filters.includes('folder') ? labelled.folder(p) : undefined,
    shape.filters.includes('isTop') ? labelled.isTop() : undefined,
    isListed(p, shape),
    ...shape.filters.map((filter) => filters[filter](p(filter))),
  );
  const found = build
    .select(getTableColumns(assets))
    .from(assets)
    .where(conditions)
    .orderBy(direction(unindexed), direction(assets.id))
    .limit(p('limit'))
    .as(getTableName(assets));
  return {
    rows: build
      .select({ ...columnsOf(shape, unindexed), isLast: isLast(false) })
      .from(found)
      .as('rows'),
    before: [],
  };
}
