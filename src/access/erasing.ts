/**
 * Owners who are being erased: nothing new begins for them. The statement that begins an upload asks for it by itself, so
 * what has begun before is there for the erasure to find, and after that nothing comes.
 */
import { and, eq, exists, type SQLWrapper, sql } from 'drizzle-orm';
import type { Executor } from '../database/client.ts';
import { build, compile, nowhere, type Parameter } from '../database/statements.ts';
import { erasures } from '../database/tables/erasures.ts';
import { Problem } from '../problems.ts';

/** That somebody is being erased. Written as the index of what is running has it, which is empty most of the time. */
export const isBeingErased = (ownerId: SQLWrapper) =>
  exists(
    build
      .select({ id: erasures.id })
      .from(erasures)
      .where(and(eq(erasures.ownerId, ownerId), sql`${erasures.state} = 'running'`)),
  );

const findErasing = compile(
  'find-owner-being-erased',
  (p: Parameter<'ownerId'>) =>
    build.select({ isErased: sql<boolean>`${isBeingErased(p('ownerId'))}`.as('is_erased') }).from(nowhere),
  { named: false },
);

/** @throws Problem owner-under-erasure */
export async function requireNotErased(executor: Executor, ownerId: string): Promise<void> {
  const { rows } = await executor.run(findErasing, { ownerId });
  if (!rows[0]?.isErased) return;
  throw new Problem('owner-under-erasure', {
    detail: 'Everything of this owner is being deleted for good. Nothing can be stored for him until that is done.',
  });
}
