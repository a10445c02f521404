/**
 * How far a resumable upload is. Every change is made by the one request that holds the upload, and says so: a request from
 * which another one took over changes nothing any more, wherever it runs. No lock is held in between.
 */

import type { Asset } from '../assets/asset.ts';
import type { DatabaseHandle, Executor } from '../database/client.ts';
import { sql } from '../database/sql.ts';
import { type AssetRow, assetColumns, toAsset } from '../database/sql-pieces.ts';
import type { AssetState } from '../database/tables/assets.ts';
import type { UploadedPart } from '../storage/object-store.ts';

export interface NewResumable {
  partSize: number;
  size?: number;
  declaredType?: string;
  assetType?: string;
  expiresAt: Date;
}

export interface ResumableUpload {
  id: string;
  ownerId: string;
  fileName: string;
  projectId?: string;
  objectKey: string;
  createdAt: Date;
  metadata: Record<string, string>;
  storeUploadId?: string;
  partSize: number;
  size?: number;
  /** Bytes that are safe. */
  position: number;
  declaredType?: string;
  assetType?: string;
  /** There from the first part on. */
  judged?: { mediaType: string; policy: string };
  expiresAt: Date;
}

/** What a request has brought into safety. */
export interface Progress {
  position: number;
  parts: UploadedPart[];
  tail: Buffer | undefined;
}

export class ResumableUploadsRepository {
  readonly #handle: DatabaseHandle;

  constructor(handle: DatabaseHandle) {
    this.#handle = handle;
  }

  /** In the transaction that begins the upload. */
  async agree(
    transaction: Executor,
    id: string,
    { partSize, size, declaredType, assetType, expiresAt }: NewResumable,
  ): Promise<void> {
    await transaction.execute(sql`
      insert into resumable_uploads (asset_id, part_size, size, declared_type, asset_type, expires_at)
      values (${id}, ${partSize}::bigint, ${size ?? null}::bigint, ${declaredType ?? null}, ${assetType ?? null},
        ${expiresAt.toISOString()}::timestamptz)`);
  }

  /** An upload of this owner that is under way, or the asset it has become; undefined when there is neither. */
  async find(ownerId: string, id: string): Promise<{ upload: ResumableUpload } | { asset: Asset } | undefined> {
    const { rows } = await this.#handle.database.execute<
      AssetRow & {
        state: AssetState;
        store_upload_id: string | null;
        part_size: string;
        agreed_size: string | null;
        position: string;
        declared_type: string | null;
        agreed_type: string | null;
        judged_type: string | null;
        policy: string | null;
        expires_at: string;
      }
    >(sql`
      select ${assetColumns}, store_upload_id, part_size, agreed_size, position, declared_type, agreed_type, judged_type,
        policy, expires_at
      from assets join (
        select asset_id, store_upload_id, part_size, size as agreed_size, position, declared_type, asset_type as agreed_type,
          media_type as judged_type, policy, expires_at
        from resumable_uploads
      ) as agreed on asset_id = id
      where id = ${id} and owner_id = ${ownerId} and state <> 'deleting'`);
    const [row] = rows;
    if (!row) return undefined;
    if (row.state !== 'uploading') return { asset: toAsset(row) };
    return {
      upload: {
        id: row.id,
        ownerId,
        fileName: row.name,
        ...(row.project_id !== null && { projectId: row.project_id }),
        objectKey: row.object_key,
        createdAt: new Date(row.created_at),
        metadata: row.metadata,
        ...(row.store_upload_id !== null && { storeUploadId: row.store_upload_id }),
        partSize: Number(row.part_size),
        ...(row.agreed_size !== null && { size: Number(row.agreed_size) }),
        position: Number(row.position),
        ...(row.declared_type !== null && { declaredType: row.declared_type }),
        ...(row.agreed_type !== null && { assetType: row.agreed_type }),
        ...(row.judged_type !== null &&
          row.policy !== null && { judged: { mediaType: row.judged_type, policy: row.policy } }),
        expiresAt: new Date(row.expires_at),
      },
    };
  }

  /**
   * From now on only `holder` may write, and goes on at `position`. Also declares the size, where it was left open.
   * @returns the tail to go on with; undefined when the upload is elsewhere by now, or was ended
   */
  async take(
    id: string,
    holder: string,
    { position, size, lease, expiresAt }: { position: number; size?: number; lease: number; expiresAt: Date },
  ): Promise<{ tail: Buffer } | undefined> {
    const { rows } = await this.#handle.database.execute<{ tail: Buffer | null }>(sql`
      with live as (
        update assets set lease_expires_at = ${expiresAt.toISOString()}::timestamptz + make_interval(secs => ${lease})
        where id = ${id} and state = 'uploading' returning id
      )
      update resumable_uploads set holder = ${holder}, size = coalesce(size, ${size ?? null}::bigint),
        expires_at = ${expiresAt.toISOString()}::timestamptz
      from live where asset_id = live.id and position = ${position}::bigint returning tail`);
    const [row] = rows;
    return row && { tail: row.tail ?? Buffer.alloc(0) };
  }

  /** Whether this request may still write. */
  async isHeldBy(id: string, holder: string): Promise<boolean> {
    const { rowCount } = await this.#handle.database.execute(
      sql`select 1 from resumable_uploads join assets on id = asset_id
        where asset_id = ${id} and holder = ${holder} and state = 'uploading'`,
    );
    return rowCount === 1;
  }

  /** The store has begun it, and its type is known. @returns false when another request has taken over */
  async begun(
    id: string,
    holder: string,
    { storeUploadId, mediaType, policy }: { storeUploadId: string; mediaType: string; policy: string },
  ): Promise<boolean> {
    const { rowCount } = await this.#handle.database.execute(sql`
      update resumable_uploads set store_upload_id = ${storeUploadId}, media_type = ${mediaType}, policy = ${policy}
      where asset_id = ${id} and holder = ${holder}`);
    return rowCount === 1;
  }

  /** @returns false when another request has taken over, or the upload was ended */
  async advance(id: string, holder: string, { position, parts, tail }: Progress): Promise<boolean> {
    return this.#handle.transact(async (transaction) => {
      const { rowCount } = await transaction.execute(sql`
        update resumable_uploads set position = ${position}::bigint, tail = ${tail ?? null}::bytea
        from (select id from assets where id = ${id} and state = 'uploading' for share) as live
        where asset_id = live.id and holder = ${holder}`);
      if (rowCount !== 1) return false;
      for (const { partNumber, etag, size } of parts)
        await transaction.execute(sql`
          insert into resumable_parts (asset_id, part_number, etag, size) values (${id}, ${partNumber}, ${etag}, ${size}::bigint)
          on conflict (asset_id, part_number) do update set etag = excluded.etag, size = excluded.size`);
      return true;
    });
  }

  /** The parts as they were acknowledged, in order. */
  async parts(id: string): Promise<UploadedPart[]> {
    const { rows } = await this.#handle.database.execute<{ part_number: number; etag: string; size: string }>(
      sql`select part_number, etag, size from resumable_parts where asset_id = ${id} order by part_number`,
    );
    return rows.map(({ part_number, etag, size }) => ({ partNumber: part_number, etag, size: Number(size) }));
  }
}
