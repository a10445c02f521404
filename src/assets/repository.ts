/**
 * The catalogue of assets in SQL. Every statement names the owner, so a foreign asset is never even read. A change of
 * state is one statement, guarded by the state it starts from, with its audit row inside.
 */

import type { Actor, AuditAction } from '../database/audit.ts';
import type { Database, DatabaseHandle, Executor } from '../database/client.ts';
import type { Outbox } from '../database/outbox.ts';
import { retryStatement } from '../database/retry.ts';
import { type SQL, sql } from '../database/sql.ts';
import { type AssetRow, assetColumns, auditFrom, toAsset } from '../database/sql-pieces.ts';
import type { Asset } from './asset.ts';
import { deleteObjectJob } from './jobs/delete-object.ts';

/** Written out, not a parameter: the planner takes the partial indexes only when it sees the states. */
const visible = sql.raw(`state in ('processing', 'ready', 'rejected', 'lost')`);

export type SortField = 'createdAt' | 'name' | 'size';

export interface ListQuery {
  ownerId: string;
  projectId?: string;
  assetType?: string;
  /** Exact, or a whole family such as `image/*`. */
  mediaType?: string;
  state?: string;
  /** Begins with, upper and lower case alike. */
  name?: string;
  trashed: boolean;
  sort: SortField;
  order: 'asc' | 'desc';
  /** Last row of the page before. */
  after?: { value: string; id: string };
  limit: number;
}

/** What each sort compares, and the type of its value in a cursor. */
const sortKeys: Record<SortField, { expression: SQL; type: SQL }> = {
  createdAt: { expression: sql.raw('created_at'), type: sql.raw('timestamptz') },
  name: { expression: sql.raw('lower(name) collate "C"'), type: sql.raw('text collate "C"') },
  size: { expression: sql.raw('size'), type: sql.raw('bigint') },
};

export interface AssetChanges {
  name?: string;
  /** null takes the asset out of its project. */
  projectId?: string | null;
  metadata?: Record<string, string>;
}

export interface StatisticsRow {
  dimension: 'assetType' | 'mediaType' | 'project' | 'day';
  value: string | null;
  count: number;
  bytes: number;
}

/** How long a database that is away is borne where the outcome of a commit may be unknown. Milliseconds. */
const DELETION_PATIENCE = 2000;

export class AssetsRepository {
  readonly #handle: DatabaseHandle;
  readonly #database: Database;
  readonly #outbox: Outbox;

  constructor(handle: DatabaseHandle, outbox: Outbox) {
    this.#handle = handle;
    this.#database = handle.database;
    this.#outbox = outbox;
  }

  /** A visible asset of this owner, in the trash or not. */
  async find(ownerId: string, id: string): Promise<Asset | undefined> {
    return this.#one(
      sql`select ${assetColumns} from assets where id = ${id} and owner_id = ${ownerId} and ${visible}`,
      'find-asset',
    );
  }

  /**
   * Finds an asset that may be handed out (ready, not in the trash) and records the hand-out, in one statement.
   * @returns undefined when there is none; `find` tells why
   */
  async findForDownload(
    ownerId: string,
    id: string,
    action: AuditAction,
    actor: Actor,
    detail: Record<string, unknown>,
  ): Promise<Asset | undefined> {
    return this.#one(
      sql`
      with asset as (
        select * from assets where id = ${id} and owner_id = ${ownerId} and state = 'ready' and trashed_at is null
      ), audit as (
        ${auditFrom('asset', action, actor, sql`${JSON.stringify(detail)}::jsonb`)}
      )
      select ${assetColumns} from asset`,
      'hand-out-asset',
    );
  }

  /** One page in keyset order. `value` is what the sort compared, for the cursor of the next page. */
  async list(query: ListQuery): Promise<{ asset: Asset; value: string }[]> {
    const { rows } = await this.#database.execute<AssetRow & { sort_value: string }>(
      listStatement(query),
      listName(query),
    );
    return rows.map((row) => ({ asset: toAsset(row), value: row.sort_value }));
  }

  /**
   * Changes the record; the object is not touched.
   * @param version only when the record still has this version
   * @returns undefined when there is no such asset out of the trash, or its version is another
   */
  async update(
    ownerId: string,
    id: string,
    changes: AssetChanges,
    version: number | undefined,
    actor: Actor,
  ): Promise<Asset | undefined> {
    const { name, projectId, metadata } = changes;
    return this.#one(sql`
      with previous as (
        select id, name, project_id from assets
        where id = ${id} and owner_id = ${ownerId} and ${visible} and trashed_at is null
          ${ofVersion(version)}
        for update
      ), changed as (
        update assets set version = version + 1, updated_at = now()
          ${name === undefined ? sql`` : sql`, name = ${name}`}
          ${projectId === undefined ? sql`` : sql`, project_id = ${projectId}`}
          ${metadata === undefined ? sql`` : sql`, metadata = ${JSON.stringify(metadata)}::jsonb`}
        from previous where assets.id = previous.id
        returning assets.*, previous.name as previous_name, previous.project_id as previous_project
      ), audit as (
        ${auditFrom('changed', 'asset.updated', actor, sql`jsonb_strip_nulls(jsonb_build_object('name', name, 'previousName', nullif(previous_name, name), 'projectId', project_id, 'previousProjectId', previous_project))`)}
      )
      select ${assetColumns} from changed`);
  }

  /**
   * Into the trash; what is there already stays as it is.
   * @param version only when the record still has this version
   * @param also what belongs into the same transaction
   * @returns false when there is no such asset
   */
  async trash(
    ownerId: string,
    id: string,
    version: number | undefined,
    actor: Actor,
    also: (transaction: Executor) => Promise<void>,
  ): Promise<boolean> {
    const statement = sql`
      with changed as (
        update assets set trashed_at = now(), updated_at = now(), version = version + 1
        where id = ${id} and owner_id = ${ownerId} and ${visible} and trashed_at is null${ofVersion(version)}
        returning *
      ), audit as (${auditFrom('changed', 'asset.trashed', actor)})
      select id from assets where id = ${id} and owner_id = ${ownerId} and ${visible}
        and (trashed_at is not null or exists (select from changed))`;
    return retryStatement(DELETION_PATIENCE, () =>
      this.#handle.transact(async (transaction) => {
        const { rows } = await transaction.execute(statement);
        if (rows.length > 0) await also(transaction);
        return rows.length > 0;
      }),
    );
  }

  /** Out of the trash. @returns undefined when there is no such asset in the trash */
  async restore(ownerId: string, id: string, actor: Actor): Promise<Asset | undefined> {
    return this.#one(sql`
      with changed as (
        update assets set trashed_at = null, updated_at = now(), version = version + 1
        where id = ${id} and owner_id = ${ownerId} and ${visible} and trashed_at is not null
        returning *
      ), audit as (${auditFrom('changed', 'asset.restored', actor)})
      select ${assetColumns} from changed`);
  }

  /**
   * Marks the asset for deletion, from the trash or not: from here on nobody sees it, and its quota is free. The row
   * stays until a job, enqueued in the same transaction, has removed the bytes.
   * @param version only when the record still has this version
   * @param also what belongs into the same transaction
   * @returns false when there is no such asset (any more)
   */
  async delete(
    ownerId: string,
    id: string,
    version: number | undefined,
    actor: Actor,
    also?: (transaction: Executor) => Promise<void>,
  ): Promise<boolean> {
    const condition = sql`id = ${id} and owner_id = ${ownerId}${ofVersion(version)}`;
    const deleted = await retryStatement(DELETION_PATIENCE, (attempt) =>
      this.#handle.transact(async (transaction) => {
        const { rows } = await transaction.execute(deletion(condition, 'asset.deleted', actor));
        if (rows.length > 0) await this.#outbox.send(transaction, deleteObjectJob, { assetId: id });
        // An earlier commit took effect and only its answer was lost.
        else if (attempt === 1) return false;
        await also?.(transaction);
        return true;
      }),
    );
    if (deleted) this.#outbox.wake(deleteObjectJob);
    return deleted;
  }

  /** Deletes for good what has been in the trash since before `cutoff`, at most `limit` assets. @returns how many */
  async purgeTrash(cutoff: Date, limit: number, actor: Actor, fence: Fence): Promise<number> {
    const expired = sql`id in (
      select id from assets where ${visible} and trashed_at < ${cutoff.toISOString()}::timestamptz
      order by trashed_at limit ${limit} for update skip locked)`;
    return this.#deleteBatch(expired, 'asset.purged', actor, fence);
  }

  /**
   * Deletes for good assets of a type that were made before `cutoff`, at most `limit` of them. Ids are made of the time
   * (UUIDv7), so the primary key finds the oldest.
   * @param after where the last batch ended
   * @returns how many were looked at and deleted, and where to go on
   */
  async expire(
    { assetType, cutoff, after, limit }: { assetType: string; cutoff: Date; after: string; limit: number },
    actor: Actor,
    fence: Fence,
  ): Promise<{ looked: number; deleted: number; last: string }> {
    const { rows } = await this.#database.execute<{ id: string; matches: boolean }>(sql`
      select id, (${visible} and asset_type = ${assetType} and created_at < ${cutoff.toISOString()}::timestamptz) as matches
      from assets where id > ${after}::uuid and id < ${firstIdAt(cutoff)}::uuid order by id limit ${limit}`);
    const ids = rows.filter(({ matches }) => matches).map(({ id }) => id);
    const condition = sql`id in (select id from assets where id = any(${ids}::uuid[]) and asset_type = ${assetType} for update skip locked)`;
    const deleted = ids.length === 0 ? 0 : await this.#deleteBatch(condition, 'asset.expired', actor, fence);
    return { looked: rows.length, deleted, last: rows.at(-1)?.id ?? after };
  }

  async #deleteBatch(condition: SQL, action: AuditAction, actor: Actor, fence: Fence): Promise<number> {
    return this.#handle.transact(async (transaction) => {
      await fence(transaction);
      const { rows } = await transaction.execute<{ id: string }>(deletion(condition, action, actor));
      await this.#outbox.sendAll(
        transaction,
        deleteObjectJob,
        rows.map(({ id }) => ({ assetId: id })),
      );
      return rows.length;
    });
  }

  /** Where the bytes of a record are that are to be removed. */
  async findDeleting(id: string): Promise<{ objectKey: string } | undefined> {
    const { rows } = await this.#database.execute<{ object_key: string }>(
      sql`select object_key from assets where id = ${id} and state = 'deleting'`,
    );
    return rows[0] && { objectKey: rows[0].object_key };
  }

  /** Removes the record of a deleted asset, once its bytes are gone. */
  async forget(id: string, fence: Fence): Promise<void> {
    await this.#handle.transact(async (transaction) => {
      await fence(transaction);
      await transaction.execute(sql`delete from assets where id = ${id} and state = 'deleting'`);
    });
  }

  /** Count and bytes of all visible assets of the owner, by each dimension; days are those of the last 30, in UTC. */
  async statistics(ownerId: string): Promise<StatisticsRow[]> {
    const { rows } = await this.#database.execute<{
      dimension: StatisticsRow['dimension'];
      value: string | null;
      count: string;
      bytes: string;
    }>(sql`
      with counted as (
        select asset_type, media_type, project_id, size, to_char(created_at at time zone 'UTC', 'YYYY-MM-DD') as day
        from assets where owner_id = ${ownerId} and ${visible}
      )
      select case when grouping(asset_type) = 0 then 'assetType' when grouping(media_type) = 0 then 'mediaType'
          when grouping(project_id) = 0 then 'project' else 'day' end as dimension,
        coalesce(asset_type, media_type, project_id, day) as value, count(*) as count, sum(size) as bytes
      from counted group by grouping sets (asset_type, media_type, project_id, day)
      having grouping(day) = 1 or day > to_char((now() at time zone 'UTC') - interval '30 days', 'YYYY-MM-DD')
      order by 1, 2`);
    return rows.map(({ dimension, value, count, bytes }) => ({
      dimension,
      value,
      count: Number(count),
      bytes: Number(bytes),
    }));
  }

  async #one(statement: SQL, name?: string): Promise<Asset | undefined> {
    const { rows } = await this.#database.execute<AssetRow>(statement, name);
    return rows[0] && toAsset(rows[0]);
  }
}

const ofVersion = (version: number | undefined): SQL =>
  version === undefined ? sql`` : sql` and version = ${version}`;

/** Called first in a transaction of a job; see JobContext. */
type Fence = (transaction: Executor) => Promise<void>;

/** Marks visible assets for deletion, frees their quota, and writes an audit row for each. */
function deletion(condition: SQL, action: AuditAction, actor: Actor): SQL {
  return sql`
    with changed as (
      update assets set state = 'deleting', updated_at = now(), version = version + 1
      where ${visible} and ${condition}
      returning *
    ), freed as (
      update quotas set used_bytes = used_bytes - gone.bytes, file_count = file_count - gone.files
      from (select owner_id, sum(size) as bytes, count(*) as files from changed group by owner_id) as gone
      where quotas.owner_id = gone.owner_id
    ), audit as (
      ${auditFrom('changed', action, actor, sql`jsonb_build_object('name', name, 'size', size)`)}
    )
    select id from changed`;
}

/** The smallest UUIDv7 of a moment (RFC 9562 section 5.7). */
function firstIdAt(moment: Date): string {
  const time = Math.max(0, moment.getTime()).toString(16).padStart(12, '0');
  return `${time.slice(0, 8)}-${time.slice(8)}-0000-0000-000000000000`;
}

/** The statement of a list page; public so that a test can EXPLAIN it. */
export function listStatement(query: ListQuery): SQL {
  const { expression, type } = sortKeys[query.sort];
  const direction = sql.raw(query.order);
  const conditions = [
    sql`owner_id = ${query.ownerId}`,
    visible,
    sql.raw(`trashed_at is ${query.trashed ? 'not null' : 'null'}`),
  ];
  if (query.projectId !== undefined) conditions.push(sql`project_id = ${query.projectId}`);
  if (query.assetType !== undefined) conditions.push(sql`asset_type = ${query.assetType}`);
  if (query.state !== undefined) conditions.push(sql`state = ${query.state}`);
  if (query.mediaType?.endsWith('/*')) {
    // '/' and '0' are neighbours in ASCII: between them lies the whole family.
    const family = query.mediaType.slice(0, -2);
    conditions.push(sql`media_type collate "C" > ${`${family}/`} and media_type collate "C" < ${`${family}0`}`);
  } else if (query.mediaType !== undefined) conditions.push(sql`media_type = ${query.mediaType}`);
  if (query.name !== undefined) {
    const lowest = sql`lower(${query.name}::text) collate "C"`;
    conditions.push(sql`lower(name) collate "C" >= ${lowest} and lower(name) collate "C" < ${lowest} || chr(1114111)`);
  }
  if (query.after) {
    const comparison = sql.raw(query.order === 'asc' ? '>' : '<');
    conditions.push(sql`(${expression}, id) ${comparison} (${query.after.value}::${type}, ${query.after.id}::uuid)`);
  }
  return sql`select ${assetColumns}, (${expression})::text as sort_value from assets
    where ${sql.join(conditions, sql` and `)}
    order by ${expression} ${direction}, id ${direction} limit ${isUsual(query) ? sql.raw(String(USUAL_LIMIT)) : query.limit}`;
}

/** A page of 50, and the one more that tells whether others follow. */
const USUAL_LIMIT = 51;

/**
 * What nearly all pages are. Such a statement is prepared, which makes lists half as fast again: its limit is written
 * out, so the plan that serves every owner is the one over the index of its order. With filters the best plan depends on
 * the values, and there would be too many statements.
 */
function isUsual({ limit, projectId, assetType, mediaType, state, name }: ListQuery): boolean {
  const filters = [projectId, assetType, mediaType, state, name];
  return limit === USUAL_LIMIT && filters.every((filter) => filter === undefined);
}

function listName(query: ListQuery): string | undefined {
  if (!isUsual(query)) return undefined;
  const { sort, order, trashed, after } = query;
  return `list-${sort}-${order}${trashed ? '-trashed' : ''}${after ? '-after' : ''}`;
}
