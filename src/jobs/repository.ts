/** What is told of the jobs that wait, by their table. Everything else about them is done by pg-boss; see queue.ts. */
import { and, count, inArray, min, sql } from 'drizzle-orm';
import type { Executor } from '../database/client.ts';
import { build, compile, isAnyOf, type Parameter } from '../database/statements.ts';
import { jobs } from '../database/tables/jobs.ts';

const countJobs = compile(
  'count-jobs',
  () =>
    build
      .select({ name: jobs.name, state: jobs.state, count: count(), oldest: min(jobs.createdOn) })
      .from(jobs)
      .where(inArray(jobs.state, ['created', 'retry', 'active']))
      .groupBy(jobs.name, jobs.state),
  { named: false },
);

const findWaiting = compile(
  'find-waiting-jobs',
  (p: Parameter<'names' | 'limit'>) =>
    build
      .select({
        id: jobs.id,
        name: jobs.name,
        createdOn: jobs.createdOn,
        data: jobs.data,
        reason: sql<string | null>`${jobs.sourceOutput} ->> 'reason'`,
      })
      .from(jobs)
      .where(and(isAnyOf(jobs.name, p('names')), inArray(jobs.state, ['created', 'retry'])))
      .orderBy(jobs.createdOn, jobs.id)
      .limit(p('limit')),
  { named: false },
);

/** Jobs that are not done, by queue and state. */
export async function countByState(executor: Executor) {
  const { rows } = await executor.run(countJobs, {});
  return rows;
}

/** The oldest jobs of these queues that wait; `reason` is that of the last failure. */
export async function oldestWaiting(executor: Executor, names: string[], limit: number) {
  const { rows } = await executor.run(findWaiting, { names, limit });
  return rows;
}
