/**
 * `npm run reconcile -- [--dry-run] [--max-delete N]`: settles abandoned uploads, compares the object store with the
 * records both ways, and prints what was found. Exit code 0: all is as it should be now. 1: it stopped because too much
 * would have been deleted, assets are lost, or it failed. 2: another reconciliation is under way.
 */
import { parseArgs } from 'node:util';
import { withCore } from '../src/command.ts';
import { reconcileStore } from '../src/reconciliation/jobs/reconcile.ts';
import type { ReconcileReport } from '../src/reconciliation/reconciler.ts';
import { reapOutsideOfJobs } from '../src/uploads/jobs/reap-uploads.ts';

const meanings: Record<keyof ReconcileReport, string> = {
  objects: 'objects in the store',
  bytes: 'their bytes',
  foreignObjects: 'objects with keys that are not ours (left alone)',
  unaccountedObjects: 'objects without a record',
  unaccountedBytes: 'their bytes',
  deletedObjects: 'objects deleted',
  newlyLostAssets: 'assets found without their bytes',
  lostAssets: 'lost assets, all together',
  foundAssets: 'lost assets whose bytes are back',
  openUploads: 'multipart uploads left open',
  resumedDeletions: 'deletions that stood still',
  discardedDerivatives: 'Derivatives that stood still or belong to nobody',
  lostDerivatives: 'Derivatives without their object',
  driftedQuotas: 'quotas that were wrong',
  quotaDriftBytes: 'by so many bytes',
  driftedStatistics: 'counters of statistics that were wrong',
};

function readArguments(): { dryRun: boolean; mostDeleted?: number } {
  const { values } = parseArgs({
    options: { 'dry-run': { type: 'boolean', default: false }, 'max-delete': { type: 'string' } },
  });
  const limit = values['max-delete'];
  if (limit === undefined) return { dryRun: values['dry-run'] };
  if (!/^\d{1,12}$/.test(limit)) throw new Error('--max-delete must be a whole number');
  return { dryRun: values['dry-run'], mostDeleted: Number(limit) };
}

try {
  const request = readArguments();
  const { outcome, report } = await withCore(async (core) => {
    if (!request.dryRun) await reapOutsideOfJobs(core);
    return reconcileStore(core, request);
  });
  if (outcome === 'busy') {
    console.error('Another reconciliation is under way.');
    process.exitCode = 2;
  } else {
    for (const [name, meaning] of Object.entries(meanings))
      console.log(`${String(report[name as keyof ReconcileReport]).padStart(16)}  ${meaning}`);
    if (request.dryRun) console.log('A dry run: nothing was changed.');
    if (outcome === 'stopped')
      console.log(
        'STOPPED: so much would have gone that it looks like a mistake. Is this the right database and bucket?',
      );
    if (outcome === 'stopped' || report.lostAssets > 0) process.exitCode = 1;
  }
} catch (error) {
  console.error(`The reconciliation failed: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
