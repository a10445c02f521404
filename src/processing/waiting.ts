/** What waits to be served, in SQL. */
import { sql } from 'drizzle-orm';
import type { Executor } from '../database/client.ts';
import { build, compile } from '../database/statements.ts';
import { assets, inState } from '../database/tables/assets.ts';

const findOldest = compile('find-oldest-processing', () =>
  build
    .select({ seconds: sql<number>`coalesce(extract(epoch from now() - min(${assets.createdAt})), 0)`.mapWith(Number) })
    .from(assets)
    .where(inState('processing')),
);

/** Seconds since the upload of the oldest file that is not served yet, for whatever step it waits; 0 when there is none. */
export async function oldestProcessing(database: Executor): Promise<number> {
  const { rows } = await database.run(findOldest, {});
  return rows[0]?.seconds ?? 0;
}
