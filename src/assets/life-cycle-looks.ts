/**
 * When the life cycle looks at an asset next: a row for each asset that some rule may name, written by the statement that
 * makes it so. What no rule names costs nothing. The look asks the rules and the record again; so a row that comes too soon
 * does no harm, and the only thing that must not happen is that there is none.
 */
import { type SQL, sql, type WithSubquery } from 'drizzle-orm';
import type { PgColumn } from 'drizzle-orm/pg-core';
import type { Core } from '../core.ts';
import { build, excluded } from '../database/statements.ts';
import { assets, type Retention } from '../database/tables/assets.ts';
import { lifeCycleLooks } from '../database/tables/life-cycle.ts';
import { projects } from '../database/tables/projects.ts';
import type { UploadPolicy } from '../validation/upload-policies.ts';
import { lifeCycleSettings } from './life-cycle-settings.ts';

/** Of a file that becomes an asset: what its upload policy says. */
export interface LifeCycleValues {
  /** Where the uploader has said nothing. */
  usualRetention: Retention;
  temporaryDays: number;
  /** Days count for it. */
  isRuled: boolean;
}

/** Of what is kept for ever. */
export const noLifeCycle: LifeCycleValues = { usualRetention: 'permanent', temporaryDays: 0, isRuled: false };

export function lifeCycleOf(
  { settings }: Pick<Core, 'settings'>,
  policy: Pick<UploadPolicy, 'retention' | 'lifeCycle'> | undefined,
): LifeCycleValues {
  return {
    usualRetention: policy?.retention ?? 'permanent',
    temporaryDays: settings(lifeCycleSettings).TEMPORARY_DAYS,
    isRuled: policy?.lifeCycle !== undefined,
  };
}

/** From when the upload has become an asset. */
export function temporaryUntil(of: (name: 'usualRetention' | 'temporaryDays') => SQL): SQL {
  return sql`case when coalesce(${assets.retention}, ${of('usualRetention')}) = 'temporary'
    then now() + make_interval(days => ${of('temporaryDays')}) end`;
}

/** Rules count days: nothing happens before one is over. */
const A_DAY = sql`now() + interval '24 hours'`;

type Row = WithSubquery & { id: PgColumn; projectId: PgColumn };

/** For `build.with`: of uploads that have become assets. */
export function lookAfterUpload(settled: Row & { temporaryUntil: PgColumn; isRuled: SQL.Aliased }): WithSubquery {
  return look(
    build
      .select({
        assetId: settled.id,
        lookAt: sql<Date>`case when ${settled.temporaryUntil} is null then ${A_DAY}
          else least(${settled.temporaryUntil}, ${A_DAY}) end`.as('look_at'),
        linkedAt: sql<null>`null::timestamptz`.as('linked_at'),
      })
      .from(settled)
      .where(
        sql`(${settled.isRuled} or ${settled.temporaryUntil} is not null or exists (select from ${projects}
          where ${projects.id} = ${settled.projectId} and ${projects.lifeCycle} is not null))`,
      ),
  );
}

/** For `build.with`: of assets that may have gone to a project with rules. */
export function lookAfterMove(
  changed: WithSubquery & Record<'id' | 'projectId' | 'previousProjectId', PgColumn | SQL.Aliased>,
): WithSubquery {
  return lookSoon(
    changed,
    sql`${changed.projectId} is distinct from ${changed.previousProjectId} and exists (select from ${projects}
      where ${projects.id} = ${changed.projectId} and ${projects.lifeCycle} is not null)`,
  );
}

/** For `build.with`: of assets whose rules may be others now. @param condition over the row */
export function lookSoon(changed: WithSubquery & { id: PgColumn | SQL.Aliased }, condition = sql`true`): WithSubquery {
  return look(
    build
      .select({
        assetId: changed.id,
        lookAt: sql<Date>`now()`.as('look_at'),
        linkedAt: sql<null>`null::timestamptz`.as('linked_at'),
      })
      .from(changed)
      .where(condition),
  );
}

function look(rows: Parameters<ReturnType<typeof build.insert<typeof lifeCycleLooks>>['select']>[0]): WithSubquery {
  return build.$with('looked', {}).as(
    build
      .insert(lifeCycleLooks)
      .select(rows as never)
      .onConflictDoUpdate({
        target: lifeCycleLooks.assetId,
        set: { lookAt: sql`least(${lifeCycleLooks.lookAt}, ${excluded(lifeCycleLooks.lookAt)})` },
      })
      .getSQL(),
  );
}
