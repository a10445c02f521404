/** What was agreed on for a direct upload, beside its record: part size, declared type and digest, and until when. */

import type { Asset } from '../assets/asset.ts';
import type { Actor } from '../database/audit.ts';
import type { DatabaseHandle, Executor } from '../database/client.ts';
import { sql } from '../database/sql.ts';
import { type AssetRow, assetColumns, auditFrom, toAsset } from '../database/sql-pieces.ts';
import type { AssetState } from '../database/tables/assets.ts';

export interface Agreement {
  size: number;
  partSize: number;
  /** Normalised. */
  declaredType: string;
  /** The policy it falls under. */
  assetType: string;
  sha256?: Buffer;
  expiresAt: Date;
}

export interface DirectUpload extends Agreement {
  id: string;
  ownerId: string;
  fileName: string;
  objectKey: string;
  /** Absent when the process died before the store had begun it. */
  storeUploadId?: string;
}

export class DirectUploadsRepository {
  readonly #handle: DatabaseHandle;

  constructor(handle: DatabaseHandle) {
    this.#handle = handle;
  }

  /** In the transaction that begins the upload. */
  async agree(transaction: Executor, id: string, agreement: Agreement): Promise<void> {
    const { size, partSize, declaredType, assetType, sha256, expiresAt } = agreement;
    await transaction.execute(sql`
      insert into multipart_uploads (asset_id, part_size, size, declared_type, asset_type, sha256, expires_at)
      values (${id}, ${partSize}::bigint, ${size}::bigint, ${declaredType}, ${assetType}, ${sha256 ?? null}::bytea,
        ${expiresAt.toISOString()}::timestamptz)`);
  }

  /** The store has begun it. @returns false when the upload was ended meanwhile */
  async begun(id: string, storeUploadId: string, also?: (transaction: Executor) => Promise<void>): Promise<boolean> {
    return this.#handle.transact(async (transaction) => {
      const { rowCount } = await transaction.execute(sql`
        update multipart_uploads set store_upload_id = ${storeUploadId}
        from (select id from assets where id = ${id} and state = 'uploading' for update) as live
        where asset_id = live.id`);
      if (rowCount !== 1) return false;
      await also?.(transaction);
      return true;
    });
  }

  /** An upload of this owner that is under way, or the asset it has become; undefined when there is neither. */
  async find(ownerId: string, id: string): Promise<{ upload: DirectUpload } | { asset: Asset } | undefined> {
    const { rows } = await this.#handle.database.execute<
      AssetRow & {
        state: AssetState;
        store_upload_id: string | null;
        part_size: string;
        agreed_size: string;
        declared_type: string;
        agreed_type: string;
        declared_sha256: Buffer | null;
        expires_at: string;
      }
    >(sql`
      select ${assetColumns}, store_upload_id, part_size, agreed_size, declared_type, agreed_type, declared_sha256, expires_at
      from assets join (
        select asset_id, store_upload_id, part_size, size as agreed_size, declared_type, asset_type as agreed_type,
          sha256 as declared_sha256, expires_at
        from multipart_uploads
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
        objectKey: row.object_key,
        ...(row.store_upload_id !== null && { storeUploadId: row.store_upload_id }),
        size: Number(row.agreed_size),
        partSize: Number(row.part_size),
        declaredType: row.declared_type,
        assetType: row.agreed_type,
        ...(row.declared_sha256 && { sha256: row.declared_sha256 }),
        expiresAt: new Date(row.expires_at),
      },
    };
  }

  /**
   * Keeps the upload alive: until `expiresAt`, when that is named and later, and for `lease` seconds from now in any case.
   * @returns false when it was ended
   */
  async keep(id: string, lease: number, expiresAt?: Date): Promise<boolean> {
    const until = expiresAt?.toISOString() ?? null;
    const { rowCount } = await this.#handle.database.execute(sql`
      with kept as (
        update assets set lease_expires_at = greatest(lease_expires_at, now() + make_interval(secs => ${lease}),
          ${until}::timestamptz + make_interval(secs => ${lease}))
        where id = ${id} and state = 'uploading' returning id
      )
      update multipart_uploads set expires_at = greatest(expires_at, ${until}::timestamptz) from kept where asset_id = kept.id`);
    return rowCount === 1;
  }

  /** An asset whose bytes are still to be compared with the declared digest. */
  async findProcessing(id: string): Promise<Asset | undefined> {
    const { rows } = await this.#handle.database.execute<AssetRow>(
      sql`select ${assetColumns} from assets where id = ${id} and state = 'processing'`,
    );
    return rows[0] && toAsset(rows[0]);
  }

  /** Ends the processing of an asset. One that was deleted meanwhile stays so. */
  async judge(
    id: string,
    verdict: { state: 'ready'; sha256: Buffer } | { state: 'rejected'; reason: string },
    actor: Actor,
    fence: (transaction: Executor) => Promise<void>,
  ): Promise<void> {
    const isReady = verdict.state === 'ready';
    const reason = isReady ? null : verdict.reason;
    const sha256 = isReady ? verdict.sha256 : null;
    await this.#handle.transact(async (transaction) => {
      await fence(transaction);
      await transaction.execute(sql`
        with judged as (
          update assets set state = ${verdict.state}, reason = ${reason}, sha256 = coalesce(${sha256}::bytea, sha256), version = version + 1, updated_at = now()
          where id = ${id} and state = 'processing' returning id, owner_id
        )
        ${auditFrom('judged', isReady ? 'asset.verified' : 'asset.rejected', actor, sql`jsonb_build_object('reason', ${reason}::text)`)}`);
    });
  }
}
