/**
 * Owners, by the rows of their quotas: whoever has ever taken of a quota of his own, or was given one. There is no index by
 * usage, as it would have to be changed with every upload; a page by usage looks at all of these rows, one per owner.
 */
import { and, asc, desc, eq, sql } from 'drizzle-orm';
import type { Database } from '../database/client.ts';
import { build, compile, type Parameter } from '../database/statements.ts';
import { auditEvents } from '../database/tables/audit.ts';
import { quotas } from '../database/tables/quotas.ts';
import { isOfOwner, ownerOfAccount } from '../quotas/accounts.ts';

export const ownerSorts = ['usage', 'id'] as const;
export type OwnerSort = (typeof ownerSorts)[number];

export interface OwnersQuery {
  sort: OwnerSort;
  order: 'asc' | 'desc';
  limit: number;
  /** Of the last owner of the page before. */
  after?: { used: bigint; account: string };
}

export interface OwnerRow {
  account: string;
  ownerId: string;
  /** Bytes. */
  limit: bigint;
  used: bigint;
  reserved: bigint;
  fileCount: bigint;
  lastActivityAt: Date | null;
}

type ListParameter = 'limit' | 'used' | 'account';

function compileList(sort: OwnerSort, order: OwnersQuery['order'], goesOn: boolean) {
  const [direction, comparison] = order === 'asc' ? [asc, sql`>`] : [desc, sql`<`];
  const position =
    sort === 'usage'
      ? (p: Parameter<ListParameter>) =>
          sql`(${quotas.usedBytes}, ${quotas.account}) ${comparison} (${p('used')}::bigint, ${p('account')}::text)`
      : (p: Parameter<ListParameter>) => sql`${quotas.account} ${comparison} ${p('account')}::text`;
  const byUsage = sort === 'usage' ? [direction(quotas.usedBytes)] : [];
  return compile(
    `list-owners-${sort}-${order}${goesOn ? '-after' : ''}`,
    (p: Parameter<ListParameter>) => {
      const page = build
        .select({
          account: quotas.account,
          ownerId: ownerOfAccount.as('owner'),
          limitBytes: quotas.limitBytes,
          usedBytes: quotas.usedBytes,
          reservedBytes: quotas.reservedBytes,
          fileCount: quotas.fileCount,
        })
        .from(quotas)
        .where(and(isOfOwner, goesOn ? position(p) : undefined))
        .orderBy(...byUsage, direction(quotas.account))
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
          lastActivityAt: latest.at,
        })
        .from(page)
        .leftJoinLateral(latest, sql`true`);
      return rows.orderBy(...(sort === 'usage' ? [direction(page.usedBytes)] : []), direction(page.account));
    },
    { named: false },
  );
}

const statements = new Map(
  ownerSorts.flatMap((sort) =>
    (['asc', 'desc'] as const).flatMap((order) =>
      [false, true].map((goesOn) => [`${sort} ${order} ${goesOn}`, compileList(sort, order, goesOn)] as const),
    ),
  ),
);

export class OwnersRepository {
  readonly #database: Database;
  readonly #defaultLimit: bigint;

  /** @param defaultLimit bytes, of owners for whom no limit was set */
  constructor(database: Database, defaultLimit: number) {
    this.#database = database;
    this.#defaultLimit = BigInt(defaultLimit);
  }

  /** One page in keyset order. */
  async list({ sort, order, limit, after }: OwnersQuery): Promise<OwnerRow[]> {
    const statement = statements.get(`${sort} ${order} ${after !== undefined}`);
    if (!statement) throw new Error(`there is no list of owners by ${sort} ${order}`);
    const values = { limit, used: after?.used ?? null, account: after?.account ?? null };
    const { rows } = await this.#database.run(statement, values);
    return rows.map(({ account, ownerId, limitBytes, usedBytes, reservedBytes, fileCount, lastActivityAt }) => ({
      account,
      ownerId,
      limit: limitBytes ?? this.#defaultLimit,
      used: usedBytes,
      reserved: reservedBytes,
      fileCount,
      lastActivityAt,
    }));
  }
}
