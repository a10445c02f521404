/** Who stores something, and who pays: for administrators all owners, for members of a project its quota. */
import { AssetsRepository } from '../assets/repository.ts';
import type { Core } from '../core.ts';
import type { Feature } from '../feature.ts';
import { limitValues } from '../quotas/limit.ts';
import { QuotasRepository } from '../quotas/repository.ts';
import { ownerActions } from './audit.ts';
import { projectQuotaRoute } from './project-quota.ts';
import { OwnersRepository } from './repository.ts';
import { ownerRoutes } from './routes.ts';
import { tierRoute } from './tier-route.ts';

export const owners: Feature<Core> = {
  name: 'owners',
  auditActions: ownerActions,
  routes: (app, core) => {
    const { database } = core;
    const owners = new OwnersRepository(database, limitValues(core));
    tierRoute(app, { owners, tiers: core.tiers });
    ownerRoutes(app, {
      owners,
      assets: new AssetsRepository(database),
      database: database.database,
    });
    projectQuotaRoute(app, {
      quotas: new QuotasRepository(database, limitValues(core)),
      database: database.database,
    });
  },
};
