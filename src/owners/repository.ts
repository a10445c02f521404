/** Owners, by the rows of their quotas: whoever has ever taken of a quota of his own, or was given one or a tier. */
import { and, asc, desc, eq, isNotNull, type SQL, sql } from 'drizzle-orm';
import type { PgColumn } from 'drizzle-orm/pg-core';
import { type Actor, auditFrom } from '../database/audit.ts';
import type { DatabaseHandle, Executor } from '../database/client.ts';
import { build, compile, excluded, jsonObject, type Parameter } from '../database/statements.ts';
import { auditEvents } from '../database/tables/audit.ts';
import { quotas } from '../database/tables/quotas.ts';
import { isOfOwner, ownerAccount, ownerOfAccount } from '../quotas/accounts.ts';
import { type LimitValues, limitWithout } from '../quotas/limit.ts';
import './audit.ts';

export const ownerSorts = ['usage', 'id', 'tier'] as const;
export type OwnerSort = (typeof ownerSorts)[number];

export interface OwnersQuery {
  sort: OwnerSort;
  order: 'asc' | 'desc';
  limit: number;
  /** Only those that have this tier. */
  tier?: string;
  /** Of the last owner of the page before. */
  after?: { value: string; account: string };
}

export interface OwnerRow {
  account: string;
  ownerId: string;
  /** Bytes. */
  limit: bigint;
  used: bigint;
  reserved: bigint;
  fileCount: bigint;
  /** That an administrator has given him. */
  tier: string | null;
  lastActivityAt: Date | null;
}

type ListParameter = 'limit' | 'tier' | 'value' | 'account';

/** As the index has it. */
const itsTier = sql<string>`coalesce(${quotas.tier}, '')`;

/** What owners are in the order of, before their accounts. */
const keys: Record<OwnerSort, { key: SQL; type: SQL } | undefined> = {
  usage: { key: sql`${quotas.usedBytes}`, type: sql`bigint` },
  tier: { key: itsTier, type: sql`text` },
  id: undefined,
};

function compileList(sort: OwnerSort, order: OwnersQuery['order'], of: 'all' | 'tier', goesOn: boolean) {
  const [direction, comparison] = order === 'asc' ? [asc, sql`>`] : [desc, sql`<`];
  const by = keys[sort];
  const position = (p: Parameter<ListParameter>) =>
    by
      ? sql`(${by.key}, ${quotas.account}) ${comparison} (${p('value')}::${by.type}, ${p('account')}::text)`
      : sql`${quotas.account} ${comparison} ${p('account')}::text`;
  return compile(
    `list-owners-${sort}-${order}-${of}${goesOn ? '-after' : ''}`,
    (p: Parameter<ListParameter>) => {
      const page = build
        .select({
          account: quotas.account,
          ownerId: ownerOfAccount.as('owner'),
          limitBytes: quotas.limitBytes,
          usedBytes: quotas.usedBytes,
          reservedBytes: quotas.reservedBytes,
          fileCount: quotas.fileCount,
          tier: quotas.tier,
          value: (by?.key ?? sql`''`).mapWith(String).as('value'),
        })
        .from(quotas)
        .where(and(isOfOwner, of === 'tier' ? eq(itsTier, p('tier')) : undefined, goesOn ? position(p) : undefined))
        .orderBy(...(by ? [direction(by.key)] : []), direction(quotas.account))
        .limit(p('limit'))
        .as('page');
      const latest = build
        .select({ at: auditEvents.at })
        .from(auditEvents)
        .where(eq(auditEvents.ownerId, page.ownerId))
        .orderBy(desc(auditEvents.id))
        .limit(1)
        .as('latest');
      const rows = build
        .select({
          account: page.account,
          ownerId: page.ownerId,
          limitBytes: page.limitBytes,
          usedBytes: page.usedBytes,
          reservedBytes: page.reservedBytes,
          fileCount: page.fileCount,
          tier: page.tier,
          value: page.value,
          lastActivityAt: latest.at,
        })
        .from(page)
        .leftJoinLateral(latest, sql`true`);
      return rows.orderBy(...(by ? [direction(page.value)] : []), direction(page.account));
    },
    { named: false },
  );
}

const statements = new Map(
  ownerSorts.flatMap((sort) =>
    (['asc', 'desc'] as const).flatMap((order) =>
      (['all', 'tier'] as const).flatMap((of) =>
        [false, true].map(
          (goesOn) => [`${sort} ${order} ${of} ${goesOn}`, compileList(sort, order, of, goesOn)] as const,
        ),
      ),
    ),
  ),
);

const findOwner = compile('find-owner', (p: Parameter<'account'>) => {
  const latest = build
    .select({ at: auditEvents.at })
    .from(auditEvents)
    .where(eq(auditEvents.ownerId, ownerOfAccount))
    .orderBy(desc(auditEvents.id))
    .limit(1)
    .as('latest');
  return build
    .select({
      limitBytes: quotas.limitBytes,
      usedBytes: quotas.usedBytes,
      reservedBytes: quotas.reservedBytes,
      fileCount: quotas.fileCount,
      tier: quotas.tier,
      lastActivityAt: latest.at,
    })
    .from(quotas)
    .leftJoinLateral(latest, sql`true`)
    .where(eq(quotas.account, p('account')));
});

/** The audit row is of no asset. */
const audited = {
  id: sql<null>`null::uuid`.as('asset_id'),
  ownerId: sql<string>`${ownerOfAccount}`.as('audited_owner'),
  tier: quotas.tier,
};
const previousTier = (p: Parameter<'account'>) =>
  build.$with('previous').as(
    build
      .select({ tier: quotas.tier })
      .from(quotas)
      .where(eq(quotas.account, p('account'))),
  );
function auditedTier(p: Parameter<keyof Actor>, previous: ReturnType<typeof previousTier>, changed: ChangedTier) {
  const detail = jsonObject({ tier: changed.tier, previousTier: build.select({ tier: previous.tier }).from(previous) });
  return auditFrom(p, changed, { action: 'owner.tier-changed', detail: sql`jsonb_strip_nulls(${detail})` });
}
type ChangedTier = Parameters<typeof auditFrom>[1] & { tier: PgColumn };

const giveTier = compile('give-tier', (p: Parameter<'account' | 'tier' | keyof Actor>) => {
  const previous = previousTier(p);
  const changed = build.$with('changed').as(
    build
      .insert(quotas)
      .values({ account: p('account'), tier: p('tier') })
      .onConflictDoUpdate({
        target: quotas.account,
        set: { tier: excluded(quotas.tier) },
        setWhere: sql`${quotas.tier} is distinct from ${excluded(quotas.tier)}`,
      })
      .returning(audited),
  );
  return build
    .with(previous, changed, auditedTier(p, previous, changed))
    .select({ tier: changed.tier })
    .from(changed);
});

const takeTier = compile('take-tier', (p: Parameter<'account' | keyof Actor>) => {
  const previous = previousTier(p);
  const changed = build.$with('changed').as(
    build
      .update(quotas)
      .set({ tier: null })
      .where(and(eq(quotas.account, p('account')), isNotNull(quotas.tier)))
      .returning(audited),
  );
  return build
    .with(previous, changed, auditedTier(p, previous, changed))
    .select({ tier: changed.tier })
    .from(changed);
});

export class OwnersRepository {
  readonly #handle: DatabaseHandle;
  readonly #limits: LimitValues;

  constructor(handle: DatabaseHandle, limits: LimitValues) {
    this.#handle = handle;
    this.#limits = limits;
  }

  /** One page in keyset order. */
  async list({ sort, order, limit, tier, after }: OwnersQuery): Promise<(OwnerRow & { value: string })[]> {
    const of = tier === undefined ? 'all' : 'tier';
    const statement = statements.get(`${sort} ${order} ${of} ${after !== undefined}`);
    if (!statement) throw new Error(`there is no list of owners by ${sort} ${order}`);
    const values = { limit, tier: tier ?? null, value: after?.value ?? null, account: after?.account ?? null };
    const { rows } = await this.#handle.database.run(statement, values);
    return rows.map(({ value, ...row }) => ({ ...this.#toOwner(row), value }));
  }

  async find(ownerId: string, executor: Executor = this.#handle.database): Promise<OwnerRow> {
    const account = ownerAccount(ownerId);
    const { rows } = await executor.run(findOwner, { account });
    const nothing = {
      limitBytes: null,
      usedBytes: 0n,
      reservedBytes: 0n,
      fileCount: 0n,
      tier: null,
      lastActivityAt: null,
    };
    return this.#toOwner({ ...nothing, ...rows[0], account, ownerId });
  }

  /**
   * Gives an owner a tier, or takes it away (undefined); one audit row where that changes something.
   * @param inTransaction what belongs into the same transaction
   */
  async setTier(
    ownerId: string,
    tier: string | undefined,
    actor: Actor,
    inTransaction: (transaction: Executor, owner: OwnerRow) => Promise<void>,
  ): Promise<OwnerRow> {
    return this.#handle.transact(async (transaction) => {
      const account = ownerAccount(ownerId);
      if (tier === undefined) await transaction.run(takeTier, { account, ...actor });
      else await transaction.run(giveTier, { account, tier, ...actor });
      const owner = await this.find(ownerId, transaction);
      await inTransaction(transaction, owner);
      return owner;
    });
  }

  #toOwner({ limitBytes, usedBytes, reservedBytes, ...row }: FoundOwner): OwnerRow {
    return {
      ...row,
      limit: limitBytes ?? limitWithout(row.tier, this.#limits),
      used: usedBytes,
      reserved: reservedBytes,
    };
  }
}

type FoundOwner = Omit<OwnerRow, 'limit' | 'used' | 'reserved'> &
  Pick<typeof quotas.$inferSelect, 'limitBytes' | 'usedBytes' | 'reservedBytes'>;
