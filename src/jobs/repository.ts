/** What is told of the jobs that wait, by their table. Everything else about them is done by pg-boss; see queue.ts. */
import { and, count, eq, inArray, lt, min, sql } from 'drizzle-orm';
import type { Executor } from '../database/client.ts';
import { build, compile, isAnyOf, type Parameter, writtenOut } from '../database/statements.ts';
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

/** Up to so many jobs of a queue are counted where nobody may wait for all: the partial index of pg-boss has them at hand. */
const MAX_COUNTED = 10_000;

const measureQueues = compile('measure-queues', (p: Parameter<'names'>) => {
  const name = sql<string>`queue.name`;
  const waiting = build
    .select({ id: jobs.id })
    .from(jobs)
    // As the index says it, so that Postgres sees that it fits.
    .where(and(eq(jobs.name, name), lt(jobs.state, sql`'active'`)))
    .limit(writtenOut(MAX_COUNTED))
    .as('waiting');
  const counted = build
    .select({ count: count().as('count') })
    .from(waiting)
    .as('counted');
  return build
    .select({ name, count: counted.count })
    .from(sql`unnest(${p('names')}::text[]) as queue (name)`)
    .crossJoinLateral(counted);
});

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

/** How many jobs wait in each of these queues, counted up to MAX_COUNTED: takes the same time however many there are. */
export async function depthsOf(executor: Executor, names: string[]): Promise<Map<string, number>> {
  const { rows } = await executor.run(measureQueues, { names });
  return new Map(rows.map(({ name, count }) => [name, count]));
}

/** The oldest jobs of these queues that wait; `reason` is that of the last failure. */
export async function oldestWaiting(executor: Executor, names: string[], limit: number) {
  const { rows } = await executor.run(findWaiting, { names, limit });
  return rows;
}
