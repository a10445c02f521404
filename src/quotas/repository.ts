/**
 * Quota of an owner: `limit`, `used` (the sum of the counted assets, the trash included) and `reserved` (the sum of the
 * uploads in progress). Granting is one conditional UPDATE, never a read and then a write, so `used + reserved` cannot
 * pass the limit however many uploads begin at once. The SQL of granting is shared with the statement that begins an
 * upload; see `reserve`.
 */

import { eq, exists, sql } from 'drizzle-orm';
import type { Actor } from '../database/audit.ts';
import type { DatabaseHandle, Executor } from '../database/client.ts';
import { sql as text } from '../database/sql.ts';
import { auditFrom } from '../database/sql-pieces.ts';
import { build, excluded, type Parameter, typed } from '../database/statements.ts';
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
    .from(sql`(select) as one`)
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

type QuotaRow = { limit_bytes: string | null; used_bytes: string; reserved_bytes: string; file_count: string };

export class QuotasRepository {
  readonly #database: DatabaseHandle;
  readonly #defaultLimit: number;

  /** @param defaultLimit bytes, of owners for whom no limit was set */
  constructor(database: DatabaseHandle, defaultLimit: number) {
    this.#database = database;
    this.#defaultLimit = defaultLimit;
  }

  /** The quota of an owner; one who never stored anything has the default limit, all of it free. */
  async get(ownerId: string): Promise<Quota> {
    const { rows } = await this.#database.database.execute<QuotaRow>(
      text`select limit_bytes, used_bytes, reserved_bytes, file_count from quotas where owner_id = ${ownerId}`,
      'get-quota',
    );
    return this.#toQuota(rows[0]);
  }

  /**
   * Sets the limit in bytes, which may lie below what is used, or removes it (undefined) in favour of the default.
   * @param also what belongs into the same transaction
   */
  async setLimit(
    ownerId: string,
    limit: number | undefined,
    actor: Actor,
    also: (transaction: Executor, quota: Quota) => Promise<void>,
  ): Promise<Quota> {
    const statement = text`
      with previous as (
        select limit_bytes from quotas where owner_id = ${ownerId}
      ), changed as (
        insert into quotas (owner_id, limit_bytes) values (${ownerId}, ${limit ?? null}::bigint)
        on conflict (owner_id) do update set limit_bytes = excluded.limit_bytes
        returning owner_id, null::uuid as id, limit_bytes, used_bytes, reserved_bytes, file_count
      ), audit as (
        ${auditFrom('changed', 'quota.changed', actor, text`jsonb_build_object('limit', limit_bytes, 'previousLimit', (select limit_bytes from previous))`)}
      )
      select limit_bytes, used_bytes, reserved_bytes, file_count from changed`;
    return this.#database.transact(async (transaction) => {
      const { rows } = await transaction.execute<QuotaRow>(statement);
      const quota = this.#toQuota(rows[0]);
      await also(transaction, quota);
      return quota;
    });
  }

  #toQuota(row: QuotaRow | undefined): Quota {
    return {
      limit: BigInt(row?.limit_bytes ?? this.#defaultLimit),
      used: BigInt(row?.used_bytes ?? 0),
      reserved: BigInt(row?.reserved_bytes ?? 0),
      fileCount: BigInt(row?.file_count ?? 0),
    };
  }
}
