/** Uploads are counted per caller over all instances, in one unlogged table, file by file: that is a rule of the product. */
import { sql } from 'drizzle-orm';
import type { Caller } from '../access/caller.ts';
import { limitedBy, tierWords } from '../access/tiers.ts';
import { Batcher } from '../database/batcher.ts';
import type { Database } from '../database/client.ts';
import { build, compile, excluded, inSeconds, now, type Parameter } from '../database/statements.ts';
import { uploadCounts } from '../database/tables/limits.ts';
import { Problem } from '../problems.ts';

const HOUR = 3600;
const MAX_TOGETHER = 1000;

const hasEnded = sql`${uploadCounts.windowEndsAt} <= ${now}`;
const countUploads = compile('count-uploads', (p: Parameter<'callerId' | 'count'>) =>
  build
    .insert(uploadCounts)
    .values({ callerId: p('callerId'), windowEndsAt: inSeconds(HOUR), uploads: p('count') })
    .onConflictDoUpdate({
      target: uploadCounts.callerId,
      set: {
        uploads: sql`case when ${hasEnded} then 0 else ${uploadCounts.uploads} end + ${excluded(uploadCounts.uploads)}`,
        windowEndsAt: sql`case when ${hasEnded} then ${excluded(uploadCounts.windowEndsAt)} else ${uploadCounts.windowEndsAt} end`,
      },
    })
    .returning({
      uploads: uploadCounts.uploads,
      seconds: sql<number>`ceil(extract(epoch from ${uploadCounts.windowEndsAt} - ${now}))::integer`,
    }),
);

export interface UploadCount {
  /** Header fields that tell where the caller stands (draft-ietf-httpapi-ratelimit-headers). */
  headers: Record<string, string>;
}

export class UploadLimit {
  readonly #perHour: number;
  /** Those of one caller that come at the same time are counted by one statement; each has its own place in the count. */
  readonly #counts: Batcher<undefined, { uploads: number; seconds: number }>;

  /** @param perHour uploads that a caller may begin in an hour whose tier does not say otherwise; 0 for no limit */
  constructor(database: Database, perHour: number) {
    this.#perHour = perHour;
    this.#counts = new Batcher(async (callerId, { length: count }) => {
      const { rows } = await database.run(countUploads, { callerId, count });
      const { uploads = count, seconds = HOUR } = rows[0] ?? {};
      return Array.from({ length: count }, (_, index) => ({ uploads: uploads - count + index + 1, seconds }));
    }, MAX_TOGETHER);
  }

  /**
   * Counts one upload. The hour begins with the first upload after the last hour ended.
   * @throws Problem too-many-requests
   */
  async count({ id: callerId, tier }: Pick<Caller, 'id' | 'tier'>): Promise<UploadCount> {
    const perHour = tier?.limits.uploadsPerHour ?? this.#perHour;
    if (perHour === 0) return { headers: {} };
    const { uploads, seconds } = await this.#counts.submit(callerId, undefined);
    const headers = {
      'ratelimit-limit': String(perHour),
      'ratelimit-remaining': String(Math.max(0, perHour - uploads)),
      'ratelimit-reset': String(seconds),
    };
    if (uploads <= perHour) return { headers };
    throw new Problem('too-many-requests', {
      detail: `At most ${perHour} uploads an hour. Try again later.${tierWords(tier)}`,
      ...limitedBy(tier, 'uploadsPerHour'),
      retryAfter: seconds,
      headers,
    });
  }
}
