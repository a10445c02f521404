/** The pieces of `sql.ts` that the statements of uploads still use. */

import type { Asset } from '../assets/asset.ts';
import type { Actor, AuditAction } from './audit.ts';
import { type SQL, sql } from './sql.ts';
import type { AssetState } from './tables/assets.ts';

/**
 * `insert ... select` of one audit row per row of the common table expression `source`, which has `owner_id` and `id`.
 * @param detail SQL expression of type jsonb
 */
export function auditFrom(source: string, action: AuditAction, actor: Actor, detail: SQL = sql`'{}'::jsonb`): SQL {
  return sql`insert into audit_events (action, actor_id, owner_id, asset_id, request_id, detail)
    select ${action}, ${actor.callerId}, owner_id, id, ${actor.requestId}, ${detail} from ${sql.raw(source)}`;
}

/**
 * SQL that reserves `size` bytes and returns `owner_id`, or returns no row when there is no room. A first-time owner
 * gets a row; an owner without a limit of their own has `defaultLimit`.
 */
export function reserve(ownerId: string, size: number, defaultLimit: number): SQL {
  return sql`insert into quotas as quota (owner_id, reserved_bytes)
    select ${ownerId}, ${size}::bigint
    where ${size}::bigint <= ${defaultLimit}::bigint or exists (select from quotas where owner_id = ${ownerId})
    on conflict (owner_id) do update set reserved_bytes = quota.reserved_bytes + excluded.reserved_bytes
    where quota.used_bytes + quota.reserved_bytes + excluded.reserved_bytes <= coalesce(quota.limit_bytes, ${defaultLimit}::bigint)
    returning owner_id`;
}

/** Columns of a whole asset, for `select` and `returning` in hand-written SQL; `toAsset` reads them. */
export const assetColumns = sql.raw(
  'id, owner_id, project_id, name, state, asset_type, media_type, size, sha256, reason, metadata, object_key, cache_control, version, created_at, updated_at, trashed_at',
);

export type AssetRow = {
  id: string;
  owner_id: string;
  project_id: string | null;
  name: string;
  state: AssetState;
  asset_type: string | null;
  media_type: string | null;
  size: string | null;
  sha256: Buffer | null;
  reason: string | null;
  metadata: Record<string, string>;
  object_key: string;
  cache_control: string | null;
  version: number;
  created_at: Date | string;
  updated_at: Date | string;
  trashed_at: Date | string | null;
};

/** @throws when the row is that of an upload, which has no size or digest yet */
export function toAsset(row: AssetRow): Asset {
  if (row.size === null || row.media_type === null || row.asset_type === null) {
    throw new Error(`asset ${row.id} in state ${row.state} is incomplete`);
  }
  return {
    id: row.id,
    ownerId: row.owner_id,
    ...(row.project_id !== null && { projectId: row.project_id }),
    name: row.name,
    state: row.state,
    assetType: row.asset_type,
    mediaType: row.media_type,
    size: Number(row.size),
    ...(row.sha256 !== null && { sha256: row.sha256 }),
    ...(row.reason !== null && { reason: row.reason }),
    metadata: row.metadata,
    objectKey: row.object_key,
    cacheControl: row.cache_control ?? 'private',
    version: row.version,
    createdAt: new Date(row.created_at),
    updatedAt: new Date(row.updated_at),
    ...(row.trashed_at !== null && { trashedAt: new Date(row.trashed_at) }),
  };
}
