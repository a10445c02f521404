/**
 * Whose quota an asset takes of. An account is an owner, or a project that was given a quota of its own; it is written on
 * the asset when its upload begins and when it is moved, so what is charged does not change when quotas are given.
 */
import { type SQL, sql } from 'drizzle-orm';
import { assets } from '../database/tables/assets.ts';

const PROJECT = 'project:';
const OWNER = 'owner:';

export function projectAccount(projectId: string): string {
  return `${PROJECT}${projectId}`;
}

/** The id itself, unless it looks like another account. */
export function ownerAccount(ownerId: string): string {
  return ownerId.startsWith(PROJECT) || ownerId.startsWith(OWNER) ? `${OWNER}${ownerId}` : ownerId;
}

/** The account that an asset is charged to. Absent on the record where that is its owner's, as on all of earlier versions. */
export const chargedAccount: SQL<string> = sql<string>`coalesce(${assets.account}, ${assets.ownerId})`;
