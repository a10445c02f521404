/** Where the media data of a file lie: nothing but them is filled with zeros for an item or a track. */
import { blankRange } from './boxes.ts';
import type { Changes } from './changes.ts';
import { Unstrippable, type Walk } from './walk.ts';

export interface Range {
  from: number;
  to: number;
}

/**
 * Fills ranges with zeros. They may overlap: each byte is looked at once.
 * @param mediaData in the order of the file, without overlaps
 * @throws Unstrippable when a range lies elsewhere
 */
export function* blankRanges(ranges: readonly Range[], mediaData: readonly Range[], changes: Changes): Walk<void> {
  let [index, blankUpTo] = [0, 0];
  for (const { from, to } of ranges.toSorted((a, b) => a.from - b.from)) {
    if (from === to) continue;
    while ((mediaData[index]?.to ?? Number.POSITIVE_INFINITY) <= from) index += 1;
    const holder = mediaData[index];
    if (!holder || from < holder.from || to > holder.to)
      throw new Unstrippable('The file has metadata outside of its media data.');
    yield* blankRange(Math.min(Math.max(from, blankUpTo), to), to, changes);
    blankUpTo = Math.max(blankUpTo, to);
  }
}
