/** What a caller has used of the limits that are counted in the database, beside his quota. */
import { and, eq, gt, sql } from 'drizzle-orm';
import type { Database } from '../database/client.ts';
import { build, compile, now, nowhere, type Parameter } from '../database/statements.ts';
import { assets } from '../database/tables/assets.ts';
import { derivatives } from '../database/tables/derivatives.ts';
import { uploadCounts } from '../database/tables/limits.ts';

export interface TierUsage {
  /** Begun in this hour. */
  uploads: number;
  /** When the next hour begins; absent where none has begun. */
  hourEndsAt: Date | null;
  /** That wait or are being made. */
  transcodes: number;
}

const findUsage = compile('find-tier-usage', (p: Parameter<'callerId'>) => {
  const hour = build
    .select({ uploads: uploadCounts.uploads, windowEndsAt: uploadCounts.windowEndsAt })
    .from(uploadCounts)
    .where(and(eq(uploadCounts.callerId, p('callerId')), gt(uploadCounts.windowEndsAt, now)))
    .as('hour');
  const making = build
    .select({ count: sql`count(*)` })
    .from(derivatives)
    .innerJoin(assets, eq(assets.id, derivatives.assetId))
    .where(and(eq(derivatives.state, 'making'), eq(derivatives.kind, 'transcode'), eq(assets.ownerId, p('callerId'))));
  return build
    .select({
      uploads: sql<number>`coalesce(${hour.uploads}, 0)`.as('uploads'),
      hourEndsAt: hour.windowEndsAt,
      transcodes: sql<number>`(${making})::integer`.as('transcodes'),
    })
    .from(nowhere)
    .leftJoin(hour, sql`true`);
});

export async function tierUsageOf(database: Database, callerId: string): Promise<TierUsage> {
  const { rows } = await database.run(findUsage, { callerId });
  return rows[0] ?? { uploads: 0, hourEndsAt: null, transcodes: 0 };
}
