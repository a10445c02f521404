import type { JobReference } from '../database/outbox.ts';
import type { StepName } from '../database/tables/processing-record.ts';

/** Queues of the steps. Verification is an affair of uploads, and its queue is older than the others. */
export function stepJob(step: StepName): JobReference<{ assetId: string }> {
  return { name: step === 'verify' ? 'verify-asset' : step };
}
