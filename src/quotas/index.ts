/** What an owner or a project may store, and does. Who grants is the statement that begins an upload; see `reserve`. */
import type { Core } from '../core.ts';
import type { Feature } from '../feature.ts';
import { quotaActions } from './audit.ts';
import { limitValues } from './limit.ts';
import { QuotasRepository } from './repository.ts';
import { quotaRoutes } from './routes.ts';

export const quotas: Feature<Core> = {
  name: 'quotas',
  tags: [{ name: 'Quotas', description: 'What an owner or a project may store, and does' }],
  auditActions: quotaActions,
  routes: (app, core) =>
    quotaRoutes(app, {
      quotas: new QuotasRepository(core.database, limitValues(core)),
      database: core.database.database,
    }),
};
