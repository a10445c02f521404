/** What the record of an asset becomes when a step has ended. */
import type { Facts, ProcessingRecord, Scan, StepName } from '../database/tables/processing-record.ts';
import { isServable, withEnded } from './pipeline.ts';
import type { EndedStep, FoundForStep, ReplacedOutcome } from './repository.ts';
import type { ProcessedAsset, StepOutcome } from './step.ts';

export interface Change {
  state: 'processing' | 'ready' | 'rejected';
  reason: string | null;
  processing: ProcessingRecord;
  scan: Scan | null;
  facts: Facts | null;
  thumbHash: string | null;
  original: ProcessedAsset['original'] | null;
  size: number;
  sha256: Buffer | null;
  mediaType: string;
  objectKey: string;
  isChange: boolean;
  action: 'asset.verified' | 'asset.processed' | 'asset.rejected' | null;
}

/** What the record becomes. */
export function changeOf(
  { asset, scan, processing, isHeld }: FoundForStep,
  step: StepName,
  outcome: EndedStep['outcome'],
): Change {
  const at = new Date().toISOString();
  const ended = { state: endedState(outcome), at, ...('reason' in outcome && { reason: outcome.reason }) };
  const also = outcome.kind === 'done' ? outcome.also : undefined;
  const own = withEnded(processing, step, ended);
  const record = also ? withEnded(own, also, { state: 'done', at }) : own;
  const isReady = asset.state === 'ready' || isServable(record);
  const change: Change = {
    state: isReady ? 'ready' : 'processing',
    reason: null,
    processing: record,
    scan: ('scan' in outcome && outcome.scan) || scan || null,
    facts: asset.facts ?? null,
    thumbHash: asset.thumbHash ?? null,
    original: asset.original ?? null,
    size: asset.size,
    sha256: asset.sha256 ?? null,
    mediaType: asset.mediaType,
    objectKey: asset.objectKey,
    isChange: isReady !== (asset.state === 'ready'),
    action: isReady && asset.state !== 'ready' ? (step === 'verify' ? 'asset.verified' : 'asset.processed') : null,
  };
  if (outcome.kind === 'done') {
    if (outcome.facts) change.facts = outcome.facts;
    if (outcome.thumbHash !== undefined) change.thumbHash = outcome.thumbHash;
    if (outcome.sha256) change.sha256 = outcome.sha256;
  }
  if (outcome.kind === 'rejected')
    return rejected(change, asset, { ...outcome, removesBytes: outcome.removesBytes && !isHeld });
  if (outcome.kind === 'replaced') return replaced(change, asset, outcome);
  return change;
}

function endedState(outcome: EndedStep['outcome']): 'done' | 'failed' | 'skipped' {
  if (outcome.kind === 'failed' || outcome.kind === 'skipped') return outcome.kind;
  return 'done';
}

/** Never served. Where its bytes go, it counts no more than an empty file, and `original` tells what was sent. */
function rejected(change: Change, asset: ProcessedAsset, outcome: StepOutcome & { kind: 'rejected' }): Change {
  const { reason, removesBytes } = outcome;
  const processing = Object.fromEntries(
    Object.entries(change.processing).map(([name, step]) => [
      name,
      step.state === 'waiting' ? { state: 'skipped', reason } : step,
    ]),
  );
  return {
    ...change,
    state: 'rejected',
    reason,
    processing,
    isChange: true,
    action: 'asset.rejected',
    ...(removesBytes && { size: 0, original: asset.original ?? originalOf(asset) ?? null }),
  };
}

function replaced(change: Change, asset: ProcessedAsset, outcome: ReplacedOutcome): Change {
  const { size, sha256, mediaType, objectKey } = outcome;
  const original = asset.original ?? outcome.original ?? originalOf(asset) ?? null;
  return { ...change, size, sha256, mediaType, objectKey, original, isChange: true };
}

function originalOf({ size, sha256 }: ProcessedAsset) {
  return sha256 && { size, sha256: sha256.toString('hex') };
}
