/** What a reconciliation asks of the database: the listing of the object store against the records, and the quotas. */

import { deleteObjectJob } from '../assets/jobs/delete-object.ts';
import type { Actor, AuditAction } from '../database/audit.ts';
import type { DatabaseHandle, Executor } from '../database/client.ts';
import type { Outbox } from '../database/outbox.ts';
import { type SQL, sql } from '../database/sql.ts';
import { auditFrom } from '../database/sql-pieces.ts';
import type { ListedObject } from '../storage/object-store.ts';

const visible = sql.raw(`state in ('processing', 'ready', 'rejected', 'lost')`);

export interface StoredRecord {
  id: string;
  objectKey: string;
  size: number;
  sha256?: Buffer;
}

export interface LastRun {
  finishedAt: Date;
  outcome: string;
  report: Record<string, number>;
}

export class ReconciliationRepository {
  readonly #handle: DatabaseHandle;
  readonly #outbox: Outbox;

  constructor(handle: DatabaseHandle, outbox: Outbox) {
    this.#handle = handle;
    this.#outbox = outbox;
  }

  /** Begins a run; what a run that died has left of its listing goes. */
  async begin(runId: string, dryRun: boolean): Promise<void> {
    await this.#execute(sql`truncate reconcile_objects`);
    await this.#execute(sql`
      insert into reconcile_runs (id, started_at, dry_run, outcome) values (${runId}, now(), ${dryRun}, 'running')`);
  }

  async end(runId: string, outcome: string, report: object): Promise<void> {
    await this.#execute(sql`
      update reconcile_runs set finished_at = now(), outcome = ${outcome}, report = ${JSON.stringify(report)}::jsonb where id = ${runId}`);
    await this.#execute(sql`delete from reconcile_objects where run_id = ${runId}`);
    await this.#execute(sql`delete from reconcile_runs where started_at < now() - interval '90 days'`);
  }

  async lastRun(): Promise<LastRun | undefined> {
    const { rows } = await this.#execute<{ finished_at: string; outcome: string; report: Record<string, number> }>(sql`
      select finished_at::text as finished_at, outcome, report from reconcile_runs
      where finished_at is not null and outcome <> 'failed' order by finished_at desc limit 1`);
    return rows[0] && { ...rows[0], finishedAt: new Date(rows[0].finished_at) };
  }

  /** Writes down a page of the listing. */
  async note(runId: string, objects: (ListedObject & { assetId: string })[]): Promise<void> {
    if (objects.length === 0) return;
    await this.#execute(sql`
      insert into reconcile_objects (run_id, key, asset_id, size, last_modified)
      select ${runId}::uuid, * from unnest(${objects.map(({ key }) => key)}::text[],
        ${objects.map(({ assetId }) => assetId)}::uuid[], ${objects.map(({ size }) => size)}::bigint[],
        ${objects.map(({ lastModified }) => lastModified.toISOString())}::timestamptz[])
      on conflict do nothing`);
  }

  async analyze(): Promise<void> {
    await this.#execute(sql`analyze reconcile_objects`);
  }

  /** Objects without a record, last modified before `cutoff`, in the order of their keys. */
  async unaccounted(runId: string, cutoff: Date, after: string, limit: number): Promise<ListedObject[]> {
    const { rows } = await this.#execute<{ key: string; size: string; last_modified: string }>(sql`
      select key, size, last_modified::text as last_modified from reconcile_objects as object
      where run_id = ${runId} and key > ${after} and last_modified < ${cutoff.toISOString()}::timestamptz
        and not exists (select from assets where assets.id = object.asset_id)
      order by key limit ${limit}`);
    return rows.map((row) => ({ key: row.key, size: Number(row.size), lastModified: new Date(row.last_modified) }));
  }

  async countUnaccounted(runId: string, cutoff: Date): Promise<{ objects: number; bytes: number; accounted: number }> {
    const { rows } = await this.#execute<{ objects: string; bytes: string; accounted: string }>(sql`
      select count(*) filter (where missing and old) as objects, coalesce(sum(size) filter (where missing and old), 0) as bytes,
        count(*) filter (where not missing) as accounted
      from (
        select size, last_modified < ${cutoff.toISOString()}::timestamptz as old,
          not exists (select from assets where assets.id = object.asset_id) as missing
        from reconcile_objects as object where run_id = ${runId}
      ) as listed`);
    const { objects = 0, bytes = 0, accounted = 0 } = rows[0] ?? {};
    return { objects: Number(objects), bytes: Number(bytes), accounted: Number(accounted) };
  }

  /** Of these ids, those that have a record, in whatever state; or an upload in progress. */
  async withRecord(ids: string[], state?: 'uploading'): Promise<Set<string>> {
    const { rows } = await this.#execute<{ id: string }>(
      sql`select id from assets where id = any(${ids}::uuid[]) ${state ? sql`and state = ${state}` : sql``}`,
    );
    return new Set(rows.map(({ id }) => id));
  }

  /** Ready assets that the listing does not hold with their size, of those that were there before it began. */
  async missing(runId: string, before: Date, after: string, limit: number): Promise<StoredRecord[]> {
    return this.#records(sql`
      select id, object_key, size, sha256 from assets
      where state = 'ready' and created_at < ${before.toISOString()}::timestamptz and id > ${after}::uuid
        and not exists (
          select from reconcile_objects as object
          where object.run_id = ${runId} and object.key = assets.object_key and object.size = assets.size
        )
      order by id limit ${limit}`);
  }

  /** Lost assets whose object is in the listing again. */
  async reappeared(runId: string): Promise<StoredRecord[]> {
    return this.#records(sql`
      select assets.id, object_key, assets.size, sha256 from assets
      join reconcile_objects as object on object.run_id = ${runId} and object.key = assets.object_key and object.size = assets.size
      where state = 'lost'`);
  }

  /** @returns false when the asset is no longer in state `from` */
  async mark(id: string, from: 'ready' | 'lost', to: 'lost' | 'ready', actor: Actor): Promise<boolean> {
    const action: AuditAction = to === 'lost' ? 'asset.lost' : 'asset.found';
    const { rows } = await this.#execute(sql`
      with changed as (
        update assets set state = ${to}, updated_at = now(), version = version + 1
        where id = ${id} and state = ${from} returning *
      ), audit as (${auditFrom('changed', action, actor, sql`jsonb_build_object('name', name, 'size', size)`)})
      select id from changed`);
    return rows.length === 1;
  }

  async countLost(): Promise<number> {
    const { rows } = await this.#execute<{ count: string }>(
      sql`select count(*) as count from assets where state = 'lost'`,
    );
    return Number(rows[0]?.count ?? 0);
  }

  /** Deletions that stand still since before `cutoff`, whatever became of their jobs, get new ones. @returns how many */
  async resumeDeletions(cutoff: Date, dryRun: boolean): Promise<number> {
    return this.#handle.transact(async (transaction) => {
      const { rows } = await transaction.execute<{ id: string }>(sql`
        select id from assets where state = 'deleting' and updated_at < ${cutoff.toISOString()}::timestamptz
          and not exists (
            select from pgboss.job where name = 'delete-object' and state in ('created', 'retry', 'active')
              and data ->> 'assetId' = assets.id::text
          )
        limit 10000`);
      if (!dryRun)
        await this.#outbox.sendAll(
          transaction,
          deleteObjectJob,
          rows.map(({ id }) => ({ assetId: id })),
        );
      return rows.length;
    });
  }

  /** Owners whose quota is not the sum of their records. One statement sees one moment, so uploads do not disturb it. */
  async drifted(): Promise<{ ownerId: string; bytes: number }[]> {
    const { rows } = await this.#execute<{ owner_id: string; bytes: string }>(sql`
      with summed as (
        select owner_id, coalesce(sum(size) filter (where ${visible}), 0) as used,
          count(*) filter (where ${visible}) as files, coalesce(sum(reserved_bytes), 0) as reserved
        from assets group by owner_id
      )
      select owner_id, abs(coalesce(used_bytes, 0) - coalesce(used, 0)) + abs(coalesce(reserved_bytes, 0) - coalesce(reserved, 0)) as bytes
      from quotas full join summed using (owner_id)
      where coalesce(used_bytes, 0) <> coalesce(used, 0) or coalesce(reserved_bytes, 0) <> coalesce(reserved, 0)
        or coalesce(file_count, 0) <> coalesce(files, 0)`);
    return rows.map((row) => ({ ownerId: row.owner_id, bytes: Number(row.bytes) }));
  }

  /**
   * Recomputes the quota of an owner. Every change of a record changes the quota in the same transaction; so while its row
   * is locked, either both are seen or both are yet to come.
   */
  async correctQuota(ownerId: string, actor: Actor): Promise<void> {
    await this.#handle.transact(async (transaction) => {
      await transaction.execute(sql`insert into quotas (owner_id) values (${ownerId}) on conflict do nothing`);
      await transaction.execute(sql`select from quotas where owner_id = ${ownerId} for update`);
      await transaction.execute(sql`
        with summed as (
          select coalesce(sum(size) filter (where ${visible}), 0)::bigint as used,
            count(*) filter (where ${visible}) as files, coalesce(sum(reserved_bytes), 0)::bigint as reserved
          from assets where owner_id = ${ownerId}
        ), previous as (
          select used_bytes, reserved_bytes, file_count from quotas where owner_id = ${ownerId}
        ), changed as (
          update quotas set used_bytes = used, reserved_bytes = reserved, file_count = files from summed
          where owner_id = ${ownerId}
            and (used_bytes, reserved_bytes, file_count) is distinct from (used, reserved, files)
          returning owner_id, null::uuid as id, used_bytes, reserved_bytes, file_count
        )
        ${auditFrom(
          'changed',
          'quota.corrected',
          actor,
          sql`jsonb_build_object('used', used_bytes, 'reserved', reserved_bytes, 'fileCount', file_count,
            'previous', (select to_jsonb(previous) from previous))`,
        )}`);
    });
  }

  async #records(statement: SQL): Promise<StoredRecord[]> {
    const { rows } = await this.#execute<{ id: string; object_key: string; size: string; sha256: Buffer | null }>(
      statement,
    );
    return rows.map((row) => ({
      id: row.id,
      objectKey: row.object_key,
      size: Number(row.size),
      ...(row.sha256 && { sha256: row.sha256 }),
    }));
  }

  #execute<Row extends Record<string, unknown>>(statement: SQL) {
    const executor: Executor = this.#handle.database;
    return executor.execute<Row>(statement);
  }
}
