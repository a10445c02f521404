/** What an owner has stored, counted by whatever an application shows: kinds, projects, days. */
import type { Core } from '../core.ts';
import type { Feature } from '../feature.ts';
import { UsageRepository } from './repository.ts';
import { usageRoutes } from './routes.ts';

export const usage: Feature<Core> = {
  name: 'usage',
  routes: (app, { database }) => usageRoutes(app, { usage: new UsageRepository(database.database) }),
};
