/**
 * Scanning again what is stored: signatures of today find what those of the day of the upload did not know. An
 * administrator asks for it; a job does it in the background, and takes what is infected out of service.
 */
import { z } from 'zod';
import type { Core } from '../core.ts';
import type { Feature } from '../feature.ts';
import { defineJob, HOUR, MINUTE } from '../jobs/job.ts';
import { processingRepository } from '../processing/run-step.ts';
import { scannerOf } from '../scanning/scanner.ts';
import { rescanActions } from './audit.ts';
import { rescan } from './jobs/rescan.ts';
import { RescansRepository, rescanJob } from './repository.ts';
import { rescanRoutes } from './routes.ts';

export const rescans: Feature<Core> = {
  name: 'rescans',
  auditActions: rescanActions,
  routes: (app, core) =>
    rescanRoutes(app, {
      scans: new RescansRepository(core.database, core.outbox),
      hasScanner: scannerOf(core) !== undefined,
      scannedTypes: core.policies.all.flatMap(({ assetType, scan }) => (scan === 'off' ? [] : [assetType])),
    }),
  jobs: [
    defineJob({
      ...rescanJob,
      data: z.object({ scanId: z.string() }),
      // It goes on from where it was: for days, if clamd is away for days.
      retries: 1000,
      firstPause: 2,
      longestPause: 15 * MINUTE,
      limit: 12 * HOUR,
      run: ({ scanId }, context, core: Core) =>
        rescan(
          {
            scans: new RescansRepository(core.background, core.outbox),
            processing: processingRepository(core),
            scanner: scannerOf(core),
            store: core.store,
            unscannedTypes: core.policies.all.flatMap(({ assetType, scan }) => (scan === 'off' ? [assetType] : [])),
          },
          scanId,
          context,
        ),
    }),
  ],
};
