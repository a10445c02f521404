/**
 * Makes a transcode. The row of the derivative is its state: claimed when it was asked for, `progress` from when a worker
 * began. A worker that finds progress takes the place of one that died: it claims the name anew, under another key, so
 * that what the dead one may still write lies under a key of its own, and is removed.
 */
import { v7 as uuidv7 } from 'uuid';
import type { Core } from '../core.ts';
import type { Executor } from '../database/client.ts';
import type { JobReference, Outbox } from '../database/outbox.ts';
import type { JobContext } from '../jobs/job.ts';
import type { Derivative, DerivativesRepository } from '../processing/derivatives.ts';
import { keepDerivative } from '../processing/keep.ts';
import type { MediaFacts } from '../processing/media/facts.ts';
import { formats } from '../processing/media/formats.ts';
import type { MediaFile } from '../processing/media/input.ts';
import { probe } from '../processing/media/probe.ts';
import { toMediaFacts } from '../processing/media/record.ts';
import { transcode } from '../processing/media/transcode.ts';
import { processingRepository, workingCopy } from '../processing/run-step.ts';
import { processingSettings } from '../processing/settings.ts';
import type { ProcessedAsset } from '../processing/step.ts';
import { toolboxOf } from '../processing/toolbox.ts';
import { ScratchFull } from '../processing/tools/scratch.ts';
import { ToolError } from '../processing/tools/tool-error.ts';
import { limitsOf, targetOptions } from './limits.ts';
import { handOnTranscode } from './repository.ts';
import { whileWanted } from './while-wanted.ts';

export interface TranscodeData {
  assetId: string;
  /** Of the derivative. */
  name: string;
  /** Of the row that was claimed for it. */
  request: string;
  /** The lowest of those that wait is made next. Absent in jobs of earlier versions. */
  turn?: number;
}
export const transcodeJob: JobReference<TranscodeData> = { name: 'transcode' };

/** Enqueues it where its turn is. */
export async function sendTranscode(
  outbox: Pick<Outbox, 'send'>,
  transaction: Executor,
  data: TranscodeData,
): Promise<void> {
  await outbox.send(transaction, transcodeJob, data, { priority: -(data.turn ?? 0) });
}

/**
 * Gives jobs of which a worker has taken more than it does at once to whoever comes first. Each has another request from then on, so
 * that the job that was taken does nothing when it is tried again.
 */
export async function handOn(
  jobs: readonly TranscodeData[],
  { background, outbox }: Pick<Core, 'background' | 'outbox'>,
): Promise<void> {
  await background.transact(async (transaction) => {
    for (const data of jobs) {
      const next = newRequest();
      if (await handOnTranscode(transaction, data, next))
        await sendTranscode(outbox, transaction, { ...data, request: next });
    }
  });
}

export function newRequest(): string {
  return `transcode:${uuidv7()}`;
}

/** Bytes of the largest result: an hour and a half of six channels in WAV, or a film of two hours. */
const MAX_TRANSCODE = 4 * 1024 ** 3;

export async function runTranscode(data: TranscodeData, context: JobContext, core: Core): Promise<void> {
  const repository = processingRepository(core);
  const { derivatives } = repository;
  const row = await begin(derivatives, data, context);
  const asset = row && (await repository.find(data.assetId))?.asset;
  if (!row || asset?.objectKey !== row.sourceKey) return;
  const started = performance.now();
  const ended = (outcome: string) => toolboxOf(core).onStep('transcode', outcome, (performance.now() - started) / 1000);
  try {
    const wanted = await whileWanted(derivatives, row.id, context.signal, (signal, tell) =>
      make(row, asset, derivatives, core, { signal, fence: context.fence }, tell),
    );
    ended(wanted ? 'done' : 'skipped');
  } catch (error) {
    context.signal.throwIfAborted();
    const reason = reasonOf(error, asset.size, core);
    if (reason === undefined) throw error;
    await derivatives.fail(row.id, reason);
    ended('failed');
  }
}

/** What another try would not change. */
function reasonOf(error: unknown, size: number, core: Core): string | undefined {
  if (error instanceof ToolError && error.fault !== 'aborted') return error.fault;
  const hasNoRoom = error instanceof ScratchFull && size > core.settings(processingSettings).SCRATCH_BYTES;
  return hasNoRoom ? 'too-large' : undefined;
}

/** @returns the row to work on; undefined when nobody waits for it */
async function begin(
  derivatives: DerivativesRepository,
  { assetId, name, request }: TranscodeData,
  { fence }: JobContext,
): Promise<Derivative | undefined> {
  const found = await derivatives.find(assetId, name);
  if (found?.state !== 'making' || found.requestedBy !== request) return undefined;
  if (found.progress === null) return (await derivatives.renew(found.id, 0)) ? found : undefined;
  const { sourceKey, options } = found;
  const claim = await derivatives.claim(
    { assetId, kind: 'transcode', name, sourceKey, requestedBy: request, ...(options && { options }) },
    { inTransaction: fence },
  );
  if (claim.outcome !== 'claimed') return undefined;
  await derivatives.renew(claim.derivative.id, 0);
  return claim.derivative;
}

async function make(
  row: Derivative,
  asset: ProcessedAsset,
  derivatives: DerivativesRepository,
  core: Core,
  context: Pick<JobContext, 'signal' | 'fence'>,
  tell: (percent: number) => void,
): Promise<void> {
  const tools = toolboxOf(core);
  const { signal } = context;
  const sandbox = await tools.transcoder;
  const target = targetOptions.parse(row.options);
  const { maxDuration } = limitsOf(core.policies.named(asset.assetType));
  await using copy = await workingCopy(asset, core, tools, signal);
  const file: MediaFile = { path: copy.path, mediaType: asset.mediaType, size: asset.size };
  const facts: MediaFacts = asset.facts ? toMediaFacts(asset.facts) : await probe(sandbox, file, { signal });
  const made = await transcode(sandbox, file, target, facts, {
    directory: copy.directory,
    maxDuration,
    maxBytes: MAX_TRANSCODE,
    signal,
    // The last per cent is storing it.
    onProgress: (done) => tell(Math.min(99, Math.floor(done * 100))),
  });
  const { mediaType } = formats[target.format];
  const { width, height } = made.facts.video ?? {};
  const picture = { ...(width !== undefined && { width }), ...(height !== undefined && { height }) };
  await keepDerivative(
    row,
    { content: made.path, mediaType, ...picture },
    { derivatives, core, cacheControl: asset.cacheControl, maxBytes: MAX_TRANSCODE, context },
  );
}
