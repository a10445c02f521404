/** The kinds of files that have facts and derivatives. */
import type { Maker } from './maker.ts';
import { pictureMaker } from './pictures/maker.ts';

const makers: readonly Maker[] = [pictureMaker];

export function makerOf(mediaType: string): Maker | undefined {
  return makers.find((maker) => maker.accepts(mediaType));
}
