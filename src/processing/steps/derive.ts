/**
 * Makes the derivatives that the policy names, each as an object beside the original with a record of its own. One that
 * cannot be made is a record that says why; the others are made all the same.
 */
import type { Derivative, DerivativesRepository } from '../derivatives.ts';
import { keepDerivative } from '../keep.ts';
import type { MadeDerivatives, WantedDerivative } from '../maker.ts';
import { makerOf } from '../makers.ts';
import { processingRepository } from '../run-step.ts';
import type { Step, StepWork } from '../step.ts';
import { ToolError } from '../tools/tool-error.ts';
import { wantedDerivatives } from '../wanted.ts';

/** Bytes; a derivative that is no transcode is a small thing to look at. */
export const MAX_DERIVATIVE = 4 * 1024 * 1024;

export const deriveStep: Step = {
  name: 'derive',
  settings: { concurrency: 8 },
  run: async (work) => {
    const { asset, policy, core } = work;
    const { derivatives } = processingRepository(core);
    const wanted = wantedDerivatives(core, policy, asset.mediaType);
    const claimed = await claimAll(derivatives, wanted, work);
    if (claimed.size === 0) return { kind: 'done' };
    try {
      await using file = await work.workingCopy();
      const { made, thumbHash } = await make(wanted, claimed, work, file);
      const { cacheControl } = asset;
      const keeping = { derivatives, core, cacheControl, maxBytes: MAX_DERIVATIVE, context: work.context };
      for (const [name, derivative] of claimed) {
        const result = made.get(name) ?? 'unsupported';
        if (typeof result === 'string') await derivatives.fail(derivative.id, result);
        else await keepDerivative(derivative, result, keeping);
      }
      return { kind: 'done', ...(thumbHash !== undefined && { thumbHash }) };
    } catch (error) {
      // The next try claims them anew.
      await derivatives.discard([...claimed.values()].map(({ id }) => id)).catch(() => {});
      throw error;
    }
  },
};

/** @returns those that are to be made now, by name */
async function claimAll(
  derivatives: DerivativesRepository,
  wanted: ReadonlyMap<string, WantedDerivative>,
  { asset, context }: StepWork,
): Promise<Map<string, Derivative>> {
  const claimed = new Map<string, Derivative>();
  for (const name of wanted.keys()) {
    const claim = await derivatives.claim(
      { assetId: asset.id, kind: 'derivative', name, sourceKey: asset.objectKey, requestedBy: `job:${context.id}` },
      { again: true },
    );
    if (claim.outcome === 'claimed') claimed.set(name, claim.derivative);
  }
  return claimed;
}

/** What the tools refuse is the reason for all of them. */
async function make(
  wanted: ReadonlyMap<string, WantedDerivative>,
  claimed: ReadonlyMap<string, Derivative>,
  { asset, tools, context }: StepWork,
  file: Awaited<ReturnType<StepWork['workingCopy']>>,
): Promise<MadeDerivatives> {
  const maker = makerOf(asset.mediaType);
  if (!maker) return { made: new Map() };
  const now = new Map([...wanted].filter(([name]) => claimed.has(name)));
  try {
    return await maker.make(now, { asset, file, tools, signal: context.signal });
  } catch (error) {
    context.signal.throwIfAborted();
    if (!(error instanceof ToolError) || error.fault === 'aborted') throw error;
    return { made: new Map([...claimed.keys()].map((name) => [name, error.reason])) };
  }
}
