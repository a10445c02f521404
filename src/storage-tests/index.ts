/** Storage tests: an administrator asks whether the service can do with a store what it has to, and which right is missing. */
import type { Core } from '../core.ts';
import type { Feature } from '../feature.ts';
import { storageTestRunning } from './problems.ts';
import { storageTestRoutes } from './routes.ts';
import { testedStores } from './stores.ts';
import { StorageTester } from './tester.ts';

export const storageTests: Feature<Core> = {
  name: 'storage-tests',
  problems: [storageTestRunning],
  routes: (app, core) =>
    storageTestRoutes(app, { tester: new StorageTester(core.background), stores: testedStores(core) }),
};
