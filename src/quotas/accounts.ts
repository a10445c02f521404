/**
 * Whose quota an asset takes of. An account is an owner, or a project that was given a quota of its own; it is written on
 * the asset when its upload begins and when it is moved, so what is charged does not change when quotas are given.
 */
import { type SQL, sql } from 'drizzle-orm';
import { assets } from '../database/tables/assets.ts';
import { quotas } from '../database/tables/quotas.ts';

const PROJECT = 'project:';
const OWNER = 'owner:';

export function projectAccount(projectId: string): string {
  return `${PROJECT}${projectId}`;
}

/** The id itself, unless it looks like another account. */
export function ownerAccount(ownerId: string): string {
  return ownerId.startsWith(PROJECT) || ownerId.startsWith(OWNER) ? `${OWNER}${ownerId}` : ownerId;
}

/** The account that an administrator names: `project:{id}`, or an owner by his id or as `owner:{id}`. */
export function accountNamed(name: string): string {
  if (name.startsWith(PROJECT)) return name;
  return ownerAccount(name.startsWith(OWNER) ? name.slice(OWNER.length) : name);
}

/** @returns undefined for the account of an owner */
export function projectOfAccount(account: string): string | undefined {
  return account.startsWith(PROJECT) ? account.slice(PROJECT.length) : undefined;
}

/** The account that an asset is charged to. Absent on the record where that is its owner's, as on all of earlier versions. */
export const chargedAccount: SQL<string> = sql<string>`coalesce(${assets.account}, ${assets.ownerId})`;

/** That an account is one of an owner. */
export const isOfOwner = sql`${quotas.account} not like ${sql.raw(`'${PROJECT}%'`)}`;
/** The owner of an account that is one of an owner. */
export const ownerOfAccount: SQL<string> = sql<string>`regexp_replace(${quotas.account}, ${sql.raw(`'^${OWNER}'`)}, '')`;

/**
 * What an audit row says of an account: of the account of a project, the project and, as nobody owns it, who acts; so no
 * owner whose id looks like the account reads it as his own.
 */
export function auditedAccount(actorId: SQL): { ownerId: SQL.Aliased<string>; projectId: SQL.Aliased<string | null> } {
  const project = sql<string | null>`substring(${quotas.account} from ${sql.raw(`'^${PROJECT}(.*)$'`)})`;
  return {
    ownerId: sql<string>`case when ${isOfOwner} then ${ownerOfAccount} else ${actorId} end`.as('audited_owner'),
    projectId: project.as('audited_project'),
  };
}
