/**
 * The life of an upload in the database: begin, extend, settle or end. Each is one statement, or one short transaction
 * where a job or an answer belongs to it; each is guarded by the record's state, so that of two attempts only the first
 * takes effect and repeating one whose answer was lost does no harm.
 *
 * An upload whose bytes are all there and checked is sealed, before the object is made whole: the record then says what
 * the object must be, so that whoever finds the upload abandoned can finish it.
 */

import type { Asset } from '../assets/asset.ts';
import { assetReady } from '../assets/events.ts';
import { deleteObjectJob } from '../assets/jobs/delete-object.ts';
import type { Actor } from '../database/audit.ts';
import { type DatabaseHandle, type Executor, sqlState } from '../database/client.ts';
import type { Outbox } from '../database/outbox.ts';
import { retryStatement } from '../database/retry.ts';
import { sql } from '../database/sql.ts';
import { type AssetRow, assetColumns, auditFrom, reserve, toAsset } from '../database/sql-pieces.ts';

const UNIQUE_VIOLATION = '23505';
/** How long a lost connection is borne before bytes are stored, and after; milliseconds. */
const PATIENCE_BEFORE = 2000;
const PATIENCE_AFTER = 15_000;
/** A request to the object store that was given up may still arrive; the job that removes bytes waits for it. Seconds. */
const LATE_REQUESTS = 5;

export interface NewUpload {
  id: string;
  ownerId: string;
  projectId?: string;
  name: string;
  objectKey: string;
  metadata: Record<string, string>;
  createdAt: Date;
}

/** What is known of the bytes once they are stored and checked. */
export interface StoredBytes {
  size: number;
  sha256: Buffer;
  mediaType: string;
  assetType: string;
  cacheControl: string;
}

/** The same of bytes that never passed through the service, so that the digest is known only if somebody named it. */
export type SettledBytes = Omit<StoredBytes, 'sha256'> & { sha256?: Buffer | undefined };

/** Something that belongs into the same transaction, such as the answer to a request that may be repeated. */
export type Also<Subject> = (transaction: Executor, subject: Subject) => Promise<void>;

/** An upload whose lease has ended. */
export interface AbandonedUpload {
  id: string;
  ownerId: string;
  objectKey: string;
  /** There when it was sealed. */
  stored?: StoredBytes;
}

export interface UploadsRepositoryOptions {
  database: DatabaseHandle;
  outbox: Outbox;
  /** Bytes, of owners for whom no limit was set. */
  defaultLimit: number;
  /** Seconds after which an upload that is not heard of counts as abandoned. */
  lease: number;
}

export class UploadsRepository {
  readonly #options: UploadsRepositoryOptions;

  constructor(options: UploadsRepositoryOptions) {
    this.#options = options;
  }

  /**
   * Reserves `size` bytes of the owner's quota and inserts the record `uploading`, with a lease.
   * @param stored what the object will be, when that is known already: the upload is sealed at once
   * @param lease seconds, when it is another one than that of uploads that are heard of all the time
   * @returns false when the quota has no room; then nothing was written
   */
  async begin(
    upload: NewUpload,
    size: number,
    { stored, also, lease }: { stored?: StoredBytes | undefined; also?: Also<string> | undefined; lease?: number } = {},
  ): Promise<boolean> {
    const { id, ownerId, projectId, name, objectKey, metadata, createdAt } = upload;
    const at = createdAt.toISOString();
    const statement = sql`
      with reserved as (${reserve(ownerId, size, this.#options.defaultLimit)})
      insert into assets (id, owner_id, project_id, name, state, object_key, metadata, created_at, updated_at, reserved_bytes,
        lease_expires_at, size, sha256, media_type, asset_type, cache_control)
      select ${id}, owner_id, ${projectId ?? null}, ${name}, 'uploading', ${objectKey}, ${JSON.stringify(metadata)}::jsonb,
        ${at}::timestamptz, ${at}::timestamptz, ${size}::bigint, ${this.#leaseEnd(lease)}, ${stored?.size ?? null}::bigint,
        ${stored?.sha256 ?? null}::bytea, ${stored?.mediaType ?? null}, ${stored?.assetType ?? null}, ${stored?.cacheControl ?? null}
      from reserved`;
    return retryStatement(PATIENCE_BEFORE, async (attempt) => {
      try {
        return await this.#run(also, async (executor) => {
          const begun = (await executor.execute(statement, 'begin-upload')).rowCount === 1;
          if (begun) await also?.(executor, id);
          return begun;
        });
      } catch (error) {
        // The first attempt took effect and only its answer was lost.
        if (attempt > 1 && sqlState(error) === UNIQUE_VIOLATION) return true;
        throw error;
      }
    });
  }

  /**
   * Raises the reservation to `total` bytes and renews the lease. The total, not the step, is named: so it may be repeated.
   * @param stored what the object will be: the upload is sealed
   * @returns 'no-room' when the quota has no room, 'ended' when the upload was ended by somebody else
   */
  async extend(id: string, total: number, stored?: StoredBytes): Promise<'extended' | 'no-room' | 'ended'> {
    const seal = stored
      ? sql`, size = ${stored.size}::bigint, sha256 = ${stored.sha256}, media_type = ${stored.mediaType},
          asset_type = ${stored.assetType}, cache_control = ${stored.cacheControl}`
      : sql``;
    const { rows } = await retryStatement(PATIENCE_BEFORE, () =>
      this.#database.execute<{ live: boolean; extended: boolean }>(
        sql`
        with live as (
          select id, owner_id, greatest(${total}::bigint - reserved_bytes, 0) as step from assets
          where id = ${id} and state = 'uploading' for update
        ), granted as (
          update quotas set reserved_bytes = reserved_bytes + step from live
          where quotas.owner_id = live.owner_id
            and (step = 0 or used_bytes + reserved_bytes + step <= coalesce(limit_bytes, ${this.#options.defaultLimit}::bigint))
          returning live.id, step
        ), extended as (
          update assets set reserved_bytes = reserved_bytes + step, lease_expires_at = ${this.#leaseEnd()}${seal}
          from granted where assets.id = granted.id returning assets.id
        )
        select exists (select from live) as live, exists (select from extended) as extended`,
        stored ? 'seal-upload' : 'extend-upload',
      ),
    );
    if (rows[0]?.extended) return 'extended';
    return rows[0]?.live ? 'no-room' : 'ended';
  }

  /** Says that the upload lives. An upload that was ended stays so. */
  async renew(id: string): Promise<void> {
    await this.#database.execute(
      sql`update assets set lease_expires_at = ${this.#leaseEnd()} where id = ${id} and state = 'uploading'`,
      'renew-upload',
    );
  }

  /**
   * Makes the upload an asset, `ready` or `processing`: the reservation becomes use, an audit row is written. If it is one already,
   * because an earlier answer was lost or the reaper finished the upload, that is the answer.
   * @returns undefined when the upload was ended by somebody else
   */
  async settle(
    id: string,
    stored: SettledBytes,
    actor: Actor,
    also?: Also<Asset>,
    state: 'ready' | 'processing' = 'ready',
  ): Promise<Asset | undefined> {
    const { size, sha256, mediaType, assetType, cacheControl } = stored;
    const { outbox } = this.#options;
    const isHeard = state === 'ready' && outbox.hasSubscribers(assetReady);
    const statement = sql`
      with upload as (
        select id, owner_id, reserved_bytes from assets where id = ${id} and state = 'uploading' for update
      ), settled as (
        update assets set state = ${state}, size = ${size}::bigint, sha256 = ${sha256 ?? null}::bytea, media_type = ${mediaType},
          asset_type = ${assetType}, cache_control = ${cacheControl}, reserved_bytes = 0, lease_expires_at = null, updated_at = now()
        from upload where assets.id = upload.id
        returning assets.*
      ), counted as (
        update quotas set used_bytes = used_bytes + ${size}::bigint, reserved_bytes = quotas.reserved_bytes - upload.reserved_bytes,
          file_count = file_count + 1
        from upload where quotas.owner_id = upload.owner_id
      ), audit as (
        ${auditFrom('settled', 'asset.uploaded', actor, sql`jsonb_build_object('name', name, 'size', size, 'mediaType', media_type)`)}
      )
      select ${assetColumns} from settled`;
    return retryStatement(PATIENCE_AFTER, async () => {
      const settled = await this.#run(also ?? isHeard, async (executor) => {
        const { rows } = await executor.execute<AssetRow>(statement, 'settle-upload');
        const asset = rows[0] && toAsset(rows[0]);
        if (asset) await also?.(executor, asset);
        if (asset && isHeard) await outbox.publish(executor, assetReady, { assetId: id, ownerId: asset.ownerId });
        return asset;
      });
      if (settled) return settled;
      const seen = await this.#database.execute<AssetRow>(
        sql`select ${assetColumns} from assets where id = ${id} and state in ('processing', 'ready', 'rejected', 'lost')`,
      );
      return seen.rows[0] && toAsset(seen.rows[0]);
    });
  }

  /** Ends an upload that never touched the object store: no record, no reservation; one audit row. */
  async remove(id: string, outcome: EndedUpload): Promise<void> {
    await retryStatement(PATIENCE_BEFORE, () =>
      this.#database.execute(sql`
        with ended as (
          delete from assets where id = ${id} and state = 'uploading' returning id, owner_id, name, reserved_bytes
        ), released as (
          update quotas set reserved_bytes = quotas.reserved_bytes - ended.reserved_bytes from ended where quotas.owner_id = ended.owner_id
        )
        ${auditFrom('ended', outcome.action, outcome.actor, sql`jsonb_build_object('name', name, 'reason', ${outcome.reason}::text)`)}`),
    );
  }

  /**
   * Ends an upload of which something may be in the object store: the reservation is released, and from here on nobody
   * can make it an asset any more. Only then may its bytes be removed, by the job that is enqueued or sooner.
   * @returns whether the upload is ended; false when it became an asset, is ended already, or, where that was asked, lives
   */
  async markForDeletion(
    id: string,
    outcome: EndedUpload,
    { onlyAbandoned = false, also }: { onlyAbandoned?: boolean; also?: (transaction: Executor) => Promise<void> } = {},
  ): Promise<boolean> {
    const { database, outbox } = this.#options;
    return retryStatement(PATIENCE_BEFORE, () =>
      database.transact(async (transaction) => {
        await also?.(transaction);
        const { rows } = await transaction.execute<{ id: string }>(sql`
          with upload as (
            select id, owner_id, name, reserved_bytes from assets
            where id = ${id} and state = 'uploading' ${onlyAbandoned ? sql`and lease_expires_at < now()` : sql``} for update
          ), ended as (
            update assets set state = 'deleting', reserved_bytes = 0, lease_expires_at = null, updated_at = now()
            from upload where assets.id = upload.id
          ), released as (
            update quotas set reserved_bytes = quotas.reserved_bytes - upload.reserved_bytes from upload where quotas.owner_id = upload.owner_id
          ), audit as (
            ${auditFrom('upload', outcome.action, outcome.actor, sql`jsonb_build_object('name', name, 'reason', ${outcome.reason}::text)`)}
          )
          select id from upload`);
        if (rows.length === 0) return false;
        await outbox.send(transaction, deleteObjectJob, { assetId: id }, { startAfter: LATE_REQUESTS });
        return true;
      }),
    );
  }

  /** Removes the record of an ended upload or a deleted asset, once its bytes are gone. */
  async forget(id: string): Promise<void> {
    await this.#database.execute(sql`delete from assets where id = ${id} and state = 'deleting'`);
  }

  /** Uploads whose lease has ended, oldest first. */
  async abandoned(limit: number): Promise<AbandonedUpload[]> {
    const { rows } = await this.#database.execute<{
      id: string;
      owner_id: string;
      object_key: string;
      size: string | null;
      sha256: Buffer | null;
      media_type: string | null;
      asset_type: string | null;
      cache_control: string | null;
    }>(sql`select id, owner_id, object_key, size, sha256, media_type, asset_type, cache_control from assets
      where state = 'uploading' and lease_expires_at < now() order by lease_expires_at limit ${limit}`);
    return rows.map((row) => {
      const { size, sha256, media_type: mediaType, asset_type: assetType, cache_control: cacheControl } = row;
      const upload = { id: row.id, ownerId: row.owner_id, objectKey: row.object_key };
      if (size === null || !sha256 || mediaType === null || assetType === null || cacheControl === null) return upload;
      return { ...upload, stored: { size: Number(size), sha256, mediaType, assetType, cacheControl } };
    });
  }

  /** What became of an upload: still running (or to be settled by the reaper), gone, or the asset it is now. */
  async fate(id: string): Promise<'running' | 'gone' | Asset> {
    const { rows } = await this.#database.execute<AssetRow>(
      sql`select ${assetColumns} from assets where id = ${id} and state <> 'deleting'`,
    );
    const [row] = rows;
    if (!row) return 'gone';
    return row.state === 'uploading' ? 'running' : toAsset(row);
  }

  get #database() {
    return this.#options.database.database;
  }

  #leaseEnd(seconds = this.#options.lease) {
    return sql`now() + make_interval(secs => ${seconds})`;
  }

  /** In a transaction when something else belongs to it. */
  #run<Result>(also: unknown, work: (executor: Executor) => Promise<Result>): Promise<Result> {
    const { database } = this.#options;
    return also ? database.transact(work) : work(database.database);
  }
}

export interface EndedUpload {
  action: 'upload.refused' | 'upload.aborted';
  reason: string;
  actor: Actor;
}
