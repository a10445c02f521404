/**
 * Which steps a file goes through, and what follows when one has ended. Pure: the record (`assets.processing`) says how far
 * a file is, the jobs only bring the work; so a job that runs twice, or late, does nothing wrong.
 *
 *   verify -> scan -> strip -> reencode -> facts -> derive
 *
 * An asset is `processing` until `verify`, `scan`, `strip` and `reencode` have ended; facts and derivatives never hold it back. A step
 * runs when it is the first that waits, so none runs on bytes that an earlier one has refused.
 */
import type { ProcessingRecord, StepName, StepRecord } from '../database/tables/processing-record.ts';
import { stepNames } from '../database/tables/processing-record.ts';

/** What is known of a file when steps are chosen. */
export interface PlannedFile {
  mediaType: string;
  assetType: string;
  /** Bytes. */
  size: number;
}

/** Whether a step has anything to do with a file, by the policies and the settings. */
export type StepRules = { readonly [Name in Exclude<StepName, 'verify'>]: (file: PlannedFile) => boolean };

const necessary: readonly StepName[] = ['verify', 'scan', 'strip', 'reencode'];

/**
 * @param file what was stored
 * @param ended steps that were done while the file came in, as they ended
 * @param needsVerification whether its bytes are still to be read back
 * @returns undefined when there is nothing to do and nothing to tell
 */
export function plan(
  rules: StepRules,
  file: PlannedFile,
  ended: ProcessingRecord,
  needsVerification: boolean,
): ProcessingRecord | undefined {
  const record: ProcessingRecord = {};
  if (needsVerification) record.verify = { state: 'waiting' };
  for (const name of stepNames) {
    if (name === 'verify' || !rules[name](file)) continue;
    record[name] = ended[name] ?? { state: 'waiting' };
  }
  return Object.keys(record).length === 0 ? undefined : record;
}

/** The step whose turn it is; undefined when all have ended. */
export function nextStep(record: ProcessingRecord | undefined): StepName | undefined {
  return stepNames.find((name) => record?.[name]?.state === 'waiting');
}

/** Whether the asset may be served already. */
export function isServable(record: ProcessingRecord | undefined): boolean {
  return !necessary.some((name) => record?.[name]?.state === 'waiting');
}

/** The record after a step has ended. */
export function withEnded(record: ProcessingRecord, step: StepName, ended: StepRecord): ProcessingRecord {
  return { ...record, [step]: ended };
}

/** Where nothing is processed. */
export const noSteps: StepRules = {
  scan: () => false,
  strip: () => false,
  reencode: () => false,
  facts: () => false,
  derive: () => false,
};
