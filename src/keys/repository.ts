/** API keys in the database. They belong to their owner; whoever revokes one leaves the row for a day, without effect. */
import { and, desc, eq, isNull, lt, or, type SQL, sql } from 'drizzle-orm';
import { v7 as uuidv7 } from 'uuid';
import { makeSecret } from '../access/credential-secret.ts';
import type { Scope } from '../access/rules.ts';
import { type Actor, auditFrom } from '../database/audit.ts';
import type { DatabaseHandle, Executor } from '../database/client.ts';
import { build, compile, hoursAgo, jsonObject, now, nowhere, type Parameter, typed } from '../database/statements.ts';
import { apiKeys } from '../database/tables/credentials.ts';
import type { Position } from '../http/paging.ts';
import './audit.ts';

/** Keys of one owner that are good. */
export const MAX_KEYS = 100;
/** With those that were revoked or have expired within KEPT_HOURS: who makes and revokes keys in a loop stops here. */
const MAX_ROWS = 1000;
const KEPT_HOURS = 24;
/** Rows that one statement removes. */
const BATCH = 1000;

export interface ApiKey {
  id: string;
  name: string;
  scopes: string[];
  projects: string[] | null;
  createdAt: Date;
  expiresAt: Date | null;
  lastUsedAt: Date | null;
}

export interface NewKey {
  ownerId: string;
  name: string;
  scopes: readonly Scope[];
  projects?: readonly string[] | undefined;
  /** Seconds; absent: until it is revoked. */
  expiresIn?: number | undefined;
}

export interface PageQuery {
  /** The last of the page before. */
  after?: Position;
  limit: number;
}

const shown = {
  id: apiKeys.id,
  name: apiKeys.name,
  scopes: apiKeys.scopes,
  projects: apiKeys.projects,
  createdAt: apiKeys.createdAt,
  expiresAt: apiKeys.expiresAt,
  lastUsedAt: apiKeys.lastUsedAt,
};
const isOf = (p: Parameter<'ownerId'>) => and(eq(apiKeys.ownerId, p('ownerId')), isNull(apiKeys.revokedAt));

/** Those of one owner are made one after the other, so that no two are the last that he may have. */
const lockOwner = compile('lock-key-owner', (p: Parameter<'ownerId'>) =>
  build
    .select({ locked: sql`pg_advisory_xact_lock(hashtextextended(${p('ownerId')}, 12))`.as('locked') })
    .from(nowhere),
);

const insertKey = compile(
  'insert-key',
  (p: Parameter<'id' | 'ownerId' | 'name' | 'digest' | 'scopes' | 'projects' | 'expiresIn' | keyof Actor>) => {
    const count = (filter: SQL) =>
      sql`(select count(*) ${filter} from ${apiKeys} where ${eq(apiKeys.ownerId, p('ownerId'))})`;
    const good = sql`filter (where ${apiKeys.revokedAt} is null and (${apiKeys.expiresAt} is null or ${apiKeys.expiresAt} > now()))`;
    // Every column in the order of the table: drizzle-orm names them all.
    const row = build
      .select({
        id: typed(p('id'), apiKeys.id).as('id'),
        ownerId: typed(p('ownerId'), apiKeys.ownerId).as('owner_id'),
        name: typed(p('name'), apiKeys.name).as('name'),
        digest: typed(p('digest'), apiKeys.digest).as('digest'),
        scopes: sql<string[]>`${p('scopes')}::text[]`.as('scopes'),
        projects: sql<string[]>`${p('projects')}::text[]`.as('projects'),
        createdAt: sql`now()`.as('created_at'),
        expiresAt: sql`now() + make_interval(secs => ${p('expiresIn')})`.as('expires_at'),
        lastUsedAt: sql`null::timestamptz`.as('last_used_at'),
        revokedAt: sql`null::timestamptz`.as('revoked_at'),
      })
      .from(nowhere)
      .where(sql`${count(good)} < ${sql.raw(String(MAX_KEYS))} and ${count(sql``)} < ${sql.raw(String(MAX_ROWS))}`);
    const made = build.$with('made').as(build.insert(apiKeys).select(row).returning(shown));
    const changed = build.$with('changed').as(
      build
        .select({
          id: sql<null>`null::uuid`.as('asset_id'),
          ownerId: sql<string>`${p('ownerId')}::text`.as('owner_id'),
          keyId: sql<string>`${made.id}`.as('key_id'),
          name: sql<string>`${made.name}`.as('key_name'),
          scopes: sql<string[]>`${made.scopes}`.as('key_scopes'),
        })
        .from(made),
    );
    const told = jsonObject({ keyId: changed.keyId, name: changed.name, scopes: sql`to_jsonb(${changed.scopes})` });
    const audit = auditFrom(p, changed, { action: 'key.created', detail: told });
    return build.with(made, changed, audit).select().from(made);
  },
);

const listKeys = compile('list-keys', (p: Parameter<'ownerId' | 'value' | 'id' | 'limit'>) =>
  build
    .select({ ...shown, value: sql<string>`${apiKeys.createdAt}::text`.as('value') })
    .from(apiKeys)
    .where(
      and(
        isOf(p),
        sql`(${p('id')}::uuid is null
          or (${apiKeys.createdAt}, ${apiKeys.id}) < (${p('value')}::timestamptz, ${p('id')}::uuid))`,
      ),
    )
    .orderBy(desc(apiKeys.createdAt), desc(apiKeys.id))
    .limit(p('limit')),
);

const findKey = compile('find-key', (p: Parameter<'ownerId' | 'id'>) =>
  build
    .select(shown)
    .from(apiKeys)
    .where(and(isOf(p), eq(apiKeys.id, p('id')))),
);

const revokeKey = compile('revoke-key', (p: Parameter<'ownerId' | 'id' | keyof Actor>) => {
  const changed = build.$with('changed').as(
    build
      .update(apiKeys)
      .set({ revokedAt: now })
      .where(and(isOf(p), eq(apiKeys.id, p('id'))))
      .returning({
        // The audit row is of no asset.
        id: sql<null>`null::uuid`.as('asset_id'),
        ownerId: apiKeys.ownerId,
        keyId: sql<string>`${apiKeys.id}`.as('key_id'),
        name: apiKeys.name,
      }),
  );
  const told = jsonObject({ keyId: changed.keyId, name: changed.name });
  return build
    .with(changed, auditFrom(p, changed, { action: 'key.revoked', detail: told }))
    .select({ keyId: changed.keyId })
    .from(changed);
});

const removeDead = compile(
  'remove-dead-keys',
  (p: Parameter<'limit'>) =>
    build.delete(apiKeys).where(
      sql`${apiKeys.id} in (${build
        .select({ id: apiKeys.id })
        .from(apiKeys)
        .where(or(lt(apiKeys.revokedAt, hoursAgo(KEPT_HOURS)), lt(apiKeys.expiresAt, hoursAgo(KEPT_HOURS))))
        .limit(p('limit'))})`,
    ),
  { named: false },
);

export class KeysRepository {
  readonly #handle: DatabaseHandle;

  constructor(handle: DatabaseHandle) {
    this.#handle = handle;
  }

  /**
   * @param inTransaction what belongs into the same transaction
   * @returns the key with its secret, which is nowhere else; undefined when the owner has as many as he may have
   */
  async create(
    key: NewKey,
    actor: Actor,
    inTransaction: (transaction: Executor, key: ApiKey) => Promise<void> = async () => {},
  ): Promise<{ key: ApiKey; secret: string } | undefined> {
    const { text, digest } = makeSecret('key');
    const { ownerId, name, scopes, projects = null, expiresIn = null } = key;
    const values = { id: uuidv7(), ownerId, name, digest, scopes: [...scopes], projects, expiresIn, ...actor };
    return this.#handle.transact(async (transaction) => {
      await transaction.run(lockOwner, { ownerId });
      const { rows } = await transaction.run(insertKey, values);
      const [made] = rows;
      if (!made) return undefined;
      await inTransaction(transaction, made);
      return { key: made, secret: text };
    });
  }

  /** The latest first. @returns each with its place */
  async list(ownerId: string, { after, limit }: PageQuery): Promise<{ key: ApiKey; position: Position }[]> {
    const values = { ownerId, value: after?.value ?? null, id: after?.id ?? null, limit };
    const { rows } = await this.#handle.database.run(listKeys, values);
    return rows.map(({ value, ...key }) => ({ key, position: { value, id: key.id } }));
  }

  async find(ownerId: string, id: string): Promise<ApiKey | undefined> {
    return (await this.#handle.database.run(findKey, { ownerId, id })).rows[0];
  }

  /** @returns false when there is none of this id, or it was revoked before */
  async revoke(
    ownerId: string,
    id: string,
    actor: Actor,
    inTransaction: (transaction: Executor) => Promise<void>,
  ): Promise<boolean> {
    return this.#handle.transact(async (transaction) => {
      const { rows } = await transaction.run(revokeKey, { ownerId, id, ...actor });
      if (rows.length === 0) return false;
      await inTransaction(transaction);
      return true;
    });
  }

  /** Removes keys that were revoked, or have expired, a day ago. @returns how many */
  async removeDead(): Promise<number> {
    return (await this.#handle.database.run(removeDead, { limit: BATCH })).rowCount;
  }
}
