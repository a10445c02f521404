/** That nothing holds an asset, for whatever takes its bytes away; statements ask for themselves by `isFree`. */
import { z } from 'zod';
import { openEnum, timestamp } from '../http/schema-types.ts';
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

const holdDocument = z
  .object({
    name: z.string().meta({ example: 'claim-1711' }),
    setAt: timestamp,
    setBy: z.string().optional().meta({
      description: 'Subject of who has set it; told to those who may set holds, by `getAsset`',
      example: 'user-1',
    }),
    reason: z.string().optional().meta({
      description: 'Why, in his words; told to those who may set holds, by `getAsset`',
      example: 'copyright claim 1711',
    }),
  })
  .meta({ id: 'AssetHold' });

/** What the record of an asset tells of it. */
export const heldDocument = {
  holds: z
    .array(holdDocument)
    .optional()
    .meta({ description: 'While there is one, nobody deletes or replaces the bytes; absent where there is none' }),
  retainUntil: timestamp.optional().meta({ description: 'Until then nobody deletes or replaces the bytes' }),
  retentionMode: openEnum(
    'RetentionMode',
    ['governance', 'compliance'],
    '`governance`: an administrator may shorten the retention. `compliance`: nobody may.',
  ).optional(),
};

/** @param isWhole with what is for those who may set holds */
export function toHeldDocument({ holds = {}, retainUntil, retentionMode }: Pick<Asset, HeldBy>, isWhole = false) {
  const all = Object.entries(holds).map(([name, { at, by, reason }]) => ({
    name,
    setAt: at,
    ...(isWhole && { setBy: by, reason }),
  }));
  return {
    ...(all.length > 0 && { holds: all }),
    ...(retainUntil && { retainUntil: retainUntil.toISOString() }),
    ...(retentionMode && { retentionMode }),
  };
}
