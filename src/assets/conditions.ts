/** Pieces that the statements over assets share. */
import { and, eq, sql } from 'drizzle-orm';
import { now, type Parameter } from '../database/statements.ts';
import { assets } from '../database/tables/assets.ts';

/** That it is this asset of this owner: a foreign asset is never even read. */
export const isOwn = (p: Parameter<'ownerId' | 'id'>) => and(eq(assets.id, p('id')), eq(assets.ownerId, p('ownerId')));
/** That the record is still as it was read. A version of null stands for any. */
export const hasVersion = (p: Parameter<'version'>) =>
  sql`(${p('version')}::integer is null or ${assets.version} = ${p('version')}::integer)`;
/** Set by every change of a record. */
export const nextVersion = { updatedAt: now, version: sql`${assets.version} + 1` };
