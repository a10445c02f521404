/**
 * Makes the derivatives that the policy names, each as an object beside the original with a record of its own. One that
 * cannot be made is a record that says why; the others are made all the same.
 */
import { type Derivative, type DerivativesRepository, MAKING_LEASE } from '../derivatives.ts';
import { keepDerivative } from '../keep.ts';
import type { MadeDerivatives, MakerWork, WantedDerivative } from '../maker.ts';
import { makerOf } from '../makers.ts';
import { processingRepository } from '../run-step.ts';
import type { Step, StepOutcome, StepWork } from '../step.ts';
import { ToolError } from '../tools/tool-error.ts';
import { wantedDerivatives } from '../wanted.ts';

/** Bytes; a derivative that is no transcode is a small thing to look at. */
export const MAX_DERIVATIVE = 4 * 1024 * 1024;

export const deriveStep: Step = {
  name: 'derive',
  settings: { concurrency: 8 },
  run: (work) => makeDerivatives(work, orReason),
};

type Make = (wanted: ReadonlyMap<string, WantedDerivative>, work: MakerWork) => Promise<MadeDerivatives>;

/**
 * Makes and stores what the policy names and is not there.
 * @returns `later` when somebody else is making one, or has died of it not long ago
 */
export async function makeDerivatives(work: StepWork, make: Make): Promise<StepOutcome & { kind: 'done' | 'later' }> {
  const { asset, policy, core, tools, context } = work;
  const { derivatives } = processingRepository(core);
  const wanted = wantedDerivatives(core, policy, asset.mediaType);
  const { claimed, isBusy } = await claimAll(derivatives, wanted, work);
  const ended = isBusy ? ({ kind: 'later', reason: 'busy', seconds: MAKING_LEASE } as const) : undefined;
  // Who stored the last of them may have died before he told the placeholder.
  const isAllThere = wanted.size === 0 || asset.thumbHash !== undefined;
  if (claimed.size === 0 && (ended || isAllThere)) return ended ?? { kind: 'done' };
  try {
    await using file = await work.workingCopy();
    const now = new Map([...wanted].filter(([name]) => claimed.has(name)));
    const { made, thumbHash } = await make(now, { asset, file, tools, signal: context.signal });
    const { cacheControl } = asset;
    const keeping = { derivatives, core, cacheControl, maxBytes: MAX_DERIVATIVE, context };
    for (const [name, derivative] of claimed) {
      const result = made.get(name) ?? 'unsupported';
      if (typeof result === 'string') await derivatives.fail(derivative.id, result);
      else await keepDerivative(derivative, result, keeping);
    }
    return ended ?? { kind: 'done', ...(thumbHash !== undefined && { thumbHash }) };
  } catch (error) {
    // The next try claims them anew.
    await derivatives.discard([...claimed.values()].map(({ id }) => id)).catch(() => {});
    throw error;
  }
}

/** @returns those that are to be made now, by name */
async function claimAll(
  derivatives: DerivativesRepository,
  wanted: ReadonlyMap<string, WantedDerivative>,
  { asset, context }: StepWork,
): Promise<{ claimed: Map<string, Derivative>; isBusy: boolean }> {
  const claimed = new Map<string, Derivative>();
  let isBusy = false;
  for (const name of wanted.keys()) {
    const claim = await derivatives.claim(
      { assetId: asset.id, kind: 'derivative', name, sourceKey: asset.objectKey, requestedBy: `job:${context.id}` },
      { again: true },
    );
    if (claim.outcome === 'claimed') claimed.set(name, claim.derivative);
    isBusy ||= claim.outcome === 'busy' || claim.outcome === 'busy-elsewhere';
  }
  return { claimed, isBusy };
}

/** What the tools refuse is the reason for all of them. */
async function orReason(wanted: ReadonlyMap<string, WantedDerivative>, work: MakerWork): Promise<MadeDerivatives> {
  const maker = makerOf(work.asset.mediaType);
  if (!maker) return { made: new Map() };
  try {
    return await maker.make(wanted, work);
  } catch (error) {
    work.signal.throwIfAborted();
    if (!(error instanceof ToolError) || error.fault === 'aborted') throw error;
    return { made: new Map([...wanted.keys()].map((name) => [name, error.reason])) };
  }
}
