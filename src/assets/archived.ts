/** Assets whose bytes lie in the archive. */
import { defineProblem, Problem } from '../problems.ts';
import type { Asset } from './asset.ts';

export const archivedProblem = defineProblem('archived', {
  status: 409,
  title: 'The file is in the archive',
});

/** Whether the bytes can be read now. */
export function isAtHand({ tier, restoredUntil }: Pick<Asset, 'tier' | 'restoredUntil'>, now = new Date()): boolean {
  return tier === undefined || (restoredUntil !== undefined && restoredUntil > now);
}

/** With the way out. */
export function archived({ id, restore }: Pick<Asset, 'id' | 'restore'>): Problem {
  const wayOut =
    restore?.state === 'requested'
      ? `It is being brought back since ${restore.at}, ${restore.speed}: ask for the record until it tells restoredUntil.`
      : `Bring it back by POST /v1/assets/${id}/restore-from-archive; what was made of it, such as thumbnails, is there.`;
  return new Problem(archivedProblem, { detail: wayOut });
}

/** For whoever cannot bring it back. */
export function archivedForStrangers(): Problem {
  return new Problem(archivedProblem, {
    detail: 'The file was moved to the archive. Ask whoever gave you the link to bring it back, and try again later.',
  });
}

/** @throws Problem archived */
export function requireAtHand(asset: Pick<Asset, 'id' | 'tier' | 'restoredUntil' | 'restore'>): void {
  if (!isAtHand(asset)) throw archived(asset);
}
