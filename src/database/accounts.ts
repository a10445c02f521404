/** Names of accounts, which quotas belong to: an owner, or a project that was given a quota of its own. */
export const PROJECT = 'project:';
export const OWNER = 'owner:';

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
