/**
 * Quota of an account, an owner or a project: `limit`, `used` (the sum of the counted assets, the trash included) and `reserved` (the sum of the
 * uploads in progress). Granting is one conditional UPDATE, never a read and then a write, so `used + reserved` cannot
 * pass the limit however many uploads begin at once. The SQL of granting is shared with the statement that begins an
 * upload; see `reserve`.
 */

import { and, eq, exists, getTableColumns, type SQL, sql } from 'drizzle-orm';
import type { Caller } from '../access/caller.ts';
import { type Actor, auditFrom } from '../database/audit.ts';
import type { DatabaseHandle, Executor } from '../database/client.ts';
import { build, compile, excluded, jsonObject, nowhere, type Parameter, typed } from '../database/statements.ts';
import { quotas } from '../database/tables/quotas.ts';
import { auditedAccount } from './accounts.ts';
import { type LimitParameter, type LimitValues, limitOf, limitValuesFor, limitWithout } from './limit.ts';

export interface Quota {
  /** Bytes, all of them. */
  limit: bigint;
  /** That was given to the account itself: no tier sets it. */
  isOwn: boolean;
  /** That an administrator has given its owner. */
  tier: string | null;
  used: bigint;
  reserved: bigint;
  fileCount: bigint;
}

/**
 * Reserves `size` bytes and returns the account, or returns no row when there is no room. An account that is new gets a
 * row; see `limitOf` for what it may store. Nothing is reserved unless it is allowed. For `build.$with('reserved').as(...)`.
 */
export function reserve(p: Parameter<'account' | 'size' | LimitParameter>, isAllowed: SQL) {
  const defaultLimit = sql`${p('defaultLimit')}::bigint`;
  const isKnown = exists(
    build
      .select({ account: quotas.account })
      .from(quotas)
      .where(eq(quotas.account, p('account'))),
  );
  const first = build
    .select({
      account: typed(p('account'), quotas.account).as('owner_id'),
      limitBytes: sql`null::bigint`.as('limit_bytes'),
      usedBytes: sql`0`.as('used_bytes'),
      reservedBytes: typed(p('size'), quotas.reservedBytes).as('reserved_bytes'),
      fileCount: sql`0`.as('file_count'),
      tier: sql<null>`null::text`.as('tier'),
    })
    .from(nowhere)
    .where(and(isAllowed, sql`(${p('size')}::bigint <= ${defaultLimit} or ${isKnown})`));
  return build
    .insert(quotas)
    .select(first)
    .onConflictDoUpdate({
      target: quotas.account,
      set: { reservedBytes: sql`${quotas.reservedBytes} + ${excluded(quotas.reservedBytes)}` },
      setWhere: sql`${quotas.usedBytes} + ${quotas.reservedBytes} + ${excluded(quotas.reservedBytes)}
        <= ${limitOf(p)}`,
    })
    .returning({ account: quotas.account });
}

const { account, ...amounts } = getTableColumns(quotas);
type QuotaRow = Omit<typeof quotas.$inferSelect, 'account'>;

const getQuota = compile('get-quota', (p: Parameter<'account'>) =>
  build
    .select(amounts)
    .from(quotas)
    .where(eq(quotas.account, p('account'))),
);

const setQuotaLimit = compile('set-quota-limit', (p: Parameter<'account' | 'limit' | keyof Actor>) => {
  const previous = build.$with('previous').as(
    build
      .select({ limitBytes: quotas.limitBytes })
      .from(quotas)
      .where(eq(quotas.account, p('account'))),
  );
  const changed = build.$with('changed').as(
    build
      .insert(quotas)
      .values({ account: p('account'), limitBytes: p('limit') })
      .onConflictDoUpdate({ target: quotas.account, set: { limitBytes: excluded(quotas.limitBytes) } })
      // The audit row is of no asset.
      .returning({
        ...amounts,
        ...auditedAccount(sql`${p('callerId')}::text`),
        id: sql<null>`null::uuid`.as('id'),
      }),
  );
  const detail = jsonObject({
    limit: changed.limitBytes,
    previousLimit: build.select({ limitBytes: previous.limitBytes }).from(previous),
  });
  return build
    .with(previous, changed, auditFrom(p, changed, { action: 'quota.changed', detail }))
    .select()
    .from(changed);
});

export class QuotasRepository {
  readonly #database: DatabaseHandle;
  readonly #limits: LimitValues;

  constructor(database: DatabaseHandle, limits: LimitValues) {
    this.#database = database;
    this.#limits = limits;
  }

  /**
   * The quota of an account; one that never stored anything has the default limit, all of it free.
   * @param caller who asks: if the account is his, it has what his token says
   */
  async get(account: string, caller?: Pick<Caller, 'id' | 'tier'>): Promise<Quota> {
    const { rows } = await this.#database.database.run(getQuota, { account });
    return this.#toQuota(rows[0], caller ? limitValuesFor(this.#limits, account, caller) : this.#limits);
  }

  /** The quota that an account was given, or has taken something of; undefined of any other. */
  async find(account: string): Promise<Quota | undefined> {
    const { rows } = await this.#database.database.run(getQuota, { account });
    const [row] = rows;
    return row && (row.limitBytes !== null || row.usedBytes + row.reservedBytes > 0n) ? this.#toQuota(row) : undefined;
  }

  /**
   * Sets the limit in bytes, which may lie below what is used, or removes it (undefined) in favour of the default.
   * @param inTransaction what belongs into the same transaction
   */
  async setLimit(
    account: string,
    limit: number | undefined,
    actor: Actor,
    inTransaction: (transaction: Executor, quota: Quota) => Promise<void>,
  ): Promise<Quota> {
    return this.#database.transact(async (transaction) => {
      const { rows } = await transaction.run(setQuotaLimit, { account, limit: limit ?? null, ...actor });
      const quota = this.#toQuota(rows[0]);
      await inTransaction(transaction, quota);
      return quota;
    });
  }

  #toQuota(row: QuotaRow | undefined, limits = this.#limits): Quota {
    return {
      limit: row?.limitBytes ?? limitWithout(row?.tier ?? null, limits),
      isOwn: row?.limitBytes != null,
      tier: row?.tier ?? null,
      used: row?.usedBytes ?? 0n,
      reserved: row?.reservedBytes ?? 0n,
      fileCount: row?.fileCount ?? 0n,
    };
  }
}
