/**
 * Shares: addresses by which strangers reach an asset, several, or a project. Who makes, sees and ends them is in routes.ts; how
 * strangers get in is in door.ts, which everything asks that shows or sends something of a share; how often they may is in
 * downloads.ts. docs/sharing.md says what follows from what.
 */
import type { Core } from '../core.ts';
import type { Feature } from '../feature.ts';
import { defineJob, nothing } from '../jobs/job.ts';
import { shareArchiveRoute } from './archive-route.ts';
import { shareActions } from './audit.ts';
import { ShareContentRoutes } from './content-routes.ts';
import { doorOf } from './door.ts';
import { foldShareMarks, forgetShareVisits } from './downloads.ts';
import { sharePasswordNeeded, shareViewOnly, tooManyShares } from './problems.ts';
import { removeEndedShares, SharesRepository } from './repository.ts';
import { shareRoutes } from './routes.ts';
import { shareSettings } from './settings.ts';
import { StrangerRoutes } from './stranger-routes.ts';
import { forgetTries } from './tries.ts';

export const shares: Feature<Core> = {
  name: 'shares',
  tags: [
    { name: 'Shares', description: 'Addresses by which strangers reach what you have' },
    { name: 'Shared', description: 'What strangers see and get by them, without a token' },
  ],
  settings: shareSettings,
  problems: [tooManyShares, sharePasswordNeeded, shareViewOnly],
  auditActions: shareActions,
  routes: (app, core) => {
    const door = doorOf(core);
    const { SHARES_PER_CALLER: perCaller, SHARES_PER_ASSET: perAsset } = core.settings(shareSettings);
    shareRoutes(app, { core, door, shares: new SharesRepository(core.database, door.keys, { perCaller, perAsset }) });
    new StrangerRoutes({ core, door }).register(app);
    new ShareContentRoutes(core, door).register(app);
    shareArchiveRoute(app, core, door);
  },
  jobs: [
    defineJob({
      name: 'fold-share-marks',
      keepsObjects: true,
      data: nothing,
      schedule: '* * * * *',
      run: (_data, { signal }, core: Core) => foldShareMarks(core.background, signal),
    }),
    defineJob({
      name: 'remove-ended-shares',
      data: nothing,
      schedule: '41 * * * *',
      run: async (_data, { signal }, core: Core) => {
        await forgetShareVisits(core.background);
        await forgetTries(core.background.database);
        await removeEndedShares(core.background.database, signal);
      },
    }),
  ],
};
