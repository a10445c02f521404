/**
 * The audit trail. A change of state and its row are written by one statement, so there is never one without the other:
 * repositories append `auditFrom(...)` as the last part of the statement that changes something.
 */

import type { Database } from './client.ts';
import { type SQL, sql } from './sql.ts';

export const auditActions = [
  'asset.uploaded',
  'asset.updated',
  'asset.trashed',
  'asset.restored',
  'asset.deleted',
  'asset.purged',
  'asset.expired',
  'asset.lost',
  'asset.found',
  'asset.verified',
  'asset.rejected',
  'asset.link-issued',
  'asset.downloaded',
  'upload.refused',
  'upload.aborted',
  'quota.changed',
  'quota.corrected',
] as const;
export type AuditAction = (typeof auditActions)[number];

/** Who acts, in which request. */
export interface Actor {
  callerId: string;
  requestId: string;
}

/** What the service does by itself, in which job. */
export function systemActor(part: 'reaper' | 'purge' | 'reconciler' | 'verifier', jobId: string): Actor {
  return { callerId: `stowage:${part}`, requestId: `job:${jobId}` };
}

/**
 * `insert ... select` of one audit row per row of the common table expression `source`, which has `owner_id` and `id`.
 * @param detail SQL expression of type jsonb
 */
export function auditFrom(source: string, action: AuditAction, actor: Actor, detail: SQL = sql`'{}'::jsonb`): SQL {
  return sql`insert into audit_events (action, actor_id, owner_id, asset_id, request_id, detail)
    select ${action}, ${actor.callerId}, owner_id, id, ${actor.requestId}, ${detail} from ${sql.raw(source)}`;
}

/** A row that accompanies no change of a record, such as a refused upload. */
export async function recordEvent(
  database: Database,
  event: { action: AuditAction; actor: Actor; ownerId: string; assetId?: string; detail?: Record<string, unknown> },
): Promise<void> {
  await database.execute(sql`insert into audit_events (action, actor_id, owner_id, asset_id, request_id, detail)
    values (${event.action}, ${event.actor.callerId}, ${event.ownerId}, ${event.assetId ?? null}, ${event.actor.requestId},
      ${JSON.stringify(event.detail ?? {})}::jsonb)`);
}
