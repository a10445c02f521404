/**
 * Quota of an owner: `limit`, `used` (the sum of the counted assets, the trash included) and `reserved` (the sum of the
 * uploads in progress). Granting is one conditional UPDATE, never a read and then a write, so `used + reserved` cannot
 * pass the limit however many uploads begin at once. The SQL of granting is shared with the statement that begins an
 * upload; see `reserve`.
 */

import { type Actor, auditFrom } from '../database/audit.ts';
import type { DatabaseHandle, Executor } from '../database/client.ts';
import { type SQL, sql } from '../database/sql.ts';

export interface Quota {
  /** Bytes, all of them. */
  limit: bigint;
  used: bigint;
  reserved: bigint;
  fileCount: bigint;
}

/**
 * SQL that reserves `size` bytes and returns `owner_id`, or returns no row when there is no room. A first-time owner
 * gets a row; an owner without a limit of their own has `defaultLimit`.
 */
export function reserve(ownerId: string, size: number, defaultLimit: number): SQL {
  return sql`insert into quotas as quota (owner_id, reserved_bytes)
    select ${ownerId}, ${size}::bigint
    where ${size}::bigint <= ${defaultLimit}::bigint or exists (select from quotas where owner_id = ${ownerId})
    on conflict (owner_id) do update set reserved_bytes = quota.reserved_bytes + excluded.reserved_bytes
    where quota.used_bytes + quota.reserved_bytes + excluded.reserved_bytes <= coalesce(quota.limit_bytes, ${defaultLimit}::bigint)
    returning owner_id`;
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
      sql`select limit_bytes, used_bytes, reserved_bytes, file_count from quotas where owner_id = ${ownerId}`,
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
    const statement = sql`
      with previous as (
        select limit_bytes from quotas where owner_id = ${ownerId}
      ), changed as (
        insert into quotas (owner_id, limit_bytes) values (${ownerId}, ${limit ?? null}::bigint)
        on conflict (owner_id) do update set limit_bytes = excluded.limit_bytes
        returning owner_id, null::uuid as id, limit_bytes, used_bytes, reserved_bytes, file_count
      ), audit as (
        ${auditFrom('changed', 'quota.changed', actor, sql`jsonb_build_object('limit', limit_bytes, 'previousLimit', (select limit_bytes from previous))`)}
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
