/**
 * Versions: an asset is given other bytes under the same id, and what it had before is kept where its policy says so. How bytes
 * change place is in contents.ts, which uploads call when theirs are there; here versions are listed, fetched, restored and deleted.
 */
import type { Core } from '../core.ts';
import type { Feature } from '../feature.ts';
import { defineJob, nothing } from '../jobs/job.ts';
import { DerivativesRepository } from '../processing/derivatives.ts';
import { stepRules } from '../processing/rules.ts';
import { limitValues } from '../quotas/limit.ts';
import { versionActions } from './audit.ts';
import { contentsOf } from './contents-of.ts';
import { VersionsRepository } from './repository.ts';
import { versionRoutes } from './routes.ts';
import { versionSettings } from './settings.ts';

/** Statements that one run makes; the next one goes on. */
const BATCHES = 100;

export const versions: Feature<Core> = {
  name: 'versions',
  tags: [{ name: 'Versions', description: 'Give an asset other bytes, and go back to those that it had' }],
  settings: versionSettings,
  auditActions: versionActions,
  routes: (app, core) => versionRoutes(app, core, versionsRepository(core, core.database)),
  jobs: [
    defineJob({
      name: 'forget-replacements',
      data: nothing,
      schedule: '37 * * * *',
      run: async (_data, { signal }, core: Core) => {
        const repository = versionsRepository(core, core.background);
        for (let batch = 0; batch < BATCHES && !signal.aborted; batch++)
          if ((await repository.forgetReplacements()) === 0) return;
      },
    }),
  ],
};

function versionsRepository(core: Core, database: Core['database']): VersionsRepository {
  return new VersionsRepository(database, {
    contents: contentsOf(core, database),
    derivatives: new DerivativesRepository(database, core.outbox),
    rules: stepRules(core),
    grace: core.settings(versionSettings).REPLACED_GRACE / 1000,
    limits: limitValues(core),
  });
}
