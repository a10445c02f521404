/**
 * Statements are written with drizzle-orm over the tables and compiled once, when their module is loaded: the builder
 * runs then and never again. What is left for a request is to fill in the values, and to turn rows into what the
 * statement selects. So a statement costs as little as one written by hand, its rows are typed by the tables, and a column
 * that was renamed is found by the type checker.
 *
 * The builder is given a session that runs nothing: it remembers text, parameters and columns. A compiled statement
 * belongs to no connection, so the same one runs on any pool and in any transaction; see `Executor.run` in client.ts.
 */
import {
  Column,
  type DriverValueDecoder,
  type GetColumnData,
  is,
  noopDecoder,
  Param,
  Placeholder,
  type Query,
  SQL,
  type SQLWrapper,
  sql,
} from 'drizzle-orm';
import {
  type PgColumn,
  PgDatabase,
  PgDialect,
  PgPreparedQuery,
  type PgQueryResultHKT,
  PgSession,
  PgTimestamp,
  type PreparedQueryConfig,
} from 'drizzle-orm/pg-core';

type Decode = (value: unknown) => unknown;
/** The columns of a result in their order, as drizzle-orm's session is told them. */
type Selected = Parameters<PgSession['prepareQuery']>[1];

/** Text with $1, $2, ... (PostgreSQL documentation, PREPARE), how to fill it in, and how to read its rows. */
export interface Statement<Name extends string, Row> {
  /** Of the prepared statement: each connection has it parsed and planned once. Absent: planned for its values each time. */
  readonly name: string | undefined;
  readonly text: string;
  /** The values in the order of the parameters. @throws when one is missing */
  bind(values: Values<Name>): unknown[];
  /** A row as an array in the order of the columns, as `pg` gives it with `rowMode: 'array'`. */
  decode(row: unknown[]): Row;
}

/** What the parameters of a statement stand for. Absent is null; `undefined` is an error. */
export type Values<Name extends string> = Readonly<Record<Name, unknown>>;

/** A parameter, to be put where a value would be: into a condition, `values`, `set`, or a piece of `sql`. */
export type Parameter<Name extends string> = (name: Name) => Placeholder;

/** What the builder makes of select, insert, update and delete. */
interface Compilable<Row> {
  prepare(name: string): PgPreparedQuery<PreparedQueryConfig & { execute: Row[] | unknown }>;
}
/** The type of one row of a query; of one that returns nothing, `never`, and so of a bare piece of `sql`. */
type RowOf<Made> = Made extends { prepare(name: string): { execute(): Promise<infer Result> } }
  ? Result extends readonly (infer Row)[]
    ? Row
    : never
  : never;

class Prepared<T extends PreparedQueryConfig> extends PgPreparedQuery<T> {
  readonly selected: Selected;

  constructor(query: Query, selected: Selected) {
    super(query, undefined, undefined);
    this.selected = selected;
  }

  override execute(): Promise<T['execute']> {
    throw new Error('a compiled statement is run by an Executor');
  }
}

class CompilingSession extends PgSession {
  override prepareQuery<T extends PreparedQueryConfig>(query: Query, selected: Selected): PgPreparedQuery<T> {
    return new Prepared(query, selected);
  }

  override transaction(): never {
    throw new Error('transactions are begun by DatabaseHandle.transact');
  }
}

const dialect = new PgDialect();

/** Where statements begin: `build.select(...)`, `build.with(...)`, `build.insert(...)`. It runs none of them. */
export const build = new PgDatabase<PgQueryResultHKT, Record<string, never>>(
  dialect,
  new CompilingSession(dialect),
  undefined,
);

/** On a connection, the same name must always stand for the same text. */
const names = new Set<string>();

export interface CompileOptions {
  /** `false` where the best plan depends on the values, such as lists with filters. */
  named?: boolean;
}

/**
 * Compiles a statement, once, when its module is loaded.
 * @param name of the prepared statement; must be of this statement alone
 * @param make is called once, with what makes parameters of the names that it declares:
 *   `(parameter: Parameter<'id' | 'ownerId'>) => build.select()...`
 */
export function compile<Name extends string, Made extends Compilable<unknown> | SQL>(
  name: string,
  make: (parameter: Parameter<Name>) => Made,
  { named = true }: CompileOptions = {},
): Statement<Name, RowOf<Made>> {
  if (named && names.has(name)) throw new TypeError(`there are two statements with the name ${name}`);
  if (named) names.add(name);
  const made = make((parameter) => sql.placeholder(parameter));
  const { query, selected } = is(made, SQL)
    ? { query: dialect.sqlToQuery(made), selected: undefined }
    : parts(made.prepare(name));
  const binders = query.params.map(binder);
  return {
    name: named ? name : undefined,
    text: query.sql,
    bind: (values) => binders.map((bind) => bind(values)),
    decode: selected ? decoder(selected) : decodeNothing,
  };
}

function parts(prepared: unknown): { query: Query; selected: Selected } {
  if (!(prepared instanceof Prepared)) throw new TypeError('statements are built with `build`');
  return { query: prepared.getQuery(), selected: prepared.selected };
}

/**
 * A constant comes from the builder as Postgres takes it. A placeholder has a column with it where it is written to one;
 * where it is compared with one, the value goes to `pg` as it is.
 */
function binder(parameter: unknown): (values: Readonly<Record<string, unknown>>) => unknown {
  const placeholder = is(parameter, Param) ? parameter.value : parameter;
  if (!is(placeholder, Placeholder)) return () => parameter;
  const { name } = placeholder;
  const encoder = is(parameter, Param) ? parameter.encoder : undefined;
  return (values) => {
    const value = values[name];
    if (value === undefined) throw new TypeError(`the parameter ${name} has no value`);
    return value === null || encoder === undefined ? value : encoder.mapToDriverValue(value);
  };
}

/** Reads one row; what Postgres sends as text (bigint, timestamps) becomes what the column says. */
function decoder<Row>(selected: NonNullable<Selected>): (row: unknown[]) => Row {
  const columns = selected.map(({ path, field }) => {
    if (path.length !== 1 || path[0] === undefined) throw new TypeError('columns are selected by one name each');
    return { name: path[0], read: reader(field) };
  });
  // Rows are copies of this one, so that all have one shape: V8 then writes to them without looking names up.
  const empty: Readonly<Record<string, unknown>> = Object.fromEntries(columns.map(({ name }) => [name, null]));
  return (row) => {
    const read = { ...empty };
    for (let index = 0; index < columns.length; index++) {
      const column = columns[index];
      const value = row[index];
      if (column && value !== null) read[column.name] = column.read ? column.read(value) : value;
    }
    return read as Row;
  };
}

/** How a value is read; undefined when it is taken as it is. */
function reader(field: NonNullable<Selected>[number]['field']): Decode | undefined {
  const source = is(field, SQL.Aliased) ? field.sql : field;
  if (is(source, PgTimestamp) && source.withTimezone) return readTimestamp;
  if (is(source, Column)) {
    if (source.mapFromDriverValue === Column.prototype.mapFromDriverValue) return undefined;
    return (value) => source.mapFromDriverValue(value);
  }
  if (!is(source, SQL)) return undefined;
  const { decoder: own } = source as unknown as { decoder: DriverValueDecoder<unknown, unknown> };
  if (own === noopDecoder) return undefined;
  return is(own, PgTimestamp) && own.withTimezone ? readTimestamp : (value) => own.mapFromDriverValue(value);
}

/**
 * A timestamp as Postgres sends it in UTC (`2026-11-21 16:25:43.661+00`, without zeros at the end of the fraction) is read
 * by hand, five times as fast as by `Date`, which reads all others: of another time zone, with microseconds, before the
 * year 100 (Date.UTC takes such a year for one of the 20th century) or after 9999.
 */
function readTimestamp(value: unknown): unknown {
  if (typeof value !== 'string') return value;
  const digits = value.length - '2026-11-21 16:25:43.+00'.length;
  const hasFraction = digits >= 1 && digits <= 3 && value.charCodeAt(19) === POINT;
  if (!(hasFraction || digits === -1) || !value.endsWith('+00') || value.charCodeAt(4) !== DASH || value < '0100')
    return new Date(value);
  let milliseconds = 0;
  for (let index = 0; index < 3; index++)
    milliseconds = milliseconds * 10 + (index < digits ? value.charCodeAt(20 + index) - ZERO : 0);
  const year = pair(value, 0) * 100 + pair(value, 2);
  return new Date(
    Date.UTC(year, pair(value, 5) - 1, pair(value, 8), pair(value, 11), pair(value, 14), pair(value, 17), milliseconds),
  );
}

const ZERO = 0x30;
const POINT = 0x2e;
const DASH = 0x2d;
/** The number of two digits that stands there. */
const pair = (text: string, at: number) => (text.charCodeAt(at) - ZERO) * 10 + text.charCodeAt(at + 1) - ZERO;

function decodeNothing(): never {
  throw new TypeError('a statement that selects nothing has no rows to read');
}

/** A parameter of the type of a column, for where Postgres cannot tell its type: in the list of a select. */
export function typed<C extends PgColumn>(parameter: Placeholder, column: C): SQL<GetColumnData<C>> {
  return sql`${sql.param(parameter, column)}::${sql.raw(column.getSQLType())}`.mapWith(column);
}

/** In `on conflict do update`: what the row that was not inserted has in this column. */
export function excluded(column: PgColumn): SQL {
  return sql`excluded.${sql.identifier(column.name)}`;
}

/** `jsonb_build_object` of these columns and expressions. */
export function jsonObject(fields: Readonly<Record<string, SQLWrapper>>): SQL {
  const pairs = Object.entries(fields).map(([key, value]) => sql`${sql.raw(`'${key}'`)}, ${value}`);
  return sql`jsonb_build_object(${sql.join(pairs, sql`, `)})`;
}

/**
 * The values of a parameter that is an array, one row each, of the type of a column. Several of them in the list of one
 * select go side by side (PostgreSQL documentation, Set Returning Functions).
 */
export function unnested<C extends PgColumn>(values: Placeholder, column: C): SQL<GetColumnData<C>> {
  return sql`unnest(${values}::${sql.raw(column.getSQLType())}[])`.mapWith(column);
}

/**
 * The rows of a parameter that is a JSON array of objects, for what is done to many by one statement. What an object lacks is null.
 * @param columns by name; their type, or a column that has it
 */
export function jsonRows<Name extends string>(name: string, columns: Readonly<Record<Name, PgColumn | string>>) {
  const quoted = (column: string) => sql.identifier(column);
  const typeOf = (column: PgColumn | string) => sql.raw(is(column, Column) ? column.getSQLType() : column);
  const definitions = Object.entries<PgColumn | string>(columns).map(
    ([column, type]) => sql`${quoted(column)} ${typeOf(type)}`,
  );
  return {
    column: (column: Name) => sql`${quoted(name)}.${quoted(column)}`,
    from: (rows: SQLWrapper) =>
      sql`jsonb_to_recordset(${rows}::jsonb) as ${quoted(name)} (${sql.join(definitions, sql`, `)})`,
  };
}

/** Bytes as they are in such rows (PostgreSQL documentation, bytea Hex Format). */
export function inHexadecimal(bytes: Buffer): string {
  return `\\x${bytes.toString('hex')}`;
}

/** One row without columns: the builder has no select without `from`. */
export const nowhere = sql`(select) as nowhere`;

/** That a column is one of the values of a parameter, which is an array. */
export function isAnyOf(column: PgColumn, values: Placeholder): SQL {
  return sql`${column} = any(${values}::${sql.raw(column.getSQLType())}[])`;
}

/** The bare names of columns, as the head of an `insert` and what is set have them. */
export function namesOf(...columns: PgColumn[]): SQL {
  return sql.join(
    columns.map(({ name }) => sql.identifier(name)),
    sql`, `,
  );
}

/**
 * A limit that stands in the text: one plan then serves all values, and the planner knows how few rows are wanted. The
 * builder makes a parameter of a number; a piece of SQL it takes as it is, though its types do not say so.
 */
export function writtenOut(limit: number): Placeholder {
  if (!Number.isSafeInteger(limit)) throw new TypeError(`${limit} is no limit`);
  return sql.raw(String(limit)) as unknown as Placeholder;
}

/** By the clock of the database: when the transaction began. */
export const now = sql`now()`;

export function inSeconds(seconds: Placeholder | number): SQL {
  return sql`now() + make_interval(secs => ${seconds})`;
}

export function daysAgo(days: number): SQL {
  return sql`now() - make_interval(days => ${days})`;
}

export function hoursAgo(hours: number): SQL {
  return sql`now() - make_interval(hours => ${hours})`;
}
