import { sql } from 'drizzle-orm';
import { index, jsonb, pgTable, text, uuid } from 'drizzle-orm/pg-core';
import { moment } from './columns.ts';

/** From when days are counted: since the asset was given the bytes that it has, or since they were last asked for. */
export const lifeCycleStarts = ['upload', 'last-download'] as const;
export type LifeCycleStart = (typeof lifeCycleStarts)[number];

/** What becomes of assets with time, as an upload policy or a project says it. */
export interface LifeCycle {
  archiveAfterDays?: number;
  deleteAfterDays?: number;
  /** Absent: `upload`. */
  since?: LifeCycleStart;
}

/**
 * Assets for which a rule may have something to do, and when to look at them next. It is no promise: who looks asks the
 * rules again, and the record. What no rule names has no row. Without a foreign key, so that deleting an asset costs nothing
 * more: who looks finds that it is gone.
 */
export const lifeCycleLooks = pgTable(
  'life_cycle_looks',
  {
    assetId: uuid('asset_id').primaryKey(),
    lookAt: moment('look_at').notNull(),
    /** When a link to it was given out last, to the hour: what is read by it does not come through the service. */
    linkedAt: moment('linked_at'),
  },
  () => [index('life_cycle_looks_due').using('btree', sql`look_at`, sql`asset_id`)],
);

/** What upload policies said when assets were last looked through for them: where they say something else, it is done again. */
export const lifeCyclePolicies = pgTable('life_cycle_policies', {
  assetType: text('asset_type').primaryKey(),
  rules: jsonb('rules').$type<LifeCycle>().notNull(),
  changedAt: moment('changed_at').notNull(),
});
