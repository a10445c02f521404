/** The statements by which assets are deleted for good: by their owner, out of the trash, and when they expire. */
import { and, count, eq, gt, inArray, lt, type SQL, sql, sum, type WithSubquery } from 'drizzle-orm';
import type { AccessParameter } from '../access/conditions.ts';
import { type Actor, type AuditAction, auditFrom } from '../database/audit.ts';
import { build, compile, isAnyOf, jsonObject, type Parameter } from '../database/statements.ts';
import { assets, isVisible } from '../database/tables/assets.ts';
import { quotas } from '../database/tables/quotas.ts';
import { chargedAccount } from '../quotas/accounts.ts';
import { hasVersion, isOne, nextVersion } from './conditions.ts';

/**
 * Marks visible assets for deletion, frees their quota, and writes an audit row for each.
 * @param before what the condition refers to
 */
export function deletion(
  p: Parameter<keyof Actor>,
  condition: SQL | undefined,
  action: AuditAction,
  ...before: WithSubquery[]
) {
  const changed = build.$with('changed').as(
    build
      .update(assets)
      .set({ ...nextVersion, state: 'deleting' })
      .where(and(isVisible, condition))
      .returning({
        id: assets.id,
        ownerId: assets.ownerId,
        projectId: assets.projectId,
        account: chargedAccount.as('account'),
        name: assets.name,
        size: assets.size,
      }),
  );
  const freed = build
    .select({ account: changed.account, bytes: sum(changed.size).as('bytes'), files: count().as('files') })
    .from(changed)
    .groupBy(changed.account);
  const freedAccounts = build.$with('freed').as(freed);
  // In one order, so that two deletions over the same accounts do not wait for each other; see quotas/moving.ts.
  const locked = build.$with('locked').as(
    build
      .select({ account: quotas.account })
      .from(quotas)
      .where(inArray(quotas.account, build.select({ account: freedAccounts.account }).from(freedAccounts)))
      .orderBy(quotas.account)
      .for('update'),
  );
  const uncounted = build.$with('uncounted', {}).as(
    build
      .update(quotas)
      .set({
        usedBytes: sql`${quotas.usedBytes} - ${freedAccounts.bytes}`,
        fileCount: sql`${quotas.fileCount} - ${freedAccounts.files}`,
      })
      .from(sql`${freedAccounts} join ${locked} on ${eq(locked.account, freedAccounts.account)}`)
      .where(eq(quotas.account, freedAccounts.account))
      .getSQL(),
  );
  const detail = jsonObject({ name: changed.name, size: changed.size });
  return build
    .with(...before, changed, freedAccounts, locked, uncounted, auditFrom(p, changed, { action, detail }))
    .select({ id: changed.id, isDone: sql<boolean>`true` })
    .from(changed);
}

export const deleteAsset = compile('delete-asset', (p: Parameter<'id' | 'version' | AccessParameter | keyof Actor>) =>
  deletion(p, and(isOne(p, 'asset.delete'), hasVersion(p)), 'asset.deleted'),
);

export const purgeTrash = compile(
  'purge-trash',
  (p: Parameter<'cutoff' | 'limit' | keyof Actor>) => {
    const expired = build
      .select({ id: assets.id })
      .from(assets)
      .where(and(isVisible, lt(assets.trashedAt, p('cutoff'))))
      .orderBy(assets.trashedAt)
      .limit(p('limit'))
      .for('update', { skipLocked: true });
    return deletion(p, inArray(assets.id, expired), 'asset.purged');
  },
  { named: false },
);

export const findOld = compile(
  'find-old-assets',
  (p: Parameter<'assetType' | 'cutoff' | 'after' | 'before' | 'limit'>) =>
    build
      .select({
        id: assets.id,
        matches: sql<boolean>`(${and(isVisible, eq(assets.assetType, p('assetType')), lt(assets.createdAt, p('cutoff')))})`,
      })
      .from(assets)
      .where(and(gt(assets.id, p('after')), lt(assets.id, p('before'))))
      .orderBy(assets.id)
      .limit(p('limit')),
  { named: false },
);

export const expireAssets = compile(
  'expire-assets',
  (p: Parameter<'ids' | 'assetType' | keyof Actor>) => {
    const expired = build
      .select({ id: assets.id })
      .from(assets)
      .where(and(isAnyOf(assets.id, p('ids')), eq(assets.assetType, p('assetType'))))
      .for('update', { skipLocked: true });
    return deletion(p, inArray(assets.id, expired), 'asset.expired');
  },
  { named: false },
);
