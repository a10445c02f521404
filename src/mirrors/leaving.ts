/**
 * Copies go with their objects. The jobs that delete bytes mark the copies in the transaction in which they would forget the
 * record; each mirror removes its own, and a record stays until the last is gone. So a mirror that is away holds up the records of
 * what it has, and nothing else.
 */
import type { Executor } from '../database/client.ts';
import * as statements from './copy-statements.ts';

/** All copies of assets are to be removed. Call before their records are, which `hasCopies` keeps while there are any. */
export async function leaveCopiesOfAssets(transaction: Executor, ids: readonly string[]): Promise<void> {
  const { rows } = await transaction.run(statements.leaveCopiesOfAssets, { ids });
  if (rows.some(({ attempts }) => attempts === 0)) await transaction.run(statements.forgetUntried, { ids });
}

/** The copies of single objects of assets are to be removed. */
export async function leaveCopiesOfObjects(
  transaction: Executor,
  objects: readonly { assetId: string; objectKey: string }[],
): Promise<void> {
  const ids = objects.map(({ assetId }) => assetId);
  const keys = objects.map(({ objectKey }) => objectKey);
  const { rows } = await transaction.run(statements.leaveCopiesOfObjects, { ids, keys });
  if (rows.some(({ attempts }) => attempts === 0)) await transaction.run(statements.forgetUntried, { ids });
}
