import type { Caller } from '../access/caller.ts';
import { limitedBy, tierWords } from '../access/tiers.ts';
import { Problem } from '../problems.ts';
import { projectOfAccount } from './accounts.ts';
import type { QuotasRepository } from './repository.ts';

/**
 * The refusal of an upload: it says whose quota has no room, that of the caller or of a project.
 * @param bytes for which there was no room
 * @param caller who has met the limit
 */
export async function quotaExceeded(
  quotas: Pick<QuotasRepository, 'get'>,
  account: string,
  bytes: number,
  caller: Pick<Caller, 'id' | 'tier'>,
): Promise<Problem> {
  const { limit, isOwn, used, reserved } = await quotas.get(account, caller);
  const available = limit > used + reserved ? limit - used - reserved : 0n;
  const projectId = projectOfAccount(account);
  const whose = projectId === undefined ? 'your quota' : `the quota of the project ${projectId}`;
  const how =
    projectId === undefined ? ': GET /v1/uploads lists them, DELETE /v1/uploads/{id} cancels one' : ' of its members';
  const isOfTier = projectId === undefined && !isOwn;
  const open = reserved > 0n ? ` Uploads that are not finished hold ${reserved} bytes${how}.` : '';
  return new Problem('quota-exceeded', {
    detail: `${bytes} more bytes are needed and ${available} of ${limit} are available in ${whose}. Delete assets for good or ask for a larger quota.${open}${isOfTier ? tierWords(caller.tier) : ''}`,
    ...(isOfTier && limitedBy(caller.tier, 'quota')),
  });
}
