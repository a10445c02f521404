/** Does a step of an asset and writes down what came of it. May be run twice at once: the second one writes nothing. */
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import type { Core } from '../core.ts';
import { systemActor } from '../database/audit.ts';
import type { JobContext } from '../jobs/job.ts';
import { limitValues } from '../quotas/limit.ts';
import { type ObjectAttributes, ObjectStoreUnavailable } from '../storage/object-store.ts';
import { nextStep, withEnded } from './pipeline.ts';
import { ProcessingRepository, type ReplacedOutcome } from './repository.ts';
import type { ProcessedAsset, Replacement, Step, StepOutcome, WorkingCopy } from './step.ts';
import { type Toolbox, toolboxOf } from './toolbox.ts';
import { ScratchFull } from './tools/scratch.ts';
import { ToolError } from './tools/tool-error.ts';

/**
 * A held file keeps its bytes, and is not served as it is where its policy wants others: the step waits until nothing holds it.
 * Whoever takes a hold off has it done at once; that a retention has ended is seen after so many seconds.
 */
const whileHeld = { reason: 'held', seconds: 3600 };

/** Milliseconds to wait for memory for what goes to the store. */
const BUFFER_WAIT = 60_000;

export function processingRepository(core: Core): ProcessingRepository {
  return new ProcessingRepository(core.background, core.outbox, limitValues(core));
}

export async function runStep(step: Step, assetId: string, context: JobContext, core: Core): Promise<void> {
  const repository = processingRepository(core);
  const found = await repository.find(assetId);
  if (!found || nextStep(found.processing) !== step.name) return;
  const { asset } = found;
  if (found.isHeld && step.replaces) {
    await repository.putOff(assetId, step.name, whileHeld, context.fence);
    return;
  }
  const tools = toolboxOf(core);
  // What a step makes lies beside its working copy, and is stored when the step has ended.
  await using copies = new AsyncDisposableStack();
  const putOffAt = found.processing[step.name]?.at;
  const follows = nextStep(withEnded(found.processing, step.name, { state: 'done' }));
  const started = performance.now();
  const outcome = await outcomeOf(step, {
    asset,
    policy: core.policies.named(asset.assetType),
    core,
    tools,
    context,
    workingCopy: async () => copies.use(await workingCopy(asset, core, tools, context.signal)),
    ...(follows && { follows }),
    ...(putOffAt !== undefined && { waitingSince: new Date(putOffAt) }),
  });
  const seconds = (performance.now() - started) / 1000;
  tools.onStep(step.name, outcome.kind, seconds);
  if (outcome.kind === 'done' && outcome.also) tools.onStep(outcome.also, 'done', seconds);
  if (outcome.kind === 'later') {
    await repository.putOff(assetId, step.name, outcome, context.fence);
    return;
  }
  const actor = systemActor('processing', context.id);
  if (outcome.kind !== 'replaced') {
    await repository.end(assetId, { name: step.name, outcome, objectKey: asset.objectKey }, actor, context.fence);
    return;
  }
  const replaced = await store(outcome.by, asset, repository, core, context);
  if (!replaced) return;
  const ended = { name: step.name, outcome: replaced, objectKey: asset.objectKey };
  const recorded = await repository.end(assetId, ended, actor, context.fence);
  if (recorded === 'recorded') return;
  await repository.derivatives.discard([replaced.derivativeId]);
  // Where the asset has gone, the row may have gone with it, and nobody else knows the object.
  await core.store.delete(replaced.objectKey, {});
  if (recorded === 'void') return;
  if (recorded === 'held') {
    await repository.putOff(assetId, step.name, whileHeld, context.fence);
    return;
  }
  const refused = { kind: 'failed' as const, reason: 'quota-exceeded' };
  await repository.end(assetId, { ...ended, outcome: refused }, actor, context.fence);
}

/** What the tools refuse is an outcome; what may go away by itself is not. */
async function outcomeOf(step: Step, work: Parameters<Step['run']>[0]): Promise<StepOutcome> {
  try {
    return await step.run(work);
  } catch (error) {
    work.context.signal.throwIfAborted();
    // A file that may tell of its sender is not served because it could not be looked into: the job tries on.
    if (step.name === 'strip') throw error;
    if (error instanceof ToolError && error.fault !== 'aborted') return { kind: 'failed', reason: error.reason };
    if (error instanceof ScratchFull && error.isForGood) return { kind: 'failed', reason: 'too-large' };
    throw error;
  }
}

/** A file that holds the bytes of the asset, fetched once for all that work on it on this machine. */
export function workingCopy(
  { objectKey, size }: Pick<ProcessedAsset, 'objectKey' | 'size'>,
  { store }: Core,
  { scratch }: Toolbox,
  signal: AbortSignal,
): Promise<WorkingCopy> {
  const fetch = async (path: string, fetching: AbortSignal) => {
    const body = await store.get(objectKey, { signal: fetching });
    if (!body) throw new ObjectStoreUnavailable('the object is not there');
    const file = await open(path, 'wx', 0o600);
    await pipeline(body.stream, file.createWriteStream());
  };
  return scratch.open(objectKey, fetch, size, { signal });
}

/** Stores what takes the place of the original, under a key of its own that was written down before. */
async function store(
  { path, size, sha256, mediaType, original }: Replacement,
  asset: ProcessedAsset,
  { derivatives }: ProcessingRepository,
  { store, buffers }: Core,
  { signal }: JobContext,
): Promise<ReplacedOutcome | undefined> {
  const claim = await derivatives.claim(
    { assetId: asset.id, kind: 'replacement', name: 'replacement', sourceKey: asset.objectKey },
    { again: true },
  );
  if (claim.outcome === 'busy' || claim.outcome === 'busy-elsewhere')
    throw new Error('another worker replaces the bytes of the asset');
  if (claim.outcome !== 'claimed') return undefined;
  const { id, objectKey } = claim.derivative;
  const before = await store.head(asset.objectKey, { signal });
  if (!before) throw new ObjectStoreUnavailable('the object is not there');
  const type = mediaType ?? asset.mediaType;
  const attributes: ObjectAttributes = {
    contentType: type,
    contentDisposition: before.contentDisposition,
    cacheControl: before.cacheControl,
    metadata: { ...before.metadata, sha256: sha256.toString('hex') },
  };
  try {
    await store.putStream(objectKey, () => createReadStream(path), attributes, {
      ...{ buffers, wait: BUFFER_WAIT, size, sha256, signal },
    });
  } catch (error) {
    await derivatives.discard([id]);
    throw error;
  }
  return {
    kind: 'replaced',
    derivativeId: id,
    objectKey,
    size,
    sha256,
    mediaType: type,
    ...(original && { original }),
  };
}
