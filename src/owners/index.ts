/** Who stores something, and who pays: for administrators all owners, for members of a project its quota. */
import { AssetsRepository } from '../assets/repository.ts';
import type { Core } from '../core.ts';
import type { Feature } from '../feature.ts';
import { QuotasRepository } from '../quotas/repository.ts';
import { ownerActions } from './audit.ts';
import { projectQuotaRoute } from './project-quota.ts';
import { OwnersRepository } from './repository.ts';
import { ownerRoutes } from './routes.ts';

export const owners: Feature<Core> = {
  name: 'owners',
  auditActions: ownerActions,
  routes: (app, { database, config }) => {
    ownerRoutes(app, {
      owners: new OwnersRepository(database.database, config.DEFAULT_QUOTA),
      assets: new AssetsRepository(database),
      database: database.database,
    });
    projectQuotaRoute(app, {
      quotas: new QuotasRepository(database, config.DEFAULT_QUOTA),
      database: database.database,
    });
  },
};
