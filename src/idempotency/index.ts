/**
 * Requests that may be sent again. Other features use `Idempotency` by the core; what is plugged in here is only that
 * answers are forgotten in the end.
 */
import type { Feature } from '../feature.ts';
import { defineJob, nothing } from '../jobs/job.ts';
import type { Idempotency } from './idempotency.ts';

interface Needs {
  readonly idempotency: Idempotency;
}

export const idempotency: Feature<Needs> = {
  name: 'idempotency',
  jobs: [
    defineJob({
      name: 'forget-answers',
      data: nothing,
      schedule: '29 * * * *',
      run: (_data, _context, core: Needs) => core.idempotency.forgetOld(),
    }),
  ],
};
