/**
 * The pages of the list, in keyset order. A page ends after its last row or its last byte, whichever comes first: Postgres
 * adds up what the records take and sends none beyond MAX_PAGE_BYTES, so neither its answer nor ours grows with what is in
 * them. Nearly all of them are usual: 50 assets, no filter. Such statements are compiled
 * when this module is loaded and are prepared, which makes lists half as fast again: their limit is written out, so the
 * plan that serves every owner is the one over the index of its order. With filters the best plan depends on the values,
 * and there would be too many statements: they are compiled when they are first asked for.
 */
import { and, asc, desc, eq, isNotNull, isNull, lte, or, type Placeholder, type SQL, sql } from 'drizzle-orm';
import type { Caller } from '../access/caller.ts';
import { type AccessParameter, accessOf, isFor } from '../access/conditions.ts';
import { build, compile, type Parameter, type Statement, writtenOut } from '../database/statements.ts';
import { assets, isVisible } from '../database/tables/assets.ts';
import { type AssetRow, assetColumns } from './asset.ts';

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
  trashed: boolean;
  sort: (typeof sorts)[number];
  order: (typeof orders)[number];
  /** Last row of the page before. */
  after?: { value: string; id: string };
  limit: number;
}

const sorts = ['createdAt', 'name', 'size'] as const;
const orders = ['asc', 'desc'] as const;
/** Of JSON, in one page; one record is sent however large it is. */
export const MAX_PAGE_BYTES = 1024 * 1024;
/** What a record takes at most beside its metadata: a name of 255 bytes, each escaped, is a third of it. */
const RECORD_BYTES = 1536;
/** JSON as Postgres writes it is never shorter than as we send it. A record that is larger than a page counts as one. */
const recordBytes = sql<number>`least(${sql.raw(String(MAX_PAGE_BYTES))}, ${sql.raw(String(RECORD_BYTES))} + octet_length(${assets.metadata}::text))`;
/** A page of 50, and the one more that tells whether others follow. */
const USUAL_LIMIT = 51;
/** Other statements that are kept, of some thousand that there can be. */
const MAX_OTHERS = 200;

interface SortKey {
  expression: SQL;
  /** Of its value in a cursor. */
  type: SQL;
  /** What the statement selects that is the same, so that Postgres knows the rows to be in order already. */
  selectedAs: 'createdAt' | 'sortValue' | 'size';
}

/** What each sort compares. */
const sortKeys: Record<ListQuery['sort'], SortKey> = {
  createdAt: { expression: sql`${assets.createdAt}`, type: sql`timestamptz`, selectedAs: 'createdAt' },
  name: { expression: sql`lower(${assets.name}) collate "C"`, type: sql`text collate "C"`, selectedAs: 'sortValue' },
  size: { expression: sql`${assets.size}`, type: sql`bigint`, selectedAs: 'size' },
};

/** What each filter compares its value with. */
const filters = {
  projectId: (value) => eq(assets.projectId, value),
  assetType: (value) => eq(assets.assetType, value),
  state: (value) => eq(assets.state, value),
  mediaType: (value) => eq(assets.mediaType, value),
  // '/' and '0' are neighbours in ASCII: between them lies the whole family.
  mediaFamily: (value) =>
    sql`${assets.mediaType} collate "C" > ${value}::text || '/' and ${assets.mediaType} collate "C" < ${value}::text || '0'`,
  name: (value) => {
    const { expression } = sortKeys.name;
    const lowest = sql`lower(${value}::text) collate "C"`;
    return sql`${expression} >= ${lowest} and ${expression} < ${lowest} || chr(1114111)`;
  },
} satisfies Record<string, (value: Placeholder) => SQL>;
type Filter = keyof typeof filters;

const filterNames = Object.keys(filters) as Filter[];

/** What the caller has uploaded, where he may still see it: who has left a project has left his assets there. */
const isOwn = (p: Parameter<AccessParameter>) =>
  and(
    eq(assets.ownerId, p('subject')),
    or(
      and(isNull(assets.projectId), isNull(sql`${p('only')}::text[]`), isNull(sql`${p('ticket')}::uuid`)),
      isFor(p, 'asset.read'),
    ),
  );

/** Of a list that asks what the caller is to the project before it is made. */
const nobody = { subject: null, claims: null, only: null, ticket: null, anywhere: null };

/** All that decides the text of a statement. */
type Shape = Pick<ListQuery, 'sort' | 'order' | 'trashed'> & {
  scope: ListScope['kind'];
  goesOn: boolean;
  filters: Filter[];
  isUsual: boolean;
};
type ListParameter = 'inProject' | 'value' | 'id' | 'limit' | Filter | AccessParameter;
/** `bytes`: what the page takes up to the end of this row. */
type ListRow = AssetRow & { sortValue: string; bytes: number };
type ListStatement = Statement<ListParameter, ListRow>;

const usual = new Map<string, ListStatement>();
for (const scope of ['own', 'project'] as const)
  for (const sort of sorts)
    for (const order of orders)
      for (const trashed of [false, true])
        for (const goesOn of [false, true]) {
          const shape: Shape = { scope, sort, order, trashed, goesOn, filters: [], isUsual: true };
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
export function listStatement(query: ListQuery): { statement: ListStatement; values: Record<ListParameter, unknown> } {
  const { scope, sort, order, trashed, after, mediaType, limit } = query;
  const isFamily = mediaType?.endsWith('/*');
  const values = {
    ...(scope.kind === 'own' ? accessOf(scope.caller) : nobody),
    inProject: scope.kind === 'project' ? scope.projectId : null,
    projectId: query.projectId,
    assetType: query.assetType,
    state: query.state,
    mediaType: isFamily ? undefined : mediaType,
    mediaFamily: isFamily ? mediaType?.slice(0, -2) : undefined,
    name: query.name,
    value: after?.value,
    id: after?.id,
    limit,
  };
  const given = filterNames.filter((name) => values[name] !== undefined);
  const isUsual = limit === USUAL_LIMIT && given.length === 0;
  const shape: Shape = {
    scope: scope.kind,
    sort,
    order,
    trashed,
    goesOn: after !== undefined,
    filters: given,
    isUsual,
  };
  return { statement: statementOf(shape), values };
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

function nameOf({ scope, sort, order, trashed, goesOn, filters: given, isUsual }: Shape): string {
  const page = `list-${scope === 'own' ? '' : 'project-'}${sort}-${order}${trashed ? '-trashed' : ''}${goesOn ? '-after' : ''}`;
  return isUsual ? page : `${page}-by-${given.join('-')}`;
}

function compileList(shape: Shape): ListStatement {
  const { expression, type, selectedAs: sortKey } = sortKeys[shape.sort];
  const [direction, comparison] = shape.order === 'asc' ? [asc, sql`>`] : [desc, sql`<`];
  return compile(
    nameOf(shape),
    (p: Parameter<ListParameter>) => {
      const rows = build
        .select({
          ...assetColumns,
          sortValue: sql<string>`(${expression})::text`.as('sort_value'),
          own: recordBytes.as('own'),
          bytes:
            sql`sum(${recordBytes}) over (order by ${direction(expression)}, ${direction(assets.id)} rows unbounded preceding)`
              .mapWith(Number)
              .as('bytes'),
        })
        .from(assets)
        .where(
          and(
            shape.scope === 'own' ? isOwn(p) : eq(assets.projectId, p('inProject')),
            isVisible,
            shape.trashed ? isNotNull(assets.trashedAt) : isNull(assets.trashedAt),
            ...shape.filters.map((filter) => filters[filter](p(filter))),
            shape.goesOn
              ? sql`(${expression}, ${assets.id}) ${comparison} (${p('value')}::${type}, ${p('id')}::uuid)`
              : undefined,
          ),
        )
        .orderBy(direction(expression), direction(assets.id))
        .limit(shape.isUsual ? writtenOut(USUAL_LIMIT) : p('limit'))
        .as('rows');
      return build
        .select()
        .from(rows)
        .where(lte(sql`${rows.bytes} - ${rows.own}`, writtenOut(MAX_PAGE_BYTES)))
        .orderBy(direction(rows[sortKey]), direction(rows.id));
    },
    { named: shape.isUsual },
  );
}
