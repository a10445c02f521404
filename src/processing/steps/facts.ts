/** Reads what a file holds: sizes, durations, pages. A file whose facts cannot be read stays as it is; the record says why. */
import { makerOf } from '../makers.ts';
import type { Step } from '../step.ts';

export const factsStep: Step = {
  name: 'facts',
  settings: { concurrency: 8 },
  run: async ({ asset, tools, context, workingCopy }) => {
    const maker = makerOf(asset.mediaType);
    if (!maker) return { kind: 'skipped', reason: 'unsupported' };
    await using file = await workingCopy();
    const found = await maker.readFacts({ asset, file, tools, signal: context.signal });
    return found ? { kind: 'done', ...found } : { kind: 'skipped', reason: 'unsupported' };
  },
};
