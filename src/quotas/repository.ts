/**
 * Quota of an owner: `limit`, `used` (the sum of the counted assets, the trash included) and `reserved` (the sum of the
 * uploads in progress). Granting is one conditional UPDATE, never a read and then a write, so `used + reserved` cannot
 * pass the limit however many uploads begin at once. The SQL of granting is shared with the statement that begins an
 * upload; see `reserve`.
 */

import { eq, exists, getTableColumns, sql } from 'drizzle-orm';
import { type Actor, auditFrom } from '../database/audit.ts';
import type { DatabaseHandle, Executor } from '../database/client.ts';
import { build, compile, excluded, jsonObject, nowhere, type Parameter, typed } from '../database/statements.ts';
import { quotas } from '../database/tables/quotas.ts';

export interface Quota {
  /** Bytes, all of them. */
  limit: bigint;
  used: bigint;
  reserved: bigint;
  fileCount: bigint;
}

/**
 * Reserves `size` bytes and returns the owner, or returns no row when there is no room. A first-time owner gets a row; an
 * owner without a limit of their own has `defaultLimit`. For `build.$with('reserved').as(...)`.
 */
export function reserve(p: Parameter<'ownerId' | 'size' | 'defaultLimit'>) {
  const defaultLimit = sql`${p('defaultLimit')}::bigint`;
  const isKnown = exists(
    build
      .select({ ownerId: quotas.ownerId })
      .from(quotas)
      .where(eq(quotas.ownerId, p('ownerId'))),
  );
  const first = build
    .select({
      ownerId: typed(p('ownerId'), quotas.ownerId).as('owner_id'),
      limitBytes: sql`null::bigint`.as('limit_bytes'),
      usedBytes: sql`0`.as('used_bytes'),
      reservedBytes: typed(p('size'), quotas.reservedBytes).as('reserved_bytes'),
      fileCount: sql`0`.as('file_count'),
    })
    .from(nowhere)
    .where(sql`${p('size')}::bigint <= ${defaultLimit} or ${isKnown}`);
  return build
    .insert(quotas)
    .select(first)
    .onConflictDoUpdate({
      target: quotas.ownerId,
      set: { reservedBytes: sql`${quotas.reservedBytes} + ${excluded(quotas.reservedBytes)}` },
      setWhere: sql`${quotas.usedBytes} + ${quotas.reservedBytes} + ${excluded(quotas.reservedBytes)}
        <= coalesce(${quotas.limitBytes}, ${defaultLimit})`,
    })
    .returning({ ownerId: quotas.ownerId });
}

const { ownerId, ...amounts } = getTableColumns(quotas);
type QuotaRow = Omit<typeof quotas.$inferSelect, 'ownerId'>;

const getQuota = compile('get-quota', (p: Parameter<'ownerId'>) =>
  build
    .select(amounts)
    .from(quotas)
    .where(eq(quotas.ownerId, p('ownerId'))),
);

const setQuotaLimit = compile('set-quota-limit', (p: Parameter<'ownerId' | 'limit' | keyof Actor>) => {
  const previous = build.$with('previous').as(
    build
      .select({ limitBytes: quotas.limitBytes })
      .from(quotas)
      .where(eq(quotas.ownerId, p('ownerId'))),
  );
  const changed = build.$with('changed').as(
    build
      .insert(quotas)
      .values({ ownerId: p('ownerId'), limitBytes: p('limit') })
      .onConflictDoUpdate({ target: quotas.ownerId, set: { limitBytes: excluded(quotas.limitBytes) } })
      // The audit row is of no asset.
      .returning({ ...amounts, ownerId, id: sql<null>`null::uuid`.as('id') }),
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
  readonly #defaultLimit: bigint;

  /** @param defaultLimit bytes, of owners for whom no limit was set */
  constructor(database: DatabaseHandle, defaultLimit: number) {
    this.#database = database;
    this.#defaultLimit = BigInt(defaultLimit);
  }

  /** The quota of an owner; one who never stored anything has the default limit, all of it free. */
  async get(ownerId: string): Promise<Quota> {
    const { rows } = await this.#database.database.run(getQuota, { ownerId });
    return this.#toQuota(rows[0]);
  }

  /**
   * Sets the limit in bytes, which may lie below what is used, or removes it (undefined) in favour of the default.
   * @param inTransaction what belongs into the same transaction
   */
  async setLimit(
    ownerId: string,
    limit: number | undefined,
    actor: Actor,
    inTransaction: (transaction: Executor, quota: Quota) => Promise<void>,
  ): Promise<Quota> {
    return this.#database.transact(async (transaction) => {
      const { rows } = await transaction.run(setQuotaLimit, { ownerId, limit: limit ?? null, ...actor });
      const quota = this.#toQuota(rows[0]);
      await inTransaction(transaction, quota);
      return quota;
    });
  }

  #toQuota(row: QuotaRow | undefined): Quota {
    return {
      limit: row?.limitBytes ?? this.#defaultLimit,
      used: row?.usedBytes ?? 0n,
      reserved: row?.reservedBytes ?? 0n,
      fileCount: row?.fileCount ?? 0n,
    };
  }
}
