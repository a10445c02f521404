/**
 * The life of an upload in the database: begin, extend, settle or end. Each is one statement and so one transaction;
 * each is guarded by the record's state, so that of two attempts only the first takes effect and repeating one whose
 * answer was lost does no harm.
 */
import { sql } from 'drizzle-orm';
import { type Asset, type AssetRow, assetColumns, toAsset } from '../assets/asset.ts';
import { type Actor, auditFrom } from '../database/audit.ts';
import { type Database, sqlState } from '../database/client.ts';
import { retryStatement } from '../database/retry.ts';
import { reserve } from '../quotas/quotas-repository.ts';

/** An upload that is not heard of for this long counts as abandoned. Seconds. */
export const UPLOAD_LEASE = 120;
const UNIQUE_VIOLATION = '23505';
/** How long a lost connection is borne before bytes are stored, and after; milliseconds. */
const PATIENCE_BEFORE = 2000;
const PATIENCE_AFTER = 15_000;

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

export class UploadsRepository {
  readonly #database: Database;
  readonly #defaultLimit: number;

  constructor(database: Database, defaultLimit: number) {
    this.#database = database;
    this.#defaultLimit = defaultLimit;
  }

  /**
   * Reserves `size` bytes of the owner's quota and inserts the record `uploading`, with a lease.
   * @returns false when the quota has no room; then nothing was written
   */
  async begin(upload: NewUpload, size: number): Promise<boolean> {
    const { id, ownerId, projectId, name, objectKey, metadata, createdAt } = upload;
    return retryStatement(PATIENCE_BEFORE, async (attempt) => {
      try {
        const { rowCount } = await this.#database.execute(sql`
          with reserved as (${reserve(ownerId, size, this.#defaultLimit)})
          insert into assets (id, owner_id, project_id, name, state, object_key, metadata, created_at, updated_at, reserved_bytes, lease_expires_at)
          select ${id}, owner_id, ${projectId ?? null}, ${name}, 'uploading', ${objectKey}, ${JSON.stringify(metadata)}::jsonb,
            ${createdAt.toISOString()}::timestamptz, ${createdAt.toISOString()}::timestamptz, ${size}::bigint, now() + make_interval(secs => ${UPLOAD_LEASE})
          from reserved`);
        return rowCount === 1;
      } catch (error) {
        // The first attempt took effect and only its answer was lost.
        if (attempt > 1 && sqlState(error) === UNIQUE_VIOLATION) return true;
        throw error;
      }
    });
  }

  /**
   * Raises the reservation to `total` bytes and renews the lease. The total, not the step, is named: so it may be repeated.
   * @returns 'no-room' when the quota has no room, 'ended' when the upload was ended by somebody else
   */
  async extend(id: string, total: number): Promise<'extended' | 'no-room' | 'ended'> {
    const { rows } = await retryStatement(PATIENCE_BEFORE, () =>
      this.#database.execute<{ live: boolean; extended: boolean }>(sql`
        with live as (
          select id, owner_id, greatest(${total}::bigint - reserved_bytes, 0) as step from assets
          where id = ${id} and state = 'uploading' for update
        ), granted as (
          update quotas set reserved_bytes = reserved_bytes + step from live
          where quotas.owner_id = live.owner_id
            and (step = 0 or used_bytes + reserved_bytes + step <= coalesce(limit_bytes, ${this.#defaultLimit}::bigint))
          returning live.id, step
        ), extended as (
          update assets set reserved_bytes = reserved_bytes + step, lease_expires_at = now() + make_interval(secs => ${UPLOAD_LEASE})
          from granted where assets.id = granted.id returning assets.id
        )
        select exists (select from live) as live, exists (select from extended) as extended`),
    );
    if (rows[0]?.extended) return 'extended';
    return rows[0]?.live ? 'no-room' : 'ended';
  }

  /**
   * Makes the upload a `ready` asset: the reservation becomes use, an audit row is written.
   * @returns undefined when the upload was ended by somebody else
   */
  async settle(id: string, stored: StoredBytes, actor: Actor): Promise<Asset | undefined> {
    const { size, sha256, mediaType, assetType, cacheControl } = stored;
    return retryStatement(PATIENCE_AFTER, async (attempt) => {
      const { rows } = await this.#database.execute<AssetRow>(sql`
        with upload as (
          select id, owner_id, reserved_bytes from assets where id = ${id} and state = 'uploading' for update
        ), settled as (
          update assets set state = 'ready', size = ${size}::bigint, sha256 = ${sha256}, media_type = ${mediaType},
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
        select ${assetColumns} from settled`);
      if (rows[0]) return toAsset(rows[0]);
      if (attempt === 1) return undefined;
      // The first attempt may have taken effect and only its answer was lost: look, do not undo.
      const seen = await this.#database.execute<AssetRow>(
        sql`select ${assetColumns} from assets where id = ${id} and state = 'ready'`,
      );
      return seen.rows[0] && toAsset(seen.rows[0]);
    });
  }

  /** Ends an upload of which nothing is left in the object store: no record, no reservation; one audit row. */
  async remove(id: string, outcome: EndedUpload): Promise<void> {
    await retryStatement(outcome.patience ?? PATIENCE_BEFORE, () =>
      this.#database.execute(sql`
        with ended as (
          delete from assets where id = ${id} and state = 'uploading' returning id, owner_id, name, reserved_bytes
        ), released as (
          update quotas set reserved_bytes = quotas.reserved_bytes - ended.reserved_bytes from ended where quotas.owner_id = ended.owner_id
        )
        ${auditFrom('ended', outcome.action, outcome.actor, sql`jsonb_build_object('name', name, 'reason', ${outcome.reason}::text)`)}`),
    );
  }

  /** Ends an upload of which something may be left in the object store: the reservation is released, the key stays known. */
  async condemn(id: string, outcome: EndedUpload): Promise<void> {
    await retryStatement(outcome.patience ?? PATIENCE_BEFORE, () =>
      this.#database.execute(sql`
        with upload as (
          select id, owner_id, name, reserved_bytes from assets where id = ${id} and state = 'uploading' for update
        ), ended as (
          update assets set state = 'deleting', reserved_bytes = 0, lease_expires_at = null, updated_at = now()
          from upload where assets.id = upload.id
        ), released as (
          update quotas set reserved_bytes = quotas.reserved_bytes - upload.reserved_bytes from upload where quotas.owner_id = upload.owner_id
        )
        ${auditFrom('upload', outcome.action, outcome.actor, sql`jsonb_build_object('name', name, 'reason', ${outcome.reason}::text)`)}`),
    );
  }
}

export interface EndedUpload {
  action: 'upload.refused' | 'upload.aborted';
  reason: string;
  actor: Actor;
  /** Milliseconds to bear a database that is away. */
  patience?: number;
}
