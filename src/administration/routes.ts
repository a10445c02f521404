/** Jobs over HTTP, for administrators: what waits, what failed for good, and trying that again. */
import { z } from 'zod';
import type { App } from '../http/openapi.ts';
import { timestamp } from '../http/schema-types.ts';
import type { JobQueue } from '../jobs/queue.ts';

const LISTED = 100;
const count = z
  .number()
  .int()
  .min(0)
  .meta({ override: { type: 'integer', minimum: 0 } });
const queue = z.string().meta({ description: 'Name of a queue', example: 'delete-object' });
const jobsDocument = z
  .object({
    queues: z.array(
      z
        .object({
          queue,
          waiting: count.meta({ description: 'Waiting to be run' }),
          retrying: count.meta({ description: 'Failed, waiting for another try' }),
          active: count.meta({ description: 'Running' }),
          deadLetters: count.meta({ description: 'Failed for good' }),
          oldestAt: timestamp.optional().meta({ description: 'When the oldest waiting job was enqueued' }),
          oldestSeconds: count.optional().meta({ description: 'Seconds since then' }),
        })
        .meta({ id: 'JobQueue' }),
    ),
    deadLetters: z
      .array(
        z
          .object({
            id: z.string(),
            queue,
            at: timestamp,
            assetId: z.string().optional(),
            reason: z.string().meta({ description: 'Why the last try failed', example: 'object-store-unavailable' }),
          })
          .meta({ id: 'FailedJob' }),
      )
      .meta({ description: `The oldest ${LISTED}` }),
  })
  .meta({ id: 'Jobs' });

export function jobRoutes(app: App, jobs: JobQueue): void {
  const queueName = z
    .enum(jobs.names as [string, ...string[]], { error: `must be one of ${jobs.names.join(', ')}` })
    .meta({ id: 'QueueName', description: 'Name of a queue', example: 'delete-object' });
  app.get(
    '/v1/admin/jobs',
    {
      schema: {
        operationId: 'getJobs',
        tags: ['Administration'],
        summary: 'Get the jobs by queue and state, and the dead letters',
        response: { 200: jobsDocument },
      },
      config: { scope: 'admin', success: { status: 200, description: 'The jobs' }, problems: ['missing-scope'] },
    },
    async () => {
      const [counts, deadLetters] = await Promise.all([jobs.counts(), jobs.deadLetters(LISTED)]);
      return {
        queues: counts.map(({ oldestAt, ...rest }) => ({
          ...rest,
          ...(oldestAt && {
            oldestAt: oldestAt.toISOString(),
            oldestSeconds: Math.max(0, Math.round((Date.now() - oldestAt.getTime()) / 1000)),
          }),
        })),
        deadLetters: deadLetters.map(({ at, ...rest }) => ({ ...rest, at: at.toISOString() })),
      };
    },
  );

  app.post(
    '/v1/admin/jobs/:queue/retry',
    {
      schema: {
        operationId: 'retryJobs',
        tags: ['Administration'],
        summary: 'Send the dead letters of a queue back to it',
        params: z.object({ queue: queueName }),
        body: z
          .strictObject({
            ids: z
              .array(z.uuid({ error: 'must be a UUID' }).meta({ override: { type: 'string', format: 'uuid' } }))
              .min(1)
              .max(1000)
              .optional()
              .meta({ description: 'Only these jobs; all when absent' }),
          })
          .meta({ id: 'JobRetry' }),
        response: { 200: z.object({ retried: count }).meta({ id: 'RetriedJobs' }) },
      },
      config: {
        scope: 'admin',
        success: { status: 200, description: 'How many were sent back' },
        problems: ['missing-scope', 'malformed-request', 'too-large', 'unsupported-media-type'],
      },
    },
    async (request) => {
      return { retried: await jobs.retry(request.params.queue, request.body.ids) };
    },
  );
}
