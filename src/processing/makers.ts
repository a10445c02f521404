/** The kinds of files that have facts and derivatives. */
import type { Maker } from './maker.ts';

const makers: readonly Maker[] = [];

export function makerOf(mediaType: string): Maker | undefined {
  return makers.find((maker) => maker.accepts(mediaType));
}
