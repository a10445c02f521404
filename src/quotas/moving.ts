/** What one account pays for goes to another, or it is refused; in a transaction that holds what is paid for. */
import { and, asc, eq, sql } from 'drizzle-orm';
import type { Executor } from '../database/client.ts';
import { build, compile, isAnyOf, type Parameter } from '../database/statements.ts';
import { quotas } from '../database/tables/quotas.ts';
import { type LimitParameter, type LimitValues, limitOf } from './limit.ts';

export interface Charge {
  /** Accounts. */
  from: string;
  to: string;
  /** Bytes of an asset, or bytes reserved for an upload. */
  used: number;
  reserved: number;
  files: number;
  limits: LimitValues;
}

const insertAccount = compile('insert-account', (p: Parameter<'account'>) =>
  build
    .insert(quotas)
    .values({ account: p('account') })
    .onConflictDoNothing(),
);
/** In one order, so that two moves in opposite directions do not wait for each other. */
const lockAccounts = compile('lock-accounts', (p: Parameter<'accounts'>) =>
  build
    .select({ account: quotas.account })
    .from(quotas)
    .where(isAnyOf(quotas.account, p('accounts')))
    .orderBy(asc(quotas.account))
    .for('update'),
);
const chargeAccount = compile(
  'charge-account',
  (p: Parameter<'account' | 'used' | 'reserved' | 'files' | 'isBounded' | LimitParameter>) =>
    build
      .update(quotas)
      .set({
        usedBytes: sql`${quotas.usedBytes} + ${p('used')}::bigint`,
        reservedBytes: sql`${quotas.reservedBytes} + ${p('reserved')}::bigint`,
        fileCount: sql`${quotas.fileCount} + ${p('files')}::bigint`,
      })
      .where(
        and(
          eq(quotas.account, p('account')),
          sql`(not ${p('isBounded')}::boolean or ${quotas.usedBytes} + ${quotas.reservedBytes} + ${p('used')}::bigint + ${p('reserved')}::bigint
            <= ${limitOf(p)})`,
        ),
      )
      .returning({ account: quotas.account }),
);

/** Before several moves of one transaction: in one order, so that two such transactions do not wait for each other. */
export async function lockAccountsOf(transaction: Executor, accounts: readonly string[]): Promise<void> {
  const distinct = [...new Set(accounts)].sort();
  for (const account of distinct) await transaction.run(insertAccount, { account });
  if (distinct.length > 0) await transaction.run(lockAccounts, { accounts: distinct });
}

/** @returns false where there is no room; then nothing was charged */
export async function moveCharge(transaction: Executor, charge: Charge): Promise<boolean> {
  const { from, to, used, reserved, files, limits } = charge;
  if (from === to) return true;
  await transaction.run(insertAccount, { account: to });
  await transaction.run(lockAccounts, { accounts: [from, to] });
  const charged = { used, reserved, files, ...limits };
  const { rows } = await transaction.run(chargeAccount, { ...charged, account: to, isBounded: true });
  if (rows.length === 0) return false;
  const back = { used: -used, reserved: -reserved, files: -files, ...limits };
  await transaction.run(chargeAccount, { ...back, account: from, isBounded: false });
  return true;
}
