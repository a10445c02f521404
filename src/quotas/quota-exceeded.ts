import { Problem } from '../problems.ts';
import type { QuotasRepository } from './repository.ts';

/** @param bytes for which there was no room */
export async function quotaExceeded(
  quotas: Pick<QuotasRepository, 'get'>,
  account: string,
  bytes: number,
): Promise<Problem> {
  const { limit, used, reserved } = await quotas.get(account);
  const available = limit > used + reserved ? limit - used - reserved : 0n;
  const open =
    reserved > 0n
      ? ` Uploads that are not finished hold ${reserved} bytes: GET /v1/uploads lists them, DELETE /v1/uploads/{id} cancels one.`
      : '';
  return new Problem('quota-exceeded', {
    detail: `${bytes} more bytes are needed and ${available} of ${limit} are available. Delete assets for good or ask for a larger quota.${open}`,
  });
}
