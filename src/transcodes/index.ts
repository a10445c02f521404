/**
 * Transcodes: sound and films in another format, when somebody asks for it. They have a queue of their own, so that one that
 * takes an hour delays no scan and no thumbnail; what was made is a derivative, served and removed like the others.
 */
import { z } from 'zod';
import type { Core } from '../core.ts';
import type { Feature } from '../feature.ts';
import { type BatchedJob, defineBatchJob, HOUR, LeaseLost } from '../jobs/job.ts';
import { handOn, runTranscode, type TranscodeData, transcodeJob } from './job.ts';
import {
  tooManyTranscodes,
  transcodeImpossible,
  transcodeNotAllowed,
  transcodeSettings,
  transcodesWaiting,
} from './limits.ts';
import { transcodeRoutes } from './routes.ts';

export const transcodes: Feature<Core> = {
  name: 'transcodes',
  settings: transcodeSettings,
  problems: [transcodeNotAllowed, tooManyTranscodes, transcodeImpossible, transcodesWaiting],
  routes: transcodeRoutes,
  jobs: [
    defineBatchJob({
      ...transcodeJob,
      data: z.object({ assetId: z.string(), name: z.string(), request: z.string(), turn: z.number().exactOptional() }),
      retries: 5,
      firstPause: 5,
      limit: 24 * HOUR,
      concurrency: 2,
      runBatch: async (jobs, { fence }, core: Core) => {
        const failed = new Map<string, unknown>();
        const runOne = async ({ id, data, signal }: BatchedJob<TranscodeData>) => {
          const context = {
            ...{ id, signal },
            fence: async (transaction: Parameters<typeof fence>[0]) => {
              if (!(await fence(transaction, [id])).has(id))
                throw new LeaseLost(`the job ${id} was given to another worker`);
            },
          };
          await runTranscode(data, context, core).catch((error) => failed.set(id, error));
        };
        // One keeps two processors busy; a machine that has more of them runs more workers. The queue gives out two at once.
        const [next, ...others] = jobs.toSorted((a, b) => (a.data.turn ?? 0) - (b.data.turn ?? 0));
        await handOn(
          others.map(({ data }) => data),
          core,
        );
        if (next) await runOne(next);
        return failed;
      },
    }),
  ],
};
