/**
 * Several files as one download: a ZIP archive that is made while it is sent. Nothing is stored, nothing is compressed (most
 * files are already), and its length and each range of it are known beforehand.
 */
import { z } from 'zod';
import type { Core } from '../core.ts';
import type { Feature } from '../feature.ts';
import { defineJob, HOUR } from '../jobs/job.ts';
import { VariantKeys } from '../variants/keys.ts';
import { archiveActions } from './audit.ts';
import { findChecksums, findChecksumsJob } from './find-checksums.ts';
import { archiveSettings, archiveTooLarge } from './limits.ts';
import { ArchivesRepository } from './repository.ts';
import { archiveRoutes } from './routes.ts';
import { archivesOf } from './service.ts';

export const archives: Feature<Core> = {
  name: 'archives',
  settings: archiveSettings,
  problems: [archiveTooLarge],
  auditActions: archiveActions,
  routes: (app, core) =>
    archiveRoutes(app, {
      archives: archivesOf(core),
      keys: new VariantKeys(core.database.database, core.onError),
      config: core.config,
      maxBytes: core.settings(archiveSettings).MAX_ARCHIVE_SIZE,
      findChecksums: async (ids) => {
        await core.outbox.send(core.database.database, findChecksumsJob, { ids });
        core.outbox.wake(findChecksumsJob);
      },
    }),
  jobs: [
    defineJob({
      ...findChecksumsJob,
      data: z.object({ ids: z.array(z.string()) }),
      retries: 3,
      firstPause: 60,
      limit: 6 * HOUR,
      run: ({ ids }, { signal }, { background, store }: Core) =>
        findChecksums({ repository: new ArchivesRepository(background.database), store }, ids, signal),
    }),
  ],
};
