/** What an administrator sees and does about jobs. The queue itself is in `jobs/`, which no feature knows of. */
import type { Core } from '../core.ts';
import type { Feature } from '../feature.ts';
import { gaugesOf } from '../http/metrics.ts';
import { jobRoutes } from './routes.ts';

export const administration: Feature<Core> = {
  name: 'administration',
  tags: [{ name: 'Administration', description: 'Needs the scope `admin`' }],
  routes: (app, { jobs }) => jobRoutes(app, jobs),
  gauges: ({ jobs }) =>
    gaugesOf(
      () => jobs.depths(),
      [
        {
          name: 'stowage_job_queue_depth',
          help: 'Jobs that wait to be done, counted up to 10,000',
          labels: ['queue'],
          of: (depths) => depths.map(({ queue, waiting }) => ({ labels: { queue }, value: waiting })),
        },
        {
          name: 'stowage_job_dead_letters',
          help: 'Jobs that failed for good, counted up to 10,000',
          labels: ['queue'],
          of: (depths) => depths.map(({ queue, deadLetters }) => ({ labels: { queue }, value: deadLetters })),
        },
      ],
    ),
};
