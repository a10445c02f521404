/** The kinds of files that have facts and derivatives. */
import type { Maker } from './maker.ts';
import { mediaMaker } from './media/maker.ts';
import { pictureMaker } from './pictures/maker.ts';

const makers: readonly Maker[] = [pictureMaker, mediaMaker];

export function makerOf(mediaType: string): Maker | undefined {
  return makers.find((maker) => maker.accepts(mediaType));
}
