/**
 * Moves the bytes of an asset to the archive, or back. The copy is stored under a key that was written down before, and
 * compared; then one transaction, guarded by the key that the asset has, makes it the asset's, and the row of the copy becomes
 * the row of what it replaces, which a job removes. So a crash at any step leaves all of the old or all of the new, and nothing
 * that no row names. Rows and leases are those of what takes the place of an original; see processing/derivatives.ts.
 */
import type { Core } from '../../core.ts';
import type { Executor } from '../../database/client.ts';
import { type JobContext, LeaseLost } from '../../jobs/job.ts';
import { DerivativesRepository, MAKING_LEASE } from '../../processing/derivatives.ts';
import type { MoveOptions } from '../../storage/archive/archive.ts';
import type { Movable, MovedTo } from '../moves.ts';

const NAME = 'archive';
/** Signs of life within a lease. */
const RENEWALS = 3;

export interface Move {
  assetId: string;
  from: Movable;
  keyOf?: (key: string, id: string) => string;
  /** @returns the digest of the bytes, where somebody has read them */
  copy(to: string, options: MoveOptions): Promise<Buffer | undefined>;
  /** @returns whether the asset has the copy now */
  switch(transaction: Executor, to: MovedTo): Promise<boolean>;
  /** Seconds for which those who are reading the former bytes may go on. */
  grace: number;
}

/** @returns whether it was moved; it is not where the asset has gone or has other bytes by now */
export async function move(
  { assetId, from, keyOf, copy, switch: switchTo, grace }: Move,
  { background, outbox, store, buffers }: Pick<Core, 'background' | 'outbox' | 'store' | 'buffers'>,
  { id: jobId, signal, fence }: JobContext,
): Promise<boolean> {
  const derivatives = new DerivativesRepository(background, outbox);
  const claim = await derivatives.claim(
    {
      ...{ assetId, kind: 'replacement', name: NAME, sourceKey: from.objectKey, requestedBy: jobId },
      ...(keyOf && { keyOf }),
    },
    { again: true },
  );
  if (claim.outcome === 'busy' || claim.outcome === 'busy-elsewhere')
    throw new Error('another worker moves the bytes of the asset');
  if (claim.outcome !== 'claimed') return false;
  const { id: claimId, objectKey: targetKey } = claim.derivative;
  const sha256 = await whileClaimed(derivatives, claimId, signal, (both) => copy(targetKey, { buffers, signal: both }));
  const to = { id: assetId, claimId, sourceKey: from.objectKey, targetKey, sha256 };
  const isMoved = await background.transact(async (transaction) => {
    await fence(transaction);
    if (!(await switchTo(transaction, to))) return false;
    if (!(await derivatives.exchange(claimId, from.objectKey, transaction, grace))) throw new LeaseLost();
    return true;
  });
  if (isMoved) return true;
  // Where the asset has gone, the row may have gone with it, and nobody else knows the object.
  await store.delete(targetKey, {});
  await derivatives.discard([claimId]);
  return false;
}

/** Says that the mover lives while `work` runs; it is ended when somebody took it for dead. */
async function whileClaimed<Result>(
  derivatives: DerivativesRepository,
  id: string,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<Result>,
): Promise<Result> {
  const lost = new AbortController();
  const renew = () =>
    derivatives.renew(id).then(
      (isOurs) => isOurs || lost.abort(new LeaseLost()),
      // A database that is away for longer ends the lease.
      () => {},
    );
  const timer = setInterval(renew, (MAKING_LEASE * 1000) / RENEWALS);
  try {
    return await work(AbortSignal.any([signal, lost.signal]));
  } finally {
    clearInterval(timer);
  }
}
