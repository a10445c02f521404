/**
 * The partitions of the audit trail: made ahead, and dropped as a whole when they are old enough. What is done is in the
 * function `audit_events_maintain` of the migrations, which has the rights of the role that migrates; the role of the service
 * needs none to make or drop tables. A month without a partition loses nothing: the default partition takes its rows, and
 * becomes the partition of that month later.
 */
import { sql } from 'drizzle-orm';
import type { Executor } from './client.ts';
import { build, compile, nowhere, type Parameter } from './statements.ts';
import { auditEvents } from './tables/audit.ts';

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

/** A partition with its bounds, as the database writes them; the default one has none. */
export interface AuditPartition {
  name: string;
  since: string;
  until: string;
}

const partitions = sql`audit_events_partitions()`;
const listPartitions = compile(
  'list-audit-partitions',
  () =>
    build
      .select({
        name: sql<string>`name::text`.as('name'),
        since: sql<string>`since::text`.as('since'),
        until: sql<string>`until::text`.as('until'),
      })
      .from(partitions),
  { named: false },
);
const attachPartition = compile(
  'attach-audit-partition',
  (p: Parameter<'name' | 'since' | 'until'>) =>
    build
      .select({
        attached: sql`audit_events_attach(${p('name')}::text, ${p('since')}::timestamptz, ${p('until')}::timestamptz)`,
      })
      .from(nowhere),
  { named: false },
);

export async function listAuditPartitions(executor: Executor): Promise<AuditPartition[]> {
  return (await executor.run(listPartitions, {})).rows;
}

/**
 * Gives an audit trail without rows the partitions of another one, so that rows which are put into it go when they would
 * have gone there. In a transaction.
 */
export async function replaceAuditPartitions(executor: Executor, wanted: readonly AuditPartition[]): Promise<void> {
  for (const { name } of await listAuditPartitions(executor)) {
    const partition = sql.identifier(name);
    const detach = sql`alter table ${auditEvents} detach partition ${partition}`;
    for (const statement of [detach, sql`drop table ${partition}`])
      await executor.run(
        compile(`remove ${name}`, () => statement, { named: false }),
        {},
      );
  }
  for (const partition of wanted) await executor.run(attachPartition, { ...partition });
}
