/** The charge of an asset that is moved between projects goes to whoever pays for it there, or the move is refused. */
import { and, isNull, or, sql } from 'drizzle-orm';
import type { Caller } from '../access/caller.ts';
import { type AccessParameter, isFor } from '../access/conditions.ts';
import type { Executor } from '../database/client.ts';
import { build, compile, type Parameter, type Values } from '../database/statements.ts';
import { assets, isFree, isVisible } from '../database/tables/assets.ts';
import { Problem } from '../problems.ts';
import type { Place } from '../projects/places.ts';
import { chargedAccount, ownerAccount, projectAccount } from '../quotas/accounts.ts';
import { type LimitValues, limitValuesFor } from '../quotas/limit.ts';
import { moveCharge } from '../quotas/moving.ts';
import { hasVersion, isOne } from './conditions.ts';

/** Where it goes, others are managers, who may take off its holds: so what is held goes by who may do that himself. */
const mayLeave = (p: Parameter<AccessParameter>) => and(isFor(p, 'asset.move'), or(isFree, isFor(p, 'asset.hold')));

export const lockMoved = compile('lock-moved-asset', (p: Parameter<'id' | 'version' | 'projectId' | AccessParameter>) =>
  build
    .select({
      ownerId: assets.ownerId,
      account: chargedAccount.as('charged'),
      size: assets.size,
      versionBytes: assets.versionBytes,
    })
    .from(assets)
    .where(
      and(
        isOne(p, 'asset.write'),
        or(mayLeave(p), sql`${assets.projectId} is not distinct from ${p('projectId')}`),
        isVisible,
        isNull(assets.trashedAt),
        hasVersion(p),
      ),
    )
    .for('update'),
);

/** Where an asset goes, who moves it, and what accounts may store. */
export interface Move {
  to: Place;
  caller: Pick<Caller, 'id' | 'tier'>;
  limits: LimitValues;
}

/**
 * Moves the charge of an asset, in the transaction of its move. The asset stays locked until the end of that.
 * @param values `to`: where it is moved; outside projects its owner pays, whoever moves it there
 * @returns what to write on the asset: null where its owner pays; nothing when it is not there for the caller to be moved
 * @throws Problem quota-exceeded
 */
export async function chargeMove(
  transaction: Executor,
  values: Values<'id' | 'version' | 'projectId' | AccessParameter> & Move,
): Promise<{ account: string | null } | undefined> {
  const { rows } = await transaction.run(lockMoved, values);
  const [moved] = rows;
  if (!moved) return undefined;
  const { to, limits, caller } = values;
  const isOfProject = to.projectId !== undefined && to.account === projectAccount(to.projectId);
  const account = isOfProject ? to.account : ownerAccount(moved.ownerId);
  const used = (moved.size ?? 0) + moved.versionBytes;
  if (
    !(await moveCharge(transaction, {
      from: moved.account,
      to: account,
      used,
      reserved: 0,
      files: 1,
      limits: limitValuesFor(limits, account, caller),
    }))
  )
    throw noRoom(used, isOfProject ? to.projectId : undefined);
  return { account: account === moved.ownerId ? null : account };
}

/** How much there is of the quota of another owner is not told. */
function noRoom(bytes: number, projectId: string | undefined): Problem {
  const whose =
    projectId === undefined ? 'the quota of who has uploaded the asset' : `the quota of the project ${projectId}`;
  return new Problem('quota-exceeded', {
    detail: `There is no room for ${bytes} bytes in ${whose}, which pays for it there. Delete assets for good, or ask for a larger quota.`,
  });
}
