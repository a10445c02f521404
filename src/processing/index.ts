/**
 * Processing: what is done to a file beyond storing it. It is scanned, relieved of what it tells of its sender, understood,
 * and made presentable; each is a step with a queue of its own, in this order (pipeline.ts). Tools that read the bytes run
 * in processes that can be killed (tools/), so a hostile file costs its own picture and nothing else.
 */
import { z } from 'zod';
import type { Core } from '../core.ts';
import type { Feature } from '../feature.ts';
import { defineBatchJob, defineJob, HOUR, MINUTE } from '../jobs/job.ts';
import { DerivativesRepository, discardDerivativeJob } from './derivatives.ts';
import { discardObjects } from './discard.ts';
import { pictureCheck } from './pictures/check.ts';
import { runStep } from './run-step.ts';
import { processingSettings } from './settings.ts';
import type { Step } from './step.ts';
import { deriveStep } from './steps/derive.ts';
import { factsStep } from './steps/facts.ts';
import { reencodeStep } from './steps/reencode.ts';
import { scanStep } from './steps/scan.ts';
import { stripStep } from './steps/strip.ts';
import { metadataNotRemovable } from './strip/problem.ts';
import { closeToolbox, toolboxOf } from './toolbox.ts';
import { toolAbilities, toolChecks } from './tools/available.ts';
import { oldestProcessing } from './waiting.ts';

const steps: readonly Step[] = [scanStep, stripStep, reencodeStep, factsStep, deriveStep];
const assetData = z.object({ assetId: z.string() });

export const processing: Feature<Core> = {
  name: 'processing',
  settings: processingSettings,
  problems: [metadataNotRemovable],
  auditActions: ['asset.processed'],
  jobs: [
    ...steps.map((step) =>
      defineJob({
        name: step.name,
        data: assetData,
        retries: 16,
        firstPause: 2,
        limit: 6 * HOUR,
        concurrency: 2,
        // The others put bytes in the place of the original.
        keepsObjects: [scanStep, factsStep, deriveStep].includes(step),
        ...step.settings,
        run: ({ assetId }, context, core: Core) => runStep(step, assetId, context, core),
      }),
    ),
    defineBatchJob({
      ...discardDerivativeJob,
      data: z.object({ derivativeId: z.string() }),
      retries: 16,
      firstPause: 2,
      limit: 10 * MINUTE,
      concurrency: 1000,
      runBatch: (jobs, context, { background, outbox, store }: Core) =>
        discardObjects({ derivatives: new DerivativesRepository(background, outbox), store }, jobs, context),
    }),
  ],
  gauges: (core) => [
    ...toolboxOf(core).gauges,
    {
      name: 'stowage_processing_oldest_seconds',
      help: 'How long the oldest file has waited to be served',
      read: () => oldestProcessing(core.background.database),
    },
  ],
  checks: () => [...toolChecks(), pictureCheck],
  abilities: () => toolAbilities(),
  close: closeToolbox,
};

declare module '../database/audit.ts' {
  interface AuditActions {
    processing: 'asset.processed';
  }
}
