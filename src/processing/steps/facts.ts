/** Reads what a file holds: sizes, durations, pages. A file whose facts cannot be read stays as it is; the record says why. */
import type { Facts } from '../../database/tables/processing-record.ts';
import type { Maker } from '../maker.ts';
import { makerOf } from '../makers.ts';
import type { Step, StepOutcome, StepWork } from '../step.ts';
import { ToolError } from '../tools/tool-error.ts';
import { makeDerivatives } from './derive.ts';

export const factsStep: Step = {
  name: 'facts',
  settings: { concurrency: 8 },
  run: async (work) => {
    const { asset, tools, context, workingCopy, follows } = work;
    const maker = makerOf(asset.mediaType);
    if (!maker) return { kind: 'skipped', reason: 'unsupported' };
    const understood = follows === 'derive' ? await understand(maker, work) : undefined;
    if (understood) return understood;
    await using file = await workingCopy();
    const found = await maker.readFacts({ asset, file, tools, signal: context.signal });
    return found ? { kind: 'done', ...found } : { kind: 'skipped', reason: 'unsupported' };
  },
};

/**
 * Facts and derivatives by one look.
 * @returns undefined where they come one after the other: also when the look has failed, of which the facts may still be had
 */
async function understand(maker: Maker, work: StepWork): Promise<StepOutcome | undefined> {
  const { understand } = maker;
  if (!understand) return undefined;
  let facts: Facts | undefined;
  try {
    const outcome = await makeDerivatives(work, async (wanted, of) => {
      const { facts: found, made = new Map(), ...rest } = await understand(wanted, of, { quickly: false });
      facts = found;
      return { made, ...rest };
    });
    return facts && outcome.kind === 'done' ? { ...outcome, facts, also: 'derive' } : undefined;
  } catch (error) {
    work.context.signal.throwIfAborted();
    if (!(error instanceof ToolError) || error.fault === 'aborted') throw error;
    return undefined;
  }
}
