/**
 * Requests that may be sent again. Other features use `Idempotency` by the core; what is plugged in here is only that
 * answers are forgotten in the end, and what was counted of callers.
 */
import { forgetCounts } from '../database/caller-counts.ts';
import type { DatabaseHandle } from '../database/client.ts';
import type { Feature } from '../feature.ts';
import { defineJob, nothing } from '../jobs/job.ts';
import type { Idempotency } from './idempotency.ts';

interface Needs {
  readonly idempotency: Idempotency;
  readonly background: DatabaseHandle;
}

export const idempotency: Feature<Needs> = {
  name: 'idempotency',
  jobs: [
    defineJob({
      name: 'forget-answers',
      data: nothing,
      schedule: '*/5 * * * *',
      run: async (_data, _context, core: Needs) => {
        await core.idempotency.forgetOld();
        await forgetCounts(core.background.database);
      },
    }),
  ],
};
