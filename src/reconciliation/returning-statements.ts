/** Which copies can take the place of what the first store has lost; returning.ts says when. */
import { and, asc, eq, gt, inArray, type SQL, sql } from 'drizzle-orm';
import { build, compile, type Parameter } from '../database/statements.ts';
import { assets, inState } from '../database/tables/assets.ts';
import { copies } from '../database/tables/mirrors.ts';

const seldom = { named: false };

/** An object once, with the mirrors that have it: such as were read back first. */
const stored = {
  objectKey: copies.objectKey,
  assetId: copies.assetId,
  size: sql`max(${copies.size})`.mapWith(copies.size),
  sha256: sql<Buffer | null>`(array_agg(${copies.sha256}) filter (where ${copies.sha256} is not null))[1]`,
  mirrors: sql<string[]>`array_agg(${copies.mirror} order by ${copies.state} desc)`,
};
const isStored = inArray(copies.state, ['copied', 'verified']);
const page = (p: Parameter<'after' | 'limit'>, condition?: SQL) =>
  build
    .select(stored)
    .from(copies)
    .where(and(isStored, gt(copies.objectKey, p('after')), condition))
    .groupBy(copies.objectKey, copies.assetId)
    .orderBy(asc(copies.objectKey))
    .limit(p('limit'));

export const listReturnable = compile('list-returnable', (p: Parameter<'after' | 'limit'>) => page(p), seldom);
export const listReturnableOf = compile(
  'list-returnable-of-asset',
  (p: Parameter<'assetId' | 'after' | 'limit'>) => page(p, eq(copies.assetId, p('assetId'))),
  seldom,
);
export const listReturnableOfLost = compile(
  'list-returnable-of-lost',
  (p: Parameter<'after' | 'limit'>) =>
    build
      .select(stored)
      .from(copies)
      .innerJoin(assets, and(eq(assets.id, copies.assetId), eq(assets.objectKey, copies.objectKey), inState('lost')))
      .where(and(isStored, gt(copies.objectKey, p('after'))))
      .groupBy(copies.objectKey, copies.assetId)
      .orderBy(asc(copies.objectKey))
      .limit(p('limit')),
  seldom,
);
