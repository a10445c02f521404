/** The kinds of files that have facts and derivatives. */
import { documentMaker } from './documents/maker.ts';
import type { Maker } from './maker.ts';
import { mediaMaker } from './media/maker.ts';
import { modelMaker } from './models/maker.ts';
import { pictureMaker } from './pictures/maker.ts';

const makers: readonly Maker[] = [pictureMaker, mediaMaker, modelMaker, documentMaker];

export function makerOf(mediaType: string): Maker | undefined {
  return makers.find((maker) => maker.accepts(mediaType));
}
