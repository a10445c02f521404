/** Quotas that are not the sum of their records: found, and recomputed. */
import { and, eq, type SQLWrapper, sql, sum } from 'drizzle-orm';
import { type Actor, auditFrom } from '../database/audit.ts';
import type { DatabaseHandle, Executor } from '../database/client.ts';
import { build, compile, jsonObject, type Parameter } from '../database/statements.ts';
import { assets, isVisible } from '../database/tables/assets.ts';
import { quotas } from '../database/tables/quotas.ts';

/** Run once a day: planned for what there is. */
const seldom = { named: false };

/** What the quota of an owner has to be. */
const summed = {
  used: sql`coalesce(${sum(assets.size)} filter (where ${isVisible}), 0)::bigint`.as('used'),
  files: sql`count(*) filter (where ${isVisible})`.as('files'),
  reserved: sql`coalesce(${sum(assets.reservedBytes)}, 0)::bigint`.as('reserved'),
};
const drifted = compile(
  'find-drifted-quotas',
  () => {
    const sums = build.$with('sums').as(
      build
        .select({ ownerId: assets.ownerId, ...summed })
        .from(assets)
        .groupBy(assets.ownerId),
    );
    const differs = (counted: SQLWrapper, sum: SQLWrapper) => sql`coalesce(${counted}, 0) - coalesce(${sum}, 0)`;
    const used = differs(quotas.usedBytes, sums.used);
    const reserved = differs(quotas.reservedBytes, sums.reserved);
    const files = differs(quotas.fileCount, sums.files);
    return build
      .with(sums)
      .select({
        ownerId: sql<string>`coalesce(${quotas.ownerId}, ${sums.ownerId})`,
        bytes: sql`abs(${used}) + abs(${reserved})`.mapWith(Number),
      })
      .from(quotas)
      .fullJoin(sums, eq(quotas.ownerId, sums.ownerId))
      .where(sql`${used} <> 0 or ${reserved} <> 0 or ${files} <> 0`);
  },
  seldom,
);
const insertOwner = compile(
  'insert-quota',
  (p: Parameter<'ownerId'>) =>
    build
      .insert(quotas)
      .values({ ownerId: p('ownerId') })
      .onConflictDoNothing(),
  seldom,
);
const lockQuota = compile(
  'lock-quota',
  (p: Parameter<'ownerId'>) =>
    build
      .select({ ownerId: quotas.ownerId })
      .from(quotas)
      .where(eq(quotas.ownerId, p('ownerId')))
      .for('update'),
  seldom,
);
const recompute = compile(
  'correct-quota',
  (p: Parameter<'ownerId' | keyof Actor>) => {
    const amounts = { usedBytes: quotas.usedBytes, reservedBytes: quotas.reservedBytes, fileCount: quotas.fileCount };
    const sums = build.$with('sums').as(
      build
        .select(summed)
        .from(assets)
        .where(eq(assets.ownerId, p('ownerId'))),
    );
    const previous = build.$with('previous').as(
      build
        .select(amounts)
        .from(quotas)
        .where(eq(quotas.ownerId, p('ownerId'))),
    );
    const counted = sql`(${quotas.usedBytes}, ${quotas.reservedBytes}, ${quotas.fileCount})`;
    const changed = build.$with('changed').as(
      build
        .update(quotas)
        .set({ usedBytes: sql`${sums.used}`, reservedBytes: sql`${sums.reserved}`, fileCount: sql`${sums.files}` })
        .from(sums)
        .where(
          and(
            eq(quotas.ownerId, p('ownerId')),
            sql`${counted} is distinct from (${sums.used}, ${sums.reserved}, ${sums.files})`,
          ),
        )
        // The audit row is of no asset.
        .returning({ ...amounts, ownerId: quotas.ownerId, id: sql<null>`null::uuid`.as('id') }),
    );
    const detail = jsonObject({
      used: changed.usedBytes,
      reserved: changed.reservedBytes,
      fileCount: changed.fileCount,
      previous: sql`(select to_jsonb(${previous}) from ${previous})`,
    });
    return build
      .with(sums, previous, changed, auditFrom(p, changed, { action: 'quota.corrected', detail }))
      .select({ ownerId: changed.ownerId })
      .from(changed);
  },
  seldom,
);

/** Owners whose quota is not the sum of their records. One statement sees one moment, so uploads do not disturb it. */
export async function findDrifted(database: Executor): Promise<{ ownerId: string; bytes: number }[]> {
  const { rows } = await database.run(drifted, {});
  return rows;
}

/**
 * Recomputes the quota of an owner. Every change of a record changes the quota in the same transaction; so while its row
 * is locked, either both are seen or both are yet to come.
 */
export async function correctQuota(database: DatabaseHandle, ownerId: string, actor: Actor): Promise<void> {
  await database.transact(async (transaction) => {
    await transaction.run(insertOwner, { ownerId });
    await transaction.run(lockQuota, { ownerId });
    await transaction.run(recompute, { ownerId, ...actor });
  });
}
