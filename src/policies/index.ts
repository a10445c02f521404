/** What may be uploaded, told to clients, so that a file dialog offers what the service accepts. */
import type { Core } from '../core.ts';
import type { Feature } from '../feature.ts';
import { policyRoutes } from './routes.ts';

export const policies: Feature<Core> = {
  name: 'policies',
  routes: (app, core) => policyRoutes(app, core.policies),
};
