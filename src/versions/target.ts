/** What an upload is to replace, as far as that can be judged before its bytes come. */
import { eq } from 'drizzle-orm';
import type { Caller } from '../access/caller.ts';
import { requireMay, requireScope } from '../access/may.ts';
import type { Asset } from '../assets/asset.ts';
import { requireFree } from '../assets/held.ts';
import { AssetsRepository } from '../assets/repository.ts';
import { inTrash, requireConditions } from '../assets/routes.ts';
import type { DatabaseHandle } from '../database/client.ts';
import { build, compile, type Parameter } from '../database/statements.ts';
import { assets } from '../database/tables/assets.ts';
import type { RecordConditions } from '../http/preconditions.ts';
import { assetNotFound } from '../problems.ts';
import type { Place } from '../projects/places.ts';
import { chargedAccount } from '../quotas/accounts.ts';

/** The asset whose bytes an upload replaces. */
export interface Replaced {
  asset: Asset;
  /** Where the asset is, and who pays for it. */
  place: Place;
  /** Version that its record must still have when the bytes are there; absent for any. */
  version?: number;
}

const findAccount = compile('find-charged-account', (p: Parameter<'id'>) =>
  build
    .select({ account: chargedAccount.as('account') })
    .from(assets)
    .where(eq(assets.id, p('id'))),
);

/**
 * The asset that the caller wants to give other bytes. All of it is judged again when they are there.
 * @throws Problem missing-scope, not-found, forbidden, wrong-state, held, precondition-failed
 */
export async function findReplaced(
  database: DatabaseHandle,
  caller: Caller,
  id: string,
  conditions: RecordConditions,
): Promise<Replaced> {
  // A ticket is for new files only, and has no such scope.
  requireScope(caller, 'asset.write');
  const asset = await new AssetsRepository(database).find(caller, id);
  if (!asset) throw assetNotFound();
  requireMay(caller, 'asset.write', asset);
  if (asset.trashedAt) throw inTrash();
  requireFree(asset);
  requireConditions(conditions, asset);
  const { rows } = await database.database.run(findAccount, { id: asset.id });
  if (!rows[0]) throw assetNotFound();
  const { projectId } = asset;
  const place = { isNew: false, account: rows[0].account, ...(projectId !== undefined && { projectId }) };
  const isPinned = conditions.ifMatch !== undefined && conditions.ifMatch !== '*';
  return { asset, place, ...(isPinned && { version: asset.version }) };
}
