/**
 * API keys: credentials of servers, which need no issuer of tokens. A key speaks for its owner, with the scopes and for the
 * projects that it was made for; with `act-for` it speaks for the users of an application. How a secret becomes a caller is
 * in access/credentials.ts; here keys are made, shown and revoked.
 */
import type { Core } from '../core.ts';
import type { Feature } from '../feature.ts';
import { defineJob, nothing } from '../jobs/job.ts';
import { keyActions } from './audit.ts';
import { KeysRepository } from './repository.ts';
import { keyRoutes } from './routes.ts';

/** Of the statements that one run makes; the next one goes on. */
const BATCHES = 100;

export const keys: Feature<Core> = {
  name: 'keys',
  tags: [{ name: 'Access', description: 'Keys for servers, tickets for browsers' }],
  auditActions: keyActions,
  routes: (app, core) => keyRoutes(app, new KeysRepository(core.database)),
  jobs: [
    defineJob({
      name: 'remove-dead-keys',
      data: nothing,
      schedule: '17 * * * *',
      run: async (_data, { signal }, core: Core) => {
        const repository = new KeysRepository(core.background);
        for (let batch = 0; batch < BATCHES && !signal.aborted; batch++)
          if ((await repository.removeDead()) === 0) return;
      },
    }),
  ],
};
