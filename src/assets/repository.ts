/**
 * The catalogue of assets in SQL. Every statement asks what the caller is to the asset: what is not there for him is not
 * found. A change of state is one statement, guarded by the state it starts from, with its audit row inside.
 */

import { and, eq, exists, isNotNull, isNull, type SQL, type SQLWrapper, sql } from 'drizzle-orm';
import type { Caller } from '../access/caller.ts';
import { type AccessParameter, accessOf, isFor, roleOn } from '../access/conditions.ts';
import { type Role, roleAt } from '../access/rules.ts';
import { type Actor, type AuditAction, auditFrom } from '../database/audit.ts';
import { Batcher } from '../database/batcher.ts';
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
import { assets, inState, isFree, isHeld, isPublished, isVisible } from '../database/tables/assets.ts';
import { auditRows } from '../database/tables/audit.ts';
import { makeProject, orProjectHasGone } from '../projects/places.ts';
import { type Asset, type AssetRow, assetColumns, toAsset } from './asset.ts';
import { CHANGE_PATIENCE } from './bulk.ts';
import { hasVersion, isOne, labelChanges, nextVersion } from './conditions.ts';
import { downloadColumns, downloadsOfAsset, markDownload } from './download-counts.ts';
import { type FoundDownload, findEach, type WantedDownload } from './download-statement.ts';
import { lookAfterMove } from './life-cycle-looks.ts';
import type { ListQuery } from './list.ts';
import { chargeMove, type Move } from './moving.ts';
import { AssetSearch, type Position } from './search.ts';

const findAsset = compile('find-asset', (p: Parameter<'id' | AccessParameter>) =>
  build
    .select({ ...assetColumns, ...downloadColumns, rank: roleOn(p).as('rank'), isHeld: isHeld.as('is_held') })
    .from(assets)
    .leftJoinLateral(downloadsOfAsset.folded, sql`true`)
    .leftJoinLateral(downloadsOfAsset.added, sql`true`)
    .where(and(isOne(p, 'asset.read'), isVisible)),
);

/** Whose link it is, is not known; a link of a derivative is no download of the file. */
const followLink = compile('follow-link', (p: Parameter<'id' | 'key' | 'detail' | 'counts' | keyof Actor>) => {
  const found = build.$with('asset').as(
    build
      .select({
        id: assets.id,
        ownerId: assets.ownerId,
        projectId: assets.projectId,
        isItself: sql<boolean>`${assets.objectKey} = ${p('key')}`.as('is_itself'),
      })
      .from(assets)
      .where(and(eq(assets.id, p('id')), inState('ready'), isNull(assets.trashedAt))),
  );
  const detail = typed(p('detail'), auditRows.detail);
  return build
    .with(
      found,
      auditFrom(p, found, { action: 'asset.link-followed', detail }),
      markDownload(found, sql`${found.isItself} and ${p('counts')}::boolean`),
    )
    .select({ id: found.id })
    .from(found);
});

const findServed = compile('find-served-asset', (p: Parameter<'id'>) =>
  build
    .select({ id: assets.id })
    .from(assets)
    .where(and(eq(assets.id, p('id')), inState('ready'), isNull(assets.trashedAt))),
);

const updateAsset = compile(
  'update-asset',
  (
    p: Parameter<
      | ('id' | 'version' | 'name' | 'moves' | 'projectId' | 'account' | 'metadata' | 'path' | 'tags' | 'publishes')
      | (AccessParameter | keyof Actor)
    >,
  ) => {
    const previous = build.$with('previous').as(
      build
        .select({
          id: assets.id,
          name: assets.name,
          projectId: assets.projectId,
          metadata: assets.metadata,
          wasPublic: isPublished.as('was_public'),
          path: assets.path,
          tags: assets.tags,
        })
        .from(assets)
        .where(
          and(
            isOne(p, 'asset.write'),
            sql`(${p('publishes')}::boolean is null or ${isFor(p, 'asset.publish')})`,
            isVisible,
            isNull(assets.trashedAt),
            hasVersion(p),
          ),
        )
        .for('update'),
    );
    // Who may put it somewhere need not be one who may publish there.
    const goes = sql`(${p('moves')}::boolean and ${p('projectId')}::text is distinct from ${previous.projectId})`;
    const isPublic = sql`(not ${goes} and coalesce(${p('publishes')}::boolean, ${previous.wasPublic}))`;
    const stays = sql`(${isPublic} and ${previous.wasPublic})`;
    const changed = build.$with('changed').as(
      build
        .update(assets)
        .set({
          ...nextVersion,
          name: sql`coalesce(${p('name')}, ${assets.name})`,
          projectId: sql`case when ${p('moves')}::boolean then ${p('projectId')} else ${assets.projectId} end`,
          account: sql`case when ${p('moves')}::boolean then ${p('account')} else ${assets.account} end`,
          metadata: sql`coalesce(${typed(p('metadata'), assets.metadata)}, ${assets.metadata})`,
          publishedIn: sql`case when ${isPublic} then coalesce(${previous.projectId}, '') end`,
          publishedAt: sql`case when ${stays} then ${assets.publishedAt} when ${isPublic} then now() end`,
          unpublishedAt: sql`case when ${isPublic} then null when ${previous.wasPublic} then now() else ${assets.unpublishedAt} end`,
          path: sql`coalesce(${p('path')}, ${assets.path})`,
          tags: sql`coalesce(${typed(p('tags'), assets.tags)}, ${assets.tags})`,
        })
        .from(previous)
        .where(eq(assets.id, previous.id))
        .returning({
          ...assetColumns,
          previousName: sql`${previous.name}`.as('previous_name'),
          previousProjectId: sql<string | null>`${previous.projectId}`.as('previous_project_id'),
          previousMetadata: sql`${previous.metadata}`.as('previous_metadata'),
          wasPublic: sql<boolean>`${previous.wasPublic}`.as('was_public'),
          isPublic: sql<boolean>`${assets.publishedIn} is not null`.as('is_public'),
          previousPath: sql`${previous.path}`.as('previous_path'),
          previousTags: sql`${previous.tags}`.as('previous_tags'),
        }),
    );
    const detail = jsonObject({
      name: changed.name,
      previousName: sql`nullif(${changed.previousName}, ${changed.name})`,
      projectId: changed.projectId,
      previousProjectId: changed.previousProjectId,
      changedMetadata: changedKeys(changed.previousMetadata, changed.metadata),
      ...labelChanges(changed),
    });
    const action = sql<AuditAction>`case when ${changed.isPublic} = ${changed.wasPublic} then 'asset.updated'
      when ${changed.isPublic} then 'asset.published' else 'asset.unpublished' end`;
    // The row of the asset is of the project where it is now. That one has gone is told where it was, and not where it went.
    const left = build.$with('left_project').as(
      build
        .select({
          id: sql<null>`null::uuid`.as('no_asset'),
          ownerId: sql<string>`${p('callerId')}::text`.as('who_moved'),
          projectId: changed.previousProjectId,
          assetId: sql<string>`${changed.id}`.as('left_asset'),
          name: sql<string>`${changed.previousName}`.as('left_name'),
        })
        .from(changed)
        .where(
          sql`${changed.previousProjectId} is not null and ${changed.previousProjectId} is distinct from ${changed.projectId}`,
        ),
    );
    const gone = jsonObject({ assetId: left.assetId, name: left.name });
    return build
      .with(
        previous,
        changed,
        left,
        auditFrom(p, changed, { action, detail: sql`jsonb_strip_nulls(${detail})` }),
        auditFrom(p, left, { action: 'project.asset-left', detail: gone, name: 'audit_of_project' }),
        lookAfterMove(changed),
      )
      .select()
      .from(changed);
  },
);

const trashAsset = compile('trash-asset', (p: Parameter<'id' | 'version' | AccessParameter | keyof Actor>) => {
  const changed = build.$with('changed').as(
    build
      .update(assets)
      .set({ ...nextVersion, trashedAt: now })
      // What lies in the trash is on its way to be deleted.
      .where(and(isOne(p, 'asset.write'), isVisible, isNull(assets.trashedAt), isFree, hasVersion(p)))
      .returning({ id: assets.id, ownerId: assets.ownerId, projectId: assets.projectId }),
  );
  const isTrashed = sql`(${isNotNull(assets.trashedAt)} or ${exists(build.select().from(changed))})`;
  return build
    .with(changed, auditFrom(p, changed, { action: 'asset.trashed' }))
    .select({ id: assets.id })
    .from(assets)
    .where(and(isOne(p, 'asset.write'), isVisible, isTrashed));
});

const restoreAsset = compile('restore-asset', (p: Parameter<'id' | 'version' | AccessParameter | keyof Actor>) => {
  const changed = build.$with('changed').as(
    build
      .update(assets)
      .set({ ...nextVersion, trashedAt: null })
      .where(and(isOne(p, 'asset.write'), isVisible, isNotNull(assets.trashedAt), hasVersion(p)))
      .returning(assetColumns),
  );
  return build
    .with(changed, auditFrom(p, changed, { action: 'asset.restored' }))
    .select()
    .from(changed);
});

/** The names that have another value now, or one more or less; null where there is none. Values may be large, and stay out. */
function changedKeys(before: SQLWrapper, after: SQLWrapper): SQL {
  return sql`(select jsonb_agg(name order by name)
    from (select jsonb_object_keys(${before}) union select jsonb_object_keys(${after})) as names (name)
    where ${before} -> name is distinct from ${after} -> name)`;
}

/** An asset, what the caller is to it, whether anything holds it, and how often it was downloaded. */
export type FoundAsset = Asset & { role: Role; isHeld: boolean; downloadCount: number; lastDownloadedAt?: Date };

export interface AssetChanges {
  name?: string;
  move?: Move;
  metadata?: Record<string, string>;
  visibility?: 'private' | 'public';
  path?: string;
  tags?: readonly string[];
}

/** Downloads and links that are found by one statement, so that it takes a few milliseconds. */
const MAX_TOGETHER = 64;

/** What belongs into the transaction that changes an asset, such as the answer to a request that may be repeated. */
type WithAsset = (transaction: Executor, asset: Asset) => Promise<void>;

export class AssetsRepository {
  readonly #handle: DatabaseHandle;
  readonly #database: Database;
  readonly #search: AssetSearch;
  /** Statements that find downloads, one of each lane at a time: two keep Postgres busy while one is on its way. */
  readonly #lanes = Array.from({ length: 2 }, () => ({
    waiting: 0,
    batches: new Batcher<WantedDownload, FoundDownload | undefined>(
      (_lane, wanted) => findEach(this.#database, wanted),
      MAX_TOGETHER,
    ),
  }));

  constructor(handle: DatabaseHandle) {
    this.#handle = handle;
    this.#search = new AssetSearch(handle);
    this.#database = handle.database;
  }

  /** A visible asset that is there for the caller, in the trash or not; with what he is to it. */
  async find(caller: Caller, id: string): Promise<FoundAsset | undefined> {
    const { rows } = await this.#database.run(findAsset, { id, ...accessOf(caller) });
    const [row] = rows;
    const role = row && roleAt(row.rank);
    if (!role) return undefined;
    const { isHeld: isKept, downloadCount, lastDownloadedAt } = row;
    return { ...toAsset(row), role, isHeld: isKept, downloadCount, ...(lastDownloadedAt && { lastDownloadedAt }) };
  }

  /**
   * Finds an asset that may be downloaded (ready, not in the trash) and records the download, in one statement.
   * @param counts whether it is one more download of the file: a link that is issued is none, nor is a derivative
   * @returns undefined when there is none; `find` tells why
   */
  async findForDownload(
    caller: Caller,
    id: string,
    action: AuditAction,
    actor: Actor,
    detail: Record<string, unknown>,
    counts = false,
  ): Promise<Asset | undefined> {
    const found = await this.findWanted({ id, access: accessOf(caller), actor, action, detail, counts });
    return found?.served ? found.asset : undefined;
  }

  /**
   * Finds what somebody wants to have, and records it if it is served. Whoever asks at the same time shares the statement.
   * @returns undefined when there is no such asset for the caller
   */
  async findWanted(wanted: WantedDownload): Promise<FoundDownload | undefined> {
    const lane = this.#lanes.reduce((least, each) => (each.waiting < least.waiting ? each : least));
    lane.waiting += 1;
    try {
      return await lane.batches.submit('', wanted);
    } finally {
      lane.waiting -= 1;
    }
  }

  /** The same of several things, by one statement. @returns an outcome for each, in their order */
  findAllWanted(wanted: readonly WantedDownload[]): Promise<(FoundDownload | undefined)[]> {
    return findEach(this.#database, wanted);
  }

  /**
   * Records that somebody has used a link through the service.
   * @param key of the object that it leads to
   * @param counts whether it is one more download of the file
   */
  async followLink(
    id: string,
    key: string,
    actor: Actor,
    { counts, ...detail }: { counts: boolean; range?: string },
  ): Promise<void> {
    await this.#database.run(followLink, { id, key, detail, counts, ...actor });
  }

  /**
   * One page in keyset order, of at most `limit` assets and MAX_PAGE_BYTES; see search.ts for when it has fewer.
   * @param callerId who asks
   * @returns `next` while more may follow: the last row, for the cursor of the next page
   */
  async list(query: ListQuery, callerId: string): Promise<{ assets: Asset[]; next?: Position }> {
    const { rows, next } = await this.#search.page(query, callerId);
    return { assets: rows.map(toAsset), ...(next && { next }) };
  }

  /**
   * Changes the record; the object is not touched. What is moved to another project is private there. Where it is moved to a place that another account pays for, the charge
   * moves with it, in the same transaction.
   * @param version only when the record still has this version
   * @param inTransaction what belongs into the same transaction
   * @returns undefined when there is no such asset out of the trash, or its version is another
   * @throws Problem quota-exceeded
   */
  async update(
    caller: Caller,
    id: string,
    { name, move, metadata, path, tags, visibility }: AssetChanges,
    version: number | undefined,
    actor: Actor,
    inTransaction?: WithAsset,
  ): Promise<Asset | undefined> {
    const values = {
      id,
      ...accessOf(caller),
      version: version ?? null,
      name: name ?? null,
      moves: move !== undefined,
      projectId: move?.to.projectId ?? null,
      account: null,
      metadata: metadata ?? null,
      publishes: visibility === undefined ? null : visibility === 'public',
      path: path ?? null,
      tags: tags ?? null,
      ...actor,
    };
    if (!move) return this.#change(updateAsset, values, inTransaction);
    const changeAndMove = async (transaction: Executor) => {
      await makeProject(transaction, move.to, caller, actor);
      const charged = await chargeMove(transaction, { ...values, ...move });
      if (!charged) throw new NothingMoved();
      const { rows } = await transaction.run(updateAsset, { ...values, ...charged });
      const asset = rows[0] && toAsset(rows[0]);
      if (!asset) throw new NothingMoved();
      await inTransaction?.(transaction, asset);
      return asset;
    };
    try {
      return await unlessNothingMoved(() => this.#handle.transact(changeAndMove));
    } catch (error) {
      throw orProjectHasGone(error);
    }
  }

  /**
   * Into the trash; what is there already stays as it is.
   * @param version only when the record still has this version
   * @param inTransaction what belongs into the same transaction
   * @returns false when there is no such asset
   */
  async trash(
    caller: Caller,
    id: string,
    version: number | undefined,
    actor: Actor,
    inTransaction?: (transaction: Executor) => Promise<void>,
  ): Promise<boolean> {
    const values = { id, version: version ?? null, ...accessOf(caller), ...actor };
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
    caller: Caller,
    id: string,
    version: number | undefined,
    actor: Actor,
    inTransaction?: WithAsset,
  ): Promise<Asset | undefined> {
    return this.#change(restoreAsset, { id, version: version ?? null, ...accessOf(caller), ...actor }, inTransaction);
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

/** So that a transaction in which a project was made for an asset that is not there is not committed. */
class NothingMoved extends Error {}

async function unlessNothingMoved<Moved>(move: () => Promise<Moved>): Promise<Moved | undefined> {
  try {
    return await move();
  } catch (error) {
    if (error instanceof NothingMoved) return undefined;
    throw error;
  }
}
