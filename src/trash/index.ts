/**
 * Emptying the trash: what DELETE of one asset after another would do, as one job. Who asks gets his answer at once, and sees
 * how far it is.
 */
import { z } from 'zod';
import { AssetDeletions } from '../assets/deletions.ts';
import type { Core } from '../core.ts';
import type { Feature } from '../feature.ts';
import { defineJob, HOUR, MINUTE } from '../jobs/job.ts';
import { trashActions } from './audit.ts';
import { emptyTrash } from './jobs/empty-trash.ts';
import { emptyTrashJob, TrashRepository } from './repository.ts';
import { trashRoutes } from './routes.ts';

export const trash: Feature<Core> = {
  name: 'trash',
  auditActions: trashActions,
  routes: (app, { database, outbox }) =>
    trashRoutes(app, { trash: new TrashRepository(database, outbox), database: database.database }),
  jobs: [
    defineJob({
      ...emptyTrashJob,
      data: z.object({ account: z.string(), id: z.string() }),
      // It goes on with what is left.
      retries: 100,
      firstPause: 2,
      longestPause: 5 * MINUTE,
      limit: 6 * HOUR,
      run: ({ account, id }, context, { background, outbox }: Core) =>
        emptyTrash(
          { trash: new TrashRepository(background, outbox), deletions: new AssetDeletions(background, outbox) },
          { account, id },
          context,
        ),
    }),
  ],
};
