/**
 * What the rules do with an asset next: one expression, by which assets are found, deleted and archived, and by which records
 * and dry runs tell of it. So nothing happens that was not told, and what is told is what happens.
 *
 * Of several rules the one whose time comes first counts: who says that something is gone after 30 days can rely on it,
 * whatever others say. At the same time, what is deleted need not be archived.
 */
import { and, eq, lte, max, ne, not, type SQL, sql } from 'drizzle-orm';
import { alias } from 'drizzle-orm/pg-core';
import type { Core } from '../core.ts';
import { build, type Parameter, writtenOut } from '../database/statements.ts';
import { assets, inState, isVisible } from '../database/tables/assets.ts';
import { downloadCounts, downloadMarks } from '../database/tables/downloads.ts';
import { lifeCycleLooks } from '../database/tables/life-cycle.ts';
import { projects } from '../database/tables/projects.ts';
import { replacements } from '../database/tables/versions.ts';
import type { LifeCycleRules } from '../validation/life-cycle.ts';

export const lifeCycleActions = ['archive', 'delete'] as const;
export const lifeCycleRuleNames = ['temporary', 'trash', 'policy', 'project'] as const;
export type LifeCycleRuleName = (typeof lifeCycleRuleNames)[number];

/** What a rule does. */
export interface LifeCycleStep {
  action: (typeof lifeCycleActions)[number];
  /** Not before then. */
  at: Date;
  rule: LifeCycleRuleName;
}

/** Parameters of the expression. */
export type StepParameter = 'policies' | 'trashDays' | 'hasArchive';
export interface StepValues {
  /** By asset type; null where there are none. */
  policies: Readonly<Record<string, LifeCycleRules>> | null;
  trashDays: number;
  /** Whether there is an archive; without one nothing is archived. */
  hasArchive: boolean;
}

export function stepValues({ config, policies, store }: Pick<Core, 'config' | 'policies' | 'store'>): StepValues {
  const ruled = policies.all.flatMap(({ assetType, lifeCycle }) =>
    lifeCycle ? [[assetType, lifeCycle] as const] : [],
  );
  return {
    policies: ruled.length === 0 ? null : Object.fromEntries(ruled),
    trashDays: config.TRASH_RETENTION_DAYS,
    hasArchive: store.archive !== undefined,
  };
}

const upload = alias(assets, 'upload');
/** Somebody uploads other bytes for it, or its own are still looked into: rules wait. */
export const isBusy = sql<boolean>`(${inState('processing')} or exists (${build
  .select({ id: replacements.uploadId })
  .from(replacements)
  .innerJoin(upload, eq(upload.id, replacements.uploadId))
  .where(and(eq(replacements.assetId, assets.id), eq(upload.state, 'uploading')))}))`;

const lastMark = build
  .select({ at: max(downloadMarks.at) })
  .from(downloadMarks)
  .where(eq(downloadMarks.assetId, assets.id));
const lastCount = build
  .select({ at: downloadCounts.lastAt })
  .from(downloadCounts)
  .where(eq(downloadCounts.assetId, assets.id));
const uploadedAt = sql`coalesce(${assets.contentAt}, ${assets.createdAt})`;
const usedAt = sql`greatest(${uploadedAt}, ${lifeCycleLooks.linkedAt}, (${lastMark}), (${lastCount}))`;

/** When days of these rules are over; null where they name none. */
const after = (rules: SQL, name: 'archiveAfterDays' | 'deleteAfterDays') =>
  sql`case when ${rules} ? ${sql.raw(`'${name}'`)} then
    case when ${rules} ->> 'since' = 'last-download' then ${usedAt} else ${uploadedAt} end
    + (${rules} ->> ${sql.raw(`'${name}'`)})::integer * interval '24 hours' end`;

/** To be joined laterally to `assets`, `projects` and `life_cycle_looks`: one row, or none where no rule names the asset. */
export function nextStep(p: Parameter<StepParameter>) {
  const policy = sql`(${p('policies')}::jsonb -> ${assets.assetType})`;
  const project = sql`${projects.lifeCycle}`;
  const isArchivable = sql`(${p('hasArchive')}::boolean and ${assets.tier} is null and ${assets.trashedAt} is null and ${inState('ready')})`;
  const archivedAfter = (rules: SQL) =>
    sql`case when ${isArchivable} then greatest(${after(rules, 'archiveAfterDays')}, case when ${rules} ? 'archiveAfterDays' then ${assets.restoredUntil} end) end`;
  const steps = sql`(values
    ('temporary', 'delete', ${assets.temporaryUntil}),
    ('trash', 'delete', ${assets.trashedAt} + ${p('trashDays')}::integer * interval '24 hours'),
    ('policy', 'delete', ${after(policy, 'deleteAfterDays')}),
    ('project', 'delete', ${after(project, 'deleteAfterDays')}),
    ('policy', 'archive', ${archivedAfter(policy)}),
    ('project', 'archive', ${archivedAfter(project)})) as steps (rule, action, at)`;
  return build
    .select({
      rule: sql<LifeCycleRuleName>`steps.rule`.as('step_rule'),
      action: sql<LifeCycleStep['action']>`steps.action`.as('step_action'),
      at: sql`steps.at`.mapWith(assets.createdAt).as('step_at'),
    })
    .from(steps)
    .where(sql`steps.at is not null`)
    .orderBy(sql`steps.at, steps.action desc, steps.rule`)
    .limit(writtenOut(1))
    .as('step');
}

export const ofProject = eq(projects.id, assets.projectId);
export const ofLook = eq(lifeCycleLooks.assetId, assets.id);

/** That this step is to be taken now, and may be. What the trash keeps is deleted by the job that empties it. */
export function isDue(
  step: ReturnType<typeof nextStep>,
  action: LifeCycleStep['action'],
  p: Parameter<'now'>,
): SQL | undefined {
  return and(
    isVisible,
    eq(step.action, action),
    ne(step.rule, 'trash'),
    lte(step.at, sql`${p('now')}::timestamptz`),
    not(isBusy),
  );
}
