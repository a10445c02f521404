/**
 * The catalogue of assets in SQL. Every statement names the owner, so a foreign asset is never even read. A change of
 * state is one statement, guarded by the state it starts from, with its audit row inside.
 */
import { type SQL, sql } from 'drizzle-orm';
import { type Actor, type AuditAction, auditFrom } from '../database/audit.ts';
import type { Database } from '../database/client.ts';
import { type Asset, type AssetRow, assetColumns, toAsset } from './asset.ts';

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

export class AssetsRepository {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** A visible asset of this owner, in the trash or not. */
  async find(ownerId: string, id: string): Promise<Asset | undefined> {
    return this.#one(sql`select ${assetColumns} from assets where id = ${id} and owner_id = ${ownerId} and ${visible}`);
  }

  /**
   * Finds an asset that may be handed out (ready, not in the trash) and records the hand-out, in one statement.
   * @returns undefined when there is none; `find` tells why
   */
  async handOut(
    ownerId: string,
    id: string,
    action: AuditAction,
    actor: Actor,
    detail: Record<string, unknown>,
  ): Promise<Asset | undefined> {
    return this.#one(sql`
      with asset as (
        select * from assets where id = ${id} and owner_id = ${ownerId} and state = 'ready' and trashed_at is null
      ), audit as (
        ${auditFrom('asset', action, actor, sql`${JSON.stringify(detail)}::jsonb`)}
      )
      select ${assetColumns} from asset`);
  }

  /** One page in keyset order. `value` is what the sort compared, for the cursor of the next page. */
  async list(query: ListQuery): Promise<{ asset: Asset; value: string }[]> {
    const { rows } = await this.#database.execute<AssetRow & { sort_value: string }>(listStatement(query));
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
          ${version === undefined ? sql`` : sql`and version = ${version}`}
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

  /** Into the trash. @returns undefined when there is no such asset out of the trash */
  async trash(ownerId: string, id: string, actor: Actor): Promise<Asset | undefined> {
    return this.#one(sql`
      with changed as (
        update assets set trashed_at = now(), updated_at = now(), version = version + 1
        where id = ${id} and owner_id = ${ownerId} and ${visible} and trashed_at is null
        returning *
      ), audit as (${auditFrom('changed', 'asset.trashed', actor)})
      select ${assetColumns} from changed`);
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
   * stays until the object is gone.
   * @returns false when there is no such asset (any more)
   */
  async delete(ownerId: string, id: string, actor: Actor): Promise<boolean> {
    const { rows } = await this.#database.execute(sql`
      with changed as (
        update assets set state = 'deleting', updated_at = now(), version = version + 1
        where id = ${id} and owner_id = ${ownerId} and ${visible}
        returning *
      ), freed as (
        update quotas set used_bytes = used_bytes - changed.size, file_count = file_count - 1
        from changed where quotas.owner_id = changed.owner_id
      ), audit as (
        ${auditFrom('changed', 'asset.deleted', actor, sql`jsonb_build_object('name', name, 'size', size)`)}
      )
      select id from changed`);
    return rows.length === 1;
  }

  /** Records whose object has yet to be deleted, oldest first. */
  async deleting(limit: number): Promise<{ id: string; objectKey: string }[]> {
    const { rows } = await this.#database.execute<{ id: string; object_key: string }>(
      sql`select id, object_key from assets where state = 'deleting' order by updated_at limit ${limit}`,
    );
    return rows.map((row) => ({ id: row.id, objectKey: row.object_key }));
  }

  async countDeleting(): Promise<number> {
    const { rows } = await this.#database.execute<{ count: string }>(
      sql`select count(*) from assets where state = 'deleting'`,
    );
    return Number(rows[0]?.count ?? 0);
  }

  /** Removes the record of a deleted asset, once its object is gone. */
  async forget(id: string): Promise<void> {
    await this.#database.execute(sql`delete from assets where id = ${id} and state = 'deleting'`);
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

  async #one(statement: SQL): Promise<Asset | undefined> {
    const { rows } = await this.#database.execute<AssetRow>(statement);
    return rows[0] && toAsset(rows[0]);
  }
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
    order by ${expression} ${direction}, id ${direction} limit ${query.limit}`;
}
