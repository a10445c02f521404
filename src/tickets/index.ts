/**
 * Upload tickets: what a backend gives to its page, so that a browser may upload and can do nothing else. How a token becomes a
 * caller is in access/credentials.ts, what a ticket says of each file in terms.ts, and how its files are counted in
 * counting.ts, which uploads call; here tickets are given out, shown and revoked.
 */
import type { Core } from '../core.ts';
import type { Feature } from '../feature.ts';
import { defineJob, nothing } from '../jobs/job.ts';
import { placesOf } from '../projects/settings.ts';
import { ticketActions } from './audit.ts';
import { ticketUsedUp, tooManyTickets } from './problems.ts';
import { TicketsRepository } from './repository.ts';
import { ticketRoutes } from './routes.ts';
import { ticketSettings } from './settings.ts';

/** Of the statements that one run makes; the next one goes on. */
const BATCHES = 100;

export const tickets: Feature<Core> = {
  name: 'tickets',
  settings: ticketSettings,
  problems: [ticketUsedUp, tooManyTickets],
  auditActions: ticketActions,
  routes: (app, core) =>
    ticketRoutes(app, {
      tickets: new TicketsRepository(core.database),
      places: placesOf(core),
      policies: core.policies,
      limits: {
        perHour: core.settings(ticketSettings).TICKETS_PER_HOUR,
        atOnce: core.settings(ticketSettings).TICKETS_PER_CALLER,
      },
    }),
  jobs: [
    defineJob({
      name: 'remove-dead-tickets',
      data: nothing,
      schedule: '27 * * * *',
      run: async (_data, { signal }, core: Core) => {
        const repository = new TicketsRepository(core.background);
        for (let batch = 0; batch < BATCHES && !signal.aborted; batch++)
          if ((await repository.removeDead()) === 0) return;
      },
    }),
  ],
};
