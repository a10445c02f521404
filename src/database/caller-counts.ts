/**
 * What one caller makes the service write is counted over all instances, in the statement that writes it: so the count costs
 * no statement of its own. The table is unlogged, a count is no WAL.
 */
import { lte, sql } from 'drizzle-orm';
import type { Executor } from './client.ts';
import { build, compile, excluded, inSeconds, now, type Parameter } from './statements.ts';
import { callerCounts, type countedKinds, uploadCounts } from './tables/limits.ts';

/** Seconds. The window begins with the first count after the last one ended. */
export const COUNT_WINDOW = 3600;

/** Counts one of a kind; for `build.$with('counted').as(...)`. @returns how many there are in the window, this one included */
export function countOne(p: Parameter<'callerId'>, kind: (typeof countedKinds)[number]) {
  const hasEnded = sql`${callerCounts.windowEndsAt} <= ${now}`;
  return build
    .insert(callerCounts)
    .values({ callerId: p('callerId'), kind, windowEndsAt: inSeconds(COUNT_WINDOW), count: 1 })
    .onConflictDoUpdate({
      target: [callerCounts.callerId, callerCounts.kind],
      set: {
        count: sql`case when ${hasEnded} then 1 else ${callerCounts.count} + 1 end`,
        windowEndsAt: sql`case when ${hasEnded} then ${excluded(callerCounts.windowEndsAt)} else ${callerCounts.windowEndsAt} end`,
      },
    })
    .returning({
      count: callerCounts.count,
      seconds: sql<number>`ceil(extract(epoch from ${callerCounts.windowEndsAt} - ${now}))::integer`.as('seconds'),
    });
}

const forgetCallers = compile(
  'forget-caller-counts',
  () => build.delete(callerCounts).where(lte(callerCounts.windowEndsAt, now)),
  { named: false },
);
const forgetUploads = compile(
  'forget-upload-counts',
  () => build.delete(uploadCounts).where(lte(uploadCounts.windowEndsAt, now)),
  { named: false },
);

/** Counts whose window has ended go: the next one begins from nothing anyway. */
export async function forgetCounts(executor: Executor): Promise<void> {
  await executor.run(forgetCallers, {});
  await executor.run(forgetUploads, {});
}
