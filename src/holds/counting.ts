/** How many assets are held, for the metrics. */
import { sql } from 'drizzle-orm';
import type { Database } from '../database/client.ts';
import { build, compile } from '../database/statements.ts';
import { assets, mayBeHeld } from '../database/tables/assets.ts';

const count = compile('count-held-assets', () =>
  build
    .select({
      holds: sql<number>`count(*) filter (where ${assets.holds} is not null)`.mapWith(Number).as('held'),
      retained: sql<number>`count(*) filter (where ${assets.retainUntil} > now())`.mapWith(Number).as('retained'),
    })
    .from(assets)
    .where(mayBeHeld),
);

export async function countHeld(database: Database): Promise<{ holds: number; retained: number }> {
  return (await database.run(count, {})).rows[0] ?? { holds: 0, retained: 0 };
}
