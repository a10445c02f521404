/**
 * What a step is. Each lies in a file of its own in `steps/`; what it has found out, or made, it returns, and what is
 * written of that, in one transaction, is the affair of run-step.ts.
 */
import type { Core } from '../core.ts';
import type { Facts, Original, Scan, StepName } from '../database/tables/processing-record.ts';
import type { JobContext, JobSettings } from '../jobs/job.ts';
import type { UploadPolicy } from '../validation/upload-policies.ts';
import type { Toolbox } from './toolbox.ts';

/** An asset as steps see it. */
export interface ProcessedAsset {
  id: string;
  ownerId: string;
  name: string;
  state: 'processing' | 'ready';
  assetType: string;
  mediaType: string;
  /** Bytes. */
  size: number;
  sha256?: Buffer;
  objectKey: string;
  cacheControl: string;
  facts?: Facts;
  original?: Original;
  thumbHash?: string;
  createdAt: Date;
}

/**
 * A file that holds the bytes of the asset; of this step alone is the directory for what it makes. Both go when what the
 * step has made is stored, unless it says before that it needs them no more.
 */
export interface WorkingCopy extends AsyncDisposable {
  readonly path: string;
  readonly directory: string;
}

export interface StepWork {
  readonly asset: ProcessedAsset;
  /** The policy it was stored under; undefined when it has been removed since. */
  readonly policy: UploadPolicy | undefined;
  readonly core: Core;
  readonly tools: Toolbox;
  readonly context: JobContext;
  /** When the step was put off for the first time; see the outcome `later`. */
  readonly waitingSince?: Date;
  /** The step whose turn it is when this one has ended well. */
  readonly follows?: StepName;
  /** Fetches the bytes, once for all steps of this file that run on this machine. */
  workingCopy(): Promise<WorkingCopy>;
}

/** Bytes that take the place of the original. They lie in a file until they are stored. */
export interface Replacement {
  path: string;
  size: number;
  sha256: Buffer;
  /** Where it is another one. */
  mediaType?: string;
  /** What was sent, when the step knows it better than the record. */
  original?: Original;
}

/**
 * `done` with what was found out; `also` names a step that was done along with it; `skipped` and `failed` for a reason, and the asset goes on; `rejected`: it is never
 * served, and `removesBytes` says that its bytes go too (and its quota is free); `replaced`: other bytes are served from now on.
 * `later`: it is put off for so many seconds, for a reason that the record tells.
 */
export type StepOutcome =
  | { kind: 'done'; facts?: Facts; thumbHash?: string; scan?: Scan; sha256?: Buffer; also?: StepName }
  | { kind: 'skipped' | 'failed'; reason: string }
  | { kind: 'rejected'; reason: string; removesBytes: boolean; scan?: Scan }
  | { kind: 'replaced'; by: Replacement }
  | { kind: 'later'; reason: string; seconds: number };

export interface Step {
  readonly name: Exclude<StepName, 'verify'>;
  /** What it makes takes the place of what was sent. */
  readonly replaces?: true;
  /** How its jobs are kept and tried. */
  readonly settings?: Partial<JobSettings>;
  /**
   * Does the work; may run twice. What its tools refuse is an outcome.
   * @throws what may go away by itself, such as ObjectStoreUnavailable: the job is tried again
   */
  run(work: StepWork): Promise<StepOutcome>;
}
