/** What the assets of an owner come to, by each dimension. */
import { and, count, eq, type SQLWrapper, sql, sum } from 'drizzle-orm';
import type { Database } from '../database/client.ts';
import { build, compile, now, type Parameter } from '../database/statements.ts';
import { assets, isVisible } from '../database/tables/assets.ts';

/** Days that statistics by day go back. */
const DAYS = 30;

export type Dimension = 'assetType' | 'mediaType' | 'project' | 'day';

export interface StatisticsRow {
  dimension: Dimension;
  /** Null for assets without a project. */
  value: string | null;
  count: number;
  bytes: number;
}

const inUtc = (moment: SQLWrapper) => sql`(${moment} at time zone 'UTC')`;
const dayOf = (local: SQLWrapper) => sql<string>`to_char(${local}, 'YYYY-MM-DD')`;

const getStatistics = compile(
  'get-statistics',
  (p: Parameter<'ownerId'>) => {
    const counted = build.$with('counted').as(
      build
        .select({
          assetType: assets.assetType,
          mediaType: assets.mediaType,
          projectId: assets.projectId,
          size: assets.size,
          day: dayOf(inUtc(assets.createdAt)).as('day'),
        })
        .from(assets)
        .where(and(eq(assets.ownerId, p('ownerId')), isVisible)),
    );
    const { assetType, mediaType, projectId, day } = counted;
    const dimension = sql<Dimension>`case when grouping(${assetType}) = 0 then 'assetType'
      when grouping(${mediaType}) = 0 then 'mediaType' when grouping(${projectId}) = 0 then 'project' else 'day' end`;
    return build
      .with(counted)
      .select({
        dimension,
        value: sql<string | null>`coalesce(${assetType}, ${mediaType}, ${projectId}, ${day})`,
        count: count(),
        bytes: sum(counted.size).mapWith(Number),
      })
      .from(counted)
      .groupBy(sql`grouping sets (${assetType}, ${mediaType}, ${projectId}, ${day})`)
      .having(sql`grouping(${day}) = 1 or ${day} > ${dayOf(sql`${inUtc(now)} - make_interval(days => ${DAYS})`)}`)
      .orderBy(sql`1`, sql`2`);
  },
  { named: false },
);

export class UsageRepository {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** Count and bytes of all visible assets of the owner, by each dimension; days are those of the last 30, in UTC. */
  async statistics(ownerId: string): Promise<StatisticsRow[]> {
    const { rows } = await this.#database.run(getStatistics, { ownerId });
    return rows;
  }
}
