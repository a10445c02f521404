/** Runs the reconciler on what the service shares; the command `npm run reconcile` does the same. */
import type { Core } from '../../core.ts';
import { type ReconcileOutcome, type ReconcileReport, type ReconcileRequest, reconcile } from '../reconciler.ts';
import { ReconciliationRepository } from '../repository.ts';

/** Compares the object store with the records, now. */
export function reconcileStore(
  { background, outbox, store, config, log }: Core,
  request: ReconcileRequest,
): Promise<{ outcome: ReconcileOutcome; report: ReconcileReport }> {
  const options = {
    database: background,
    records: new ReconciliationRepository(background, outbox),
    store,
    keyPrefix: config.S3_KEY_PREFIX,
    grace: config.RECONCILE_GRACE,
    onAlarm: (message: string, detail: object) => log.error(detail, message),
  };
  return reconcile(options, request);
}
