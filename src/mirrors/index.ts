/**
 * Mirrors: every stored object has a copy in other buckets, at other providers if wanted. The copies are made after the answer,
 * and no upload waits for them or fails because of them; docs/durability.md tells what holds when a mirror does not work.
 */
import { v7 as uuidv7 } from 'uuid';
import type { Core } from '../core.ts';
import type { Feature } from '../feature.ts';
import { mirrorActions } from './audit.ts';
import { mirrorChecks } from './checks.ts';
import { closeCopiers, startCopiers } from './copiers.ts';
import { mirrorJobs } from './jobs.ts';
import { KnownMirrors } from './known-mirrors.ts';
import { mirrorGauges } from './metrics.ts';
import { mirrorInUse } from './problems.ts';
import { mirrorRoutes } from './routes.ts';
import { mirrorSettings } from './settings.ts';

export const mirrors: Feature<Core> = {
  name: 'mirrors',
  settings: mirrorSettings,
  problems: [mirrorInUse],
  auditActions: mirrorActions,
  routes: (app, core) =>
    mirrorRoutes(app, {
      known: new KnownMirrors(core.database, core.outbox),
      configured: core.mirrors,
      lag: core.settings(mirrorSettings).MIRROR_LAG,
    }),
  jobs: mirrorJobs,
  gauges: mirrorGauges,
  checks: mirrorChecks,
  start: ({ background, outbox, mirrors }) => new KnownMirrors(background, outbox).add(mirrors, uuidv7()),
  work: startCopiers,
  close: closeCopiers,
};
