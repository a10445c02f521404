/**
 * Whether the store holds what the records say, and nothing else. Crashes and lost answers are mended by the reaper and
 * by jobs; this is for what those cannot know of, once a night, and for the operator by `npm run reconcile`.
 */
import type { Core } from '../core.ts';
import type { Feature } from '../feature.ts';
import { type Gauge, gaugesOf } from '../http/metrics.ts';
import { defineJob, HOUR, MINUTE, nothing } from '../jobs/job.ts';
import { reconcileStore } from './jobs/reconcile.ts';
import { type LastRun, ReconciliationRepository } from './repository.ts';
import { bringBack } from './returning.ts';

export const reconciliation: Feature<Core> = {
  name: 'reconciliation',
  jobs: [
    defineJob({
      name: 'reconcile',
      data: nothing,
      retries: 2,
      firstPause: 300,
      limit: 24 * HOUR,
      schedule: '41 3 * * *',
      run: async (_data, { signal }, core: Core) => {
        const { outcome, report } = await reconcileStore(core, { signal });
        core.log.info({ outcome, ...report }, 'object store and records compared');
      },
    }),
    defineJob({
      name: 'bring-back',
      keepsObjects: true,
      data: nothing,
      retries: 1,
      firstPause: MINUTE,
      limit: 6 * HOUR,
      schedule: '*/5 * * * *',
      run: async (_data, { id, signal }, core: Core) => {
        if (core.mirrors.length === 0) return;
        const { looked, returned, bytes, ready, failed } = await bringBack(core, { of: 'lost', jobId: id, signal });
        if (looked > 0)
          core.log.warn(
            { looked, returned, bytes, ready, failed: failed.length },
            'lost assets were looked for in mirrors',
          );
      },
    }),
  ],
  gauges,
};

function gauges({ background, outbox }: Core): Gauge[] {
  const records = new ReconciliationRepository(background, outbox);
  const found = (field: string) => (run: LastRun | undefined) => run && (run.report[field] ?? 0);
  return gaugesOf(
    () => records.lastRun(),
    [
      {
        name: 'stowage_unaccounted_bytes',
        help: 'Bytes of objects without a record, at the last reconciliation',
        of: found('unaccountedBytes'),
      },
      {
        name: 'stowage_lost_assets',
        help: 'Assets whose bytes are missing, at the last reconciliation',
        of: found('lostAssets'),
      },
      {
        name: 'stowage_quota_drift_bytes',
        help: 'Bytes by which quotas were wrong, at the last reconciliation',
        of: found('quotaDriftBytes'),
      },
      {
        name: 'stowage_reconciled_timestamp_seconds',
        help: 'When the last reconciliation ended',
        of: (run) => run && run.finishedAt.getTime() / 1000,
      },
    ],
  );
}
