/** What the assets of an owner come to, by each dimension: read from counters, never from the assets. */
import { and, eq, gt, or, type SQLWrapper, sql } from 'drizzle-orm';
import type { Database } from '../database/client.ts';
import { build, compile, now, type Parameter } from '../database/statements.ts';
import { assetStatistics, dimensions, STATISTICS_DAYS } from '../database/tables/statistics.ts';

/** Values of one dimension that are told, so that an answer has a bound: an owner may have any number of projects. */
export const MAX_VALUES = 1000;

export type Dimension = (typeof dimensions)[number];

export interface StatisticsRow {
  dimension: Dimension;
  /** Null for assets without a project. */
  value: string | null;
  count: number;
  bytes: number;
}

/** The first day that is told. */
const firstDay = sql`to_char((${now} at time zone 'UTC') - make_interval(days => ${sql.raw(String(STATISTICS_DAYS - 1))}), 'YYYY-MM-DD')`;

/** The counters of one dimension, in the order of the primary key: only as many rows are read as are told. */
function counters(p: Parameter<'ownerId'>, dimension: SQLWrapper) {
  const { ownerId, value, files, bytes } = assetStatistics;
  return build
    .select({ value, files, bytes })
    .from(assetStatistics)
    .where(
      and(
        eq(ownerId, p('ownerId')),
        eq(assetStatistics.dimension, dimension),
        gt(files, 0),
        or(sql`${dimension} <> 'day'`, sql`${value} >= ${firstDay}`),
      ),
    )
    .orderBy(value)
    .limit(MAX_VALUES + 1)
    .as('counters');
}

const getStatistics = compile('get-statistics', (p: Parameter<'ownerId'>) => {
  const dimension = sql<Dimension>`dimension.name`;
  const rows = counters(p, dimension);
  const value = sql<string | null>`nullif(${rows.value}, '')`;
  return build
    .select({
      dimension,
      value,
      count: rows.files,
      bytes: sql`greatest(${rows.bytes}, 0)`.mapWith(Number),
    })
    .from(sql`unnest(array[${sql.raw(dimensions.map((name) => `'${name}'`).join(', '))}]) as dimension (name)`)
    .crossJoinLateral(rows)
    .orderBy(dimension, value);
});

export class UsageRepository {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /**
   * Count and bytes of all visible assets of the owner, by each dimension; days are those of the last 30, in UTC. Of a
   * dimension, the first MAX_VALUES, and one more when there are more.
   */
  async statistics(ownerId: string): Promise<StatisticsRow[]> {
    const { rows } = await this.#database.run(getStatistics, { ownerId });
    return rows;
  }
}
