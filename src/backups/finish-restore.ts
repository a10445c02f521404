/** What follows when the database is rebuilt: its jobs are enqueued, and its records compared with the object store. */
import type { Core } from '../core.ts';
import { ReconciliationRepository } from '../reconciliation/repository.ts';
import { type CompareOutcome, compareObjects, type Finding } from './compare.ts';
import type { OpenedBackup } from './opened-backup.ts';
import { enqueueRestoredJobs, noteReport } from './repository.ts';

export interface FinishOptions {
  /** Of the database. */
  url: string;
  backup: OpenedBackup;
  /** Whether digests are compared too. */
  readsBytes: boolean;
  startedAt: Date;
  onFinding: (finding: Finding) => void;
}

export interface FinishOutcome extends CompareOutcome {
  jobs: { enqueued: number; leftOut: number };
}

/** May be repeated. */
export async function finishRestore(core: Core, options: FinishOptions): Promise<FinishOutcome> {
  const { background, outbox, store, config, jobs } = core;
  const queues = new Set(jobs.caused);
  const enqueued = await enqueueRestoredJobs(background, outbox, queues);
  const records = new ReconciliationRepository(background, outbox);
  const outcome = await compareObjects({ ...options, store, keyPrefix: config.S3_KEY_PREFIX, records });
  await noteReport(background.database, options.backup.document.id, { ...outcome.report });
  return { ...outcome, jobs: enqueued };
}
