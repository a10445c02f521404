/**
 * Statistics that are not the sum of the records: found, and corrected by what is missing. Each change of an asset changes
 * the counters in the same statement, so one statement that reads both sees them agree, whatever runs beside it; and what
 * is added to a counter commutes with what uploads add. So nothing is locked.
 */
import { and, count, eq, type SQL, type SQLWrapper, sql, sum } from 'drizzle-orm';
import { type Actor, auditFrom } from '../database/audit.ts';
import type { Executor } from '../database/client.ts';
import { build, compile, jsonObject, now, type Parameter, typed } from '../database/statements.ts';
import { assets } from '../database/tables/assets.ts';
import {
  assetCounter,
  assetCounters,
  assetStatistics,
  dimensions,
  STATISTICS_DAYS,
} from '../database/tables/statistics.ts';

/** Days that the triggers count no more are as they may be; the last one they count is left alone too. */
const countedSince = sql`to_char((${now} at time zone 'UTC') - make_interval(days => ${sql.raw(String(STATISTICS_DAYS - 1))}), 'YYYY-MM-DD')`;

/** Counters of a dimension that differ from the records, by how much. */
function drift(p: Parameter<'dimension'>) {
  const summed = build.$with('summed').as(
    build
      .select({
        ownerId: sql`${assetCounter.ownerId}`.mapWith(String).as('summed_owner'),
        value: sql`${assetCounter.value}`.mapWith(String).as('summed_value'),
        files: sum(assetCounter.files).as('summed_files'),
        bytes: sum(assetCounter.bytes).as('summed_bytes'),
      })
      .from(assets)
      .crossJoinLateral(assetCounters)
      .where(sql`${assetCounter.dimension} = ${p('dimension')}`)
      .groupBy(sql`1, 2`),
  );
  const counted = build.$with('counted').as(
    build
      .select()
      .from(assetStatistics)
      .where(eq(assetStatistics.dimension, typed(p('dimension'), assetStatistics.dimension))),
  );
  const missing = (records: SQLWrapper, counter: SQLWrapper) =>
    sql`(coalesce(${records}, 0) - coalesce(${counter}, 0))::bigint`;
  const [files, bytes] = [missing(summed.files, counted.files), missing(summed.bytes, counted.bytes)];
  const value = sql<string>`coalesce(${summed.value}, ${counted.value})`;
  const differs = build.$with('differs').as(
    build
      .select({
        ownerId: sql<string>`coalesce(${summed.ownerId}, ${counted.ownerId})`.as('owner_id'),
        dimension: typed(p('dimension'), assetStatistics.dimension).as('dimension'),
        value: value.as('value'),
        files: files.mapWith(Number).as('files'),
        bytes: bytes.mapWith(Number).as('bytes'),
      })
      .from(summed)
      .fullJoin(counted, and(eq(summed.ownerId, counted.ownerId), eq(summed.value, counted.value)))
      .where(sql`(${files} <> 0 or ${bytes} <> 0) and (${p('dimension')} <> 'day' or ${value} >= ${countedSince})`)
      .orderBy(sql`1, 2, 3`),
  );
  return { summed, counted, differs };
}

const seldom = { named: false };

const findDrift = compile(
  'find-drifted-statistics',
  (p: Parameter<'dimension'>) => {
    const { summed, counted, differs } = drift(p);
    return build.with(summed, counted, differs).select({ bytes: differs.bytes }).from(differs);
  },
  seldom,
);

const correctDrift = compile(
  'correct-statistics',
  (p: Parameter<'dimension' | keyof Actor>) => {
    const { summed, counted, differs } = drift(p);
    const add = (column: SQLWrapper, name: string): SQL => sql`${column} + excluded.${sql.identifier(name)}`;
    const corrected = build.$with('corrected', {}).as(
      build
        .insert(assetStatistics)
        .select(build.select().from(differs))
        .onConflictDoUpdate({
          target: [assetStatistics.ownerId, assetStatistics.dimension, assetStatistics.value],
          set: { files: add(assetStatistics.files, 'files'), bytes: add(assetStatistics.bytes, 'bytes') },
        })
        .getSQL(),
    );
    // One audit row per owner, of no asset.
    const changed = build.$with('changed').as(
      build
        .select({
          ownerId: differs.ownerId,
          id: sql<null>`null::uuid`.as('id'),
          counters: count().as('counters'),
        })
        .from(differs)
        .groupBy(differs.ownerId),
    );
    const detail = jsonObject({
      dimension: typed(p('dimension'), assetStatistics.dimension),
      counters: changed.counters,
    });
    return build
      .with(
        summed,
        counted,
        differs,
        corrected,
        changed,
        auditFrom(p, changed, { action: 'statistics.corrected', detail }),
      )
      .select({ bytes: differs.bytes })
      .from(differs);
  },
  seldom,
);

const forgetEmpty = compile(
  'forget-empty-statistics',
  () => {
    const { ownerId, dimension, value, files, bytes } = assetStatistics;
    // Locked by nobody: whoever holds one of these rows and wants another must not wait for this statement.
    const empty = build
      .select({ ownerId, dimension, value })
      .from(assetStatistics)
      .where(sql`(${files} = 0 and ${bytes} = 0) or (${dimension} = 'day' and ${value} < ${countedSince})`)
      .for('update', { skipLocked: true });
    return build.delete(assetStatistics).where(sql`(${ownerId}, ${dimension}, ${value}) in (${empty})`);
  },
  seldom,
);

/** What was found: counters, and bytes by which they were wrong. */
export interface StatisticsDrift {
  counters: number;
  bytes: number;
}

/**
 * Compares the counters of all owners with the records.
 * @param actor who corrects them; absent: they are only looked at
 */
export async function reconcileStatistics(database: Executor, actor: Actor | undefined): Promise<StatisticsDrift> {
  const found: StatisticsDrift = { counters: 0, bytes: 0 };
  // One dimension at a time keeps each statement short.
  for (const dimension of dimensions) {
    const { rows } = actor
      ? await database.run(correctDrift, { dimension, ...actor })
      : await database.run(findDrift, { dimension });
    found.counters += rows.length;
    for (const { bytes } of rows) found.bytes += Math.abs(bytes);
  }
  return found;
}

/** Counters of nothing, and of days that are told no more, go. */
export async function forgetEmptyStatistics(database: Executor): Promise<void> {
  await database.run(forgetEmpty, {});
}
