/** That nothing holds an asset, for whatever takes its bytes away; statements ask for themselves by `isFree`. */
import { Problem } from '../problems.ts';
import type { Asset } from './asset.ts';

/** @throws Problem held */
export function requireFree(asset: Asset & { isHeld: boolean }): void {
  if (asset.isHeld) throw held(asset);
}

/** Names are told to everybody who may read the record; reasons are in it, for those who may set holds. */
export function held({ holds = {}, retainUntil, retentionMode }: Pick<Asset, HeldBy>): Problem {
  const names = Object.keys(holds);
  const isRetained = retainUntil !== undefined && retainUntil > new Date();
  const why = [
    ...(names.length > 0 ? [`the ${names.length === 1 ? 'hold' : 'holds'} ${names.join(', ')}`] : []),
    ...(isRetained ? [`its retention (${retentionMode}) until ${retainUntil.toISOString()}`] : []),
  ];
  const because = why.length > 0 ? why.join(' and ') : 'a hold or its retention';
  return new Problem('held', {
    detail: `Its bytes stay as they are because of ${because}. Nobody deletes or replaces them before that ends.`,
    ...(names.length > 0 && { holds: names }),
    ...(isRetained && { retainUntil: retainUntil.toISOString() }),
  });
}

type HeldBy = 'holds' | 'retainUntil' | 'retentionMode';
