/**
 * Whose quota an asset takes of. An account is an owner, or a project that was given a quota of its own; it is written on
 * the asset when its upload begins and when it is moved, so what is charged does not change when quotas are given.
 */
import { type SQL, sql } from 'drizzle-orm';
import { OWNER, PROJECT } from '../database/accounts.ts';
import { assets } from '../database/tables/assets.ts';
import { quotas } from '../database/tables/quotas.ts';

export { accountNamed, ownerAccount, projectAccount, projectOfAccount } from '../database/accounts.ts';

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
