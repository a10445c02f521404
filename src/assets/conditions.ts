/** Pieces that the statements over assets share. */
import { and, eq, sql } from 'drizzle-orm';
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
