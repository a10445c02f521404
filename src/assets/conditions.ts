/** Pieces that the statements over assets share. */
import { and, eq, type SQL, type SQLWrapper, sql } from 'drizzle-orm';
import { type AccessParameter, isFor } from '../access/conditions.ts';
import type { Action } from '../access/rules.ts';
import { now, type Parameter } from '../database/statements.ts';
import { assets } from '../database/tables/assets.ts';

/** That it is this asset, and the caller may do this to it. */
export const isOne = (p: Parameter<'id' | AccessParameter>, action: Action) =>
  and(eq(assets.id, p('id')), isFor(p, action));
/** That the record is still as it was read. A version of null stands for any. */
export const hasVersion = (p: Parameter<'version'>) =>
  sql`(${p('version')}::integer is null or ${assets.version} = ${p('version')}::integer)`;
/** Set by every change of a record. */
export const nextVersion = { updatedAt: now, version: sql`${assets.version} + 1` };

/** Of a changed record, for its audit row: the folders, and which tags came and went; null where nothing changed. */
export const labelChanges = (changed: Record<'path' | 'previousPath' | 'tags' | 'previousTags', SQLWrapper>) => {
  const { path, previousPath, tags, previousTags } = changed;
  return {
    path: sql`case when ${path} <> ${previousPath} then ${path} end`,
    previousPath: sql`case when ${path} <> ${previousPath} then ${previousPath} end`,
    addedTags: tagsBut(tags, previousTags),
    removedTags: tagsBut(previousTags, tags),
  };
};

const tagsBut = (these: SQLWrapper, those: SQLWrapper): SQL =>
  sql`(select jsonb_agg(tag order by tag) from unnest(${these}) as tag where tag <> all(${those}))`;
