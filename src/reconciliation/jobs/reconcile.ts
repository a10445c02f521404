/** Runs the reconciler on what the service shares; the command `npm run reconcile` does the same. */
import type { Core } from '../../core.ts';
import { requireConfirmed } from '../../database/unconfirmed-restore.ts';
import { processingRepository } from '../../processing/run-step.ts';
import { PRIMARY, testedStores } from '../../storage-tests/stores.ts';
import { type ReconcileOutcome, type ReconcileReport, type ReconcileRequest, reconcile } from '../reconciler.ts';
import { ReconciliationRepository } from '../repository.ts';

/** Compares the object store with the records, now. @throws Error while a restore is not confirmed, unless the run is dry */
export async function reconcileStore(
  core: Core,
  request: ReconcileRequest,
): Promise<{ outcome: ReconcileOutcome; report: ReconcileReport }> {
  const { background, outbox, store, config, log } = core;
  if (!request.dryRun) await requireConfirmed(background.database);
  const processing = processingRepository(core);
  const options = {
    database: background,
    records: new ReconciliationRepository(background, outbox),
    derivatives: processing.derivatives,
    remake: (assetId: string) => processing.redo(assetId, 'derive'),
    store,
    others: testedStores(core).filter(({ name }) => name !== PRIMARY),
    keyPrefix: config.S3_KEY_PREFIX,
    grace: config.RECONCILE_GRACE,
    onAlarm: (message: string, detail: object) => log.error(detail, message),
  };
  return reconcile(options, request);
}
