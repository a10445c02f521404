/**
 * The catalogue of assets in SQL. Every statement names the owner, so a foreign asset is never even read. A change of
 * state is one statement, guarded by the state it starts from, with its audit row inside.
 */

import { and, eq, exists, isNotNull, isNull, sql } from 'drizzle-orm';
import { type Actor, type AuditAction, auditFrom } from '../database/audit.ts';
import type { Database, DatabaseHandle, Executor } from '../database/client.ts';
import { retryStatement } from '../database/retry.ts';
import {
  build,
  compile,
  jsonObject,
  now,
  type Parameter,
  type Statement,
  typed,
  type Values,
} from '../database/statements.ts';
import { assets, inState, isVisible } from '../database/tables/assets.ts';
import { auditRows } from '../database/tables/audit.ts';
import { type Asset, type AssetRow, assetColumns, toAsset } from './asset.ts';
import { type BulkAction, bulkChanges, CHANGE_PATIENCE, findChangedBy } from './bulk.ts';
import { hasVersion, isOwn, nextVersion } from './conditions.ts';
import { type ListQuery, listStatement, pageOf } from './list.ts';

const findAsset = compile('find-asset', (p: Parameter<'id' | 'ownerId'>) =>
  build
    .select(assetColumns)
    .from(assets)
    .where(and(isOwn(p), isVisible)),
);

const findForDownload = compile(
  'find-asset-for-download',
  (p: Parameter<'id' | 'ownerId' | 'action' | 'detail' | keyof Actor>) => {
    const found = build.$with('asset').as(
      build
        .select(assetColumns)
        .from(assets)
        .where(and(isOwn(p), inState('ready'), isNull(assets.trashedAt))),
    );
    const detail = typed(p('detail'), auditRows.detail);
    return build
      .with(found, auditFrom(p, found, { action: p('action'), detail }))
      .select()
      .from(found);
  },
);

const findServed = compile('find-served-asset', (p: Parameter<'id'>) =>
  build
    .select({ id: assets.id })
    .from(assets)
    .where(and(eq(assets.id, p('id')), inState('ready'), isNull(assets.trashedAt))),
);

const updateAsset = compile(
  'update-asset',
  (p: Parameter<'id' | 'ownerId' | 'version' | 'name' | 'moves' | 'projectId' | 'metadata' | keyof Actor>) => {
    const previous = build.$with('previous').as(
      build
        .select({ id: assets.id, name: assets.name, projectId: assets.projectId })
        .from(assets)
        .where(and(isOwn(p), isVisible, isNull(assets.trashedAt), hasVersion(p)))
        .for('update'),
    );
    const changed = build.$with('changed').as(
      build
        .update(assets)
        .set({
          ...nextVersion,
          name: sql`coalesce(${p('name')}, ${assets.name})`,
          projectId: sql`case when ${p('moves')}::boolean then ${p('projectId')} else ${assets.projectId} end`,
          metadata: sql`coalesce(${typed(p('metadata'), assets.metadata)}, ${assets.metadata})`,
        })
        .from(previous)
        .where(eq(assets.id, previous.id))
        .returning({
          ...assetColumns,
          previousName: sql`${previous.name}`.as('previous_name'),
          previousProjectId: sql`${previous.projectId}`.as('previous_project_id'),
        }),
    );
    const detail = jsonObject({
      name: changed.name,
      previousName: sql`nullif(${changed.previousName}, ${changed.name})`,
      projectId: changed.projectId,
      previousProjectId: changed.previousProjectId,
    });
    return build
      .with(
        previous,
        changed,
        auditFrom(p, changed, { action: 'asset.updated', detail: sql`jsonb_strip_nulls(${detail})` }),
      )
      .select()
      .from(changed);
  },
);

const trashAsset = compile('trash-asset', (p: Parameter<'id' | 'ownerId' | 'version' | keyof Actor>) => {
  const changed = build.$with('changed').as(
    build
      .update(assets)
      .set({ ...nextVersion, trashedAt: now })
      .where(and(isOwn(p), isVisible, isNull(assets.trashedAt), hasVersion(p)))
      .returning({ id: assets.id, ownerId: assets.ownerId }),
  );
  const isTrashed = sql`(${isNotNull(assets.trashedAt)} or ${exists(build.select().from(changed))})`;
  return build
    .with(changed, auditFrom(p, changed, { action: 'asset.trashed' }))
    .select({ id: assets.id })
    .from(assets)
    .where(and(isOwn(p), isVisible, isTrashed));
});

const restoreAsset = compile('restore-asset', (p: Parameter<'id' | 'ownerId' | 'version' | keyof Actor>) => {
  const changed = build.$with('changed').as(
    build
      .update(assets)
      .set({ ...nextVersion, trashedAt: null })
      .where(and(isOwn(p), isVisible, isNotNull(assets.trashedAt), hasVersion(p)))
      .returning(assetColumns),
  );
  return build
    .with(changed, auditFrom(p, changed, { action: 'asset.restored' }))
    .select()
    .from(changed);
});

export interface AssetChanges {
  name?: string;
  /** null takes the asset out of its project. */
  projectId?: string | null;
  metadata?: Record<string, string>;
}

/** What belongs into the transaction that changes an asset, such as the answer to a request that may be repeated. */
type WithAsset = (transaction: Executor, asset: Asset) => Promise<void>;

export class AssetsRepository {
  readonly #handle: DatabaseHandle;
  readonly #database: Database;

  constructor(handle: DatabaseHandle) {
    this.#handle = handle;
    this.#database = handle.database;
  }

  /** A visible asset of this owner, in the trash or not. */
  async find(ownerId: string, id: string): Promise<Asset | undefined> {
    return this.#one(findAsset, { id, ownerId });
  }

  /**
   * Finds an asset that may be downloaded (ready, not in the trash) and records the download, in one statement.
   * @returns undefined when there is none; `find` tells why
   */
  async findForDownload(
    ownerId: string,
    id: string,
    action: AuditAction,
    actor: Actor,
    detail: Record<string, unknown>,
  ): Promise<Asset | undefined> {
    return this.#one(findForDownload, { id, ownerId, action, detail, ...actor });
  }

  /**
   * One page in keyset order, of at most `limit` assets and MAX_PAGE_BYTES.
   * @returns `next` while more follow: the last row, for the cursor of the next page
   */
  async list(query: ListQuery): Promise<{ assets: Asset[]; next?: { value: string; id: string } }> {
    const { statement, values } = listStatement({ ...query, limit: query.limit + 1 });
    const { rows } = await this.#database.run(statement, values);
    const { page, hasMore } = pageOf(rows, query.limit);
    const last = page.at(-1);
    return { assets: page.map(toAsset), ...(hasMore && last && { next: { value: last.sortValue, id: last.id } }) };
  }

  /**
   * Changes the record; the object is not touched.
   * @param version only when the record still has this version
   * @param inTransaction what belongs into the same transaction
   * @returns undefined when there is no such asset out of the trash, or its version is another
   */
  async update(
    ownerId: string,
    id: string,
    { name, projectId, metadata }: AssetChanges,
    version: number | undefined,
    actor: Actor,
    inTransaction?: WithAsset,
  ): Promise<Asset | undefined> {
    const values = {
      id,
      ownerId,
      version: version ?? null,
      name: name ?? null,
      moves: projectId !== undefined,
      projectId: projectId ?? null,
      metadata: metadata ?? null,
      ...actor,
    };
    return this.#change(updateAsset, values, inTransaction);
  }

  /**
   * Into the trash; what is there already stays as it is.
   * @param version only when the record still has this version
   * @param inTransaction what belongs into the same transaction
   * @returns false when there is no such asset
   */
  async trash(
    ownerId: string,
    id: string,
    version: number | undefined,
    actor: Actor,
    inTransaction?: (transaction: Executor) => Promise<void>,
  ): Promise<boolean> {
    const values = { id, ownerId, version: version ?? null, ...actor };
    const trashBy = async (executor: Executor) => (await executor.run(trashAsset, values)).rows.length > 0;
    return retryStatement(CHANGE_PATIENCE, () => {
      if (!inTransaction) return trashBy(this.#database);
      return this.#handle.transact(async (transaction) => {
        const isThere = await trashBy(transaction);
        if (isThere) await inTransaction(transaction);
        return isThere;
      });
    });
  }

  /**
   * Out of the trash.
   * @param version only when the record still has this version
   * @returns undefined when there is no such asset in the trash
   */
  async restore(
    ownerId: string,
    id: string,
    version: number | undefined,
    actor: Actor,
    inTransaction?: WithAsset,
  ): Promise<Asset | undefined> {
    return this.#change(restoreAsset, { id, ownerId, version: version ?? null, ...actor }, inTransaction);
  }

  /**
   * Changes many assets of an owner in one transaction, with an audit row for each that is changed.
   * @param ids each once
   * @param inTransaction what belongs into the same transaction
   * @returns what was found, and of which assets the state does not allow it; in the trash is what is there already
   */
  async changeMany(
    ownerId: string,
    ids: readonly string[],
    action: BulkAction,
    actor: Actor,
    inTransaction: (transaction: Executor, found: ReadonlyMap<string, 'done' | 'wrong-state'>) => Promise<void>,
  ): Promise<ReadonlyMap<string, 'done' | 'wrong-state'>> {
    const { statement, action: audited } = bulkChanges[action];
    return retryStatement(CHANGE_PATIENCE, (attempt) =>
      this.#handle.transact(async (transaction) => {
        const { rows } = await transaction.run(statement, { ids, ownerId, ...actor });
        const outcomes = new Map(rows.map(({ id, isDone }) => [id, isDone ? 'done' : 'wrong-state'] as const));
        // An earlier commit may have taken effect, and only its answer was lost.
        if (attempt > 1) {
          const values = { ids, ownerId, requestIds: [actor.requestId], action: audited };
          const { rows: before } = await transaction.run(findChangedBy, values);
          for (const { id } of before) outcomes.set(id, 'done');
        }
        await inTransaction(transaction, outcomes);
        return outcomes;
      }),
    );
  }

  /** Whether the bytes of an asset may be handed out, to whoever has a link to them. */
  async isServed(id: string): Promise<boolean> {
    return (await this.#database.run(findServed, { id })).rows.length > 0;
  }

  /** Changes one record: by one statement, or by one transaction where something else belongs to it. */
  async #change<Name extends string>(
    statement: Statement<Name, AssetRow>,
    values: Values<Name>,
    inTransaction: WithAsset | undefined,
  ): Promise<Asset | undefined> {
    if (!inTransaction) return this.#one(statement, values);
    return this.#handle.transact(async (transaction) => {
      const { rows } = await transaction.run(statement, values);
      const asset = rows[0] && toAsset(rows[0]);
      if (asset) await inTransaction(transaction, asset);
      return asset;
    });
  }

  async #one<Name extends string>(
    statement: Statement<Name, AssetRow>,
    values: Values<Name>,
  ): Promise<Asset | undefined> {
    const { rows } = await this.#database.run(statement, values);
    return rows[0] && toAsset(rows[0]);
  }
}
