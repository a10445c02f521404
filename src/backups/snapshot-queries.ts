/** What a backup asks within its snapshot, beside the rows of the tables. */
import { sql } from 'drizzle-orm';
import type { Executor } from '../database/client.ts';
import { build, compile, nowhere } from '../database/statements.ts';
import { assets, inState } from '../database/tables/assets.ts';
import { derivatives } from '../database/tables/derivatives.ts';
import { jobs } from '../database/tables/jobs.ts';
import { assetVersions } from '../database/tables/versions.ts';

const once = { named: false };
const literal = (text: string) => sql.raw(`'${text}'`);

/**
 * Every key that a record names, with what must be found under it. An object of an upload in progress, or of what is being
 * deleted, may be there or not.
 */
const objects = build
  .select({
    key: sql`${assets.objectKey}`.as('key'),
    size: sql`coalesce(${assets.size}, 0)`.as('size'),
    sha256: sql`${assets.sha256}`.as('sha256'),
    kind: sql`${literal('original')}`.as('kind'),
    assetId: sql`${assets.id}`.as('asset_id'),
    isExpected: sql`(${inState('processing', 'ready')} and ${assets.size} is not null)`.as('is_expected'),
  })
  .from(assets)
  .unionAll(
    build
      .select({
        key: sql`${assetVersions.objectKey}`.as('key'),
        size: sql`${assetVersions.size}`.as('size'),
        sha256: sql`${assetVersions.sha256}`.as('sha256'),
        kind: sql`${literal('version')}`.as('kind'),
        assetId: sql`${assetVersions.assetId}`.as('asset_id'),
        isExpected: sql`true`.as('is_expected'),
      })
      .from(assetVersions),
  )
  .unionAll(
    build
      .select({
        key: sql`${derivatives.objectKey}`.as('key'),
        size: sql`coalesce(${derivatives.size}, 0)`.as('size'),
        sha256: sql`${derivatives.sha256}`.as('sha256'),
        kind: sql`${literal('derivative')}`.as('kind'),
        assetId: sql`${derivatives.assetId}`.as('asset_id'),
        isExpected: sql`(${derivatives.state} = 'ready' and ${derivatives.size} is not null)`.as('is_expected'),
      })
      .from(derivatives),
  );

export const objectColumns = ['key', 'size', 'sha256', 'kind', 'asset_id', 'is_expected'] as const;
export const selectObjects = compile('select-objects-of-backup', () => objects, once);

const countObjects = compile(
  'count-objects-of-backup',
  () => {
    const all = objects.as('objects');
    return build
      .select({
        count: sql`count(*) filter (where ${all.isExpected})`.mapWith(Number),
        bytes: sql`coalesce(sum(${all.size}) filter (where ${all.isExpected}), 0)`.mapWith(Number),
      })
      .from(all);
  },
  once,
);

/** Objects that must be there, and their bytes. */
export async function countExpected(executor: Executor): Promise<{ count: number; bytes: number }> {
  const { rows } = await executor.run(countObjects, {});
  return rows[0] ?? { count: 0, bytes: 0 };
}

/** Jobs that are not done, dead letters too. Those of pg-boss itself it makes anew. */
export const selectJobs = compile(
  'select-jobs-of-backup',
  () =>
    build
      .select({
        id: jobs.id,
        queue: jobs.name,
        data: jobs.data,
        priority: jobs.priority,
        startAfter: sql`date_trunc('milliseconds', ${jobs.startAfter})`,
      })
      .from(jobs)
      .where(sql`${jobs.state} in ('created', 'retry', 'active') and ${jobs.name} not like '\\_\\_%'`),
  once,
);
export const jobColumns = ['id', 'queue', 'data', 'priority', 'start_after'] as const;

const whenTaken = compile(
  'find-time-of-snapshot',
  () => build.select({ at: sql`extract(epoch from transaction_timestamp()) * 1000`.mapWith(Number) }).from(nowhere),
  once,
);

/** When the transaction began: what was committed before, its snapshot has. */
export async function timeOfSnapshot(executor: Executor): Promise<Date> {
  const { rows } = await executor.run(whenTaken, {});
  return new Date(Math.floor(rows[0]?.at ?? Date.now()));
}
