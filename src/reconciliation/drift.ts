/** Quotas that are not the sum of their records: found, and recomputed. */
import { and, eq, type SQLWrapper, sql, sum } from 'drizzle-orm';
import { type Actor, auditFrom } from '../database/audit.ts';
import type { DatabaseHandle, Executor } from '../database/client.ts';
import { build, compile, jsonObject, type Parameter } from '../database/statements.ts';
import { assets, isVisible } from '../database/tables/assets.ts';
import { quotas } from '../database/tables/quotas.ts';
import { auditedAccount, chargedAccount } from '../quotas/accounts.ts';

/** Run once a day: planned for what there is. */
const seldom = { named: false };

/** What the quota of an account has to be. */
const summed = {
  used: sql`coalesce(sum(${assets.size} + ${assets.versionBytes}) filter (where ${isVisible}), 0)::bigint`.as('used'),
  files: sql`count(*) filter (where ${isVisible})`.as('files'),
  reserved: sql`coalesce(${sum(assets.reservedBytes)}, 0)::bigint`.as('reserved'),
};
const drifted = compile(
  'find-drifted-quotas',
  () => {
    const sums = build.$with('sums').as(
      build
        .select({ account: chargedAccount.as('account'), ...summed })
        .from(assets)
        .groupBy(chargedAccount),
    );
    const differs = (counted: SQLWrapper, sum: SQLWrapper) => sql`coalesce(${counted}, 0) - coalesce(${sum}, 0)`;
    const used = differs(quotas.usedBytes, sums.used);
    const reserved = differs(quotas.reservedBytes, sums.reserved);
    const files = differs(quotas.fileCount, sums.files);
    return build
      .with(sums)
      .select({
        account: sql<string>`coalesce(${quotas.account}, ${sums.account})`,
        bytes: sql`abs(${used}) + abs(${reserved})`.mapWith(Number),
      })
      .from(quotas)
      .fullJoin(sums, eq(quotas.account, sums.account))
      .where(sql`${used} <> 0 or ${reserved} <> 0 or ${files} <> 0`);
  },
  seldom,
);
const insertAccount = compile(
  'insert-quota',
  (p: Parameter<'account'>) =>
    build
      .insert(quotas)
      .values({ account: p('account') })
      .onConflictDoNothing(),
  seldom,
);
const lockQuota = compile(
  'lock-quota',
  (p: Parameter<'account'>) =>
    build
      .select({ account: quotas.account })
      .from(quotas)
      .where(eq(quotas.account, p('account')))
      .for('update'),
  seldom,
);
const recompute = compile(
  'correct-quota',
  (p: Parameter<'account' | keyof Actor>) => {
    const amounts = { usedBytes: quotas.usedBytes, reservedBytes: quotas.reservedBytes, fileCount: quotas.fileCount };
    const sums = build.$with('sums').as(
      build
        .select(summed)
        .from(assets)
        .where(eq(chargedAccount, p('account'))),
    );
    const previous = build.$with('previous').as(
      build
        .select(amounts)
        .from(quotas)
        .where(eq(quotas.account, p('account'))),
    );
    const counted = sql`(${quotas.usedBytes}, ${quotas.reservedBytes}, ${quotas.fileCount})`;
    const changed = build.$with('changed').as(
      build
        .update(quotas)
        .set({ usedBytes: sql`${sums.used}`, reservedBytes: sql`${sums.reserved}`, fileCount: sql`${sums.files}` })
        .from(sums)
        .where(
          and(
            eq(quotas.account, p('account')),
            sql`${counted} is distinct from (${sums.used}, ${sums.reserved}, ${sums.files})`,
          ),
        )
        // The audit row is of no asset.
        .returning({
          ...amounts,
          ...auditedAccount(sql`${p('callerId')}::text`),
          id: sql<null>`null::uuid`.as('id'),
        }),
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

/** Accounts whose quota is not the sum of their records. One statement sees one moment, so uploads do not disturb it. */
export async function findDrifted(database: Executor): Promise<{ account: string; bytes: number }[]> {
  const { rows } = await database.run(drifted, {});
  return rows;
}

/**
 * Recomputes the quota of an account. Every change of a record changes the quota in the same transaction; so while its row
 * is locked, either both are seen or both are yet to come.
 */
export async function correctQuota(database: DatabaseHandle, account: string, actor: Actor): Promise<void> {
  await database.transact(async (transaction) => {
    await transaction.run(insertAccount, { account });
    await transaction.run(lockQuota, { account });
    await transaction.run(recompute, { account, ...actor });
  });
}
