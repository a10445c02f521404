/**
 * The partitions of the audit trail: made ahead, and dropped as a whole when they are old enough. What is done is in the
 * function `audit_events_maintain` of the migrations, which has the rights of the role that migrates; the role of the service
 * needs none to make or drop tables. A month without a partition loses nothing: the default partition takes its rows, and
 * becomes the partition of that month later.
 */
import { sql } from 'drizzle-orm';
import type { Executor } from './client.ts';
import { build, compile, nowhere, type Parameter } from './statements.ts';

/** Days for which audit rows are kept at least, if not for ever: less the function refuses, whoever asks. */
export const MIN_RETENTION = 30;

const maintain = compile(
  'maintain-audit',
  (p: Parameter<'days'>) =>
    build.select({ dropped: sql<number>`audit_events_maintain(${p('days')}::integer)`.as('dropped') }).from(nowhere),
  { named: false },
);

/**
 * Makes the partitions of this month and the next two, and drops those of which every row is older.
 * @param days 0 keeps all
 * @returns how many partitions were dropped
 */
export async function maintainAuditPartitions(executor: Executor, days: number): Promise<number> {
  const { rows } = await executor.run(maintain, { days });
  return rows[0]?.dropped ?? 0;
}
