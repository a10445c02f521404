/** Uploads are counted per caller over all instances, in one unlogged table, file by file: that is a rule of the product. */
import { sql } from 'drizzle-orm';
import type { Caller } from '../access/caller.ts';
import { limitedBy, tierWords } from '../access/tiers.ts';
import type { Database } from '../database/client.ts';
import { build, compile, excluded, inSeconds, now, type Parameter } from '../database/statements.ts';
import { uploadCounts } from '../database/tables/limits.ts';
import { Problem } from '../problems.ts';

const HOUR = 3600;

const hasEnded = sql`${uploadCounts.windowEndsAt} <= ${now}`;
const countUpload = compile('count-upload', (p: Parameter<'callerId'>) =>
  build
    .insert(uploadCounts)
    .values({ callerId: p('callerId'), windowEndsAt: inSeconds(HOUR), uploads: 1 })
    .onConflictDoUpdate({
      target: uploadCounts.callerId,
      set: {
        uploads: sql`case when ${hasEnded} then 1 else ${uploadCounts.uploads} + 1 end`,
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
  readonly #database: Database;
  readonly #perHour: number;

  /** @param perHour uploads that a caller may begin in an hour whose tier does not say otherwise; 0 for no limit */
  constructor(database: Database, perHour: number) {
    this.#database = database;
    this.#perHour = perHour;
  }

  /**
   * Counts one upload. The hour begins with the first upload after the last hour ended.
   * @throws Problem too-many-requests
   */
  async count({ id: callerId, tier }: Pick<Caller, 'id' | 'tier'>): Promise<UploadCount> {
    const perHour = tier?.limits.uploadsPerHour ?? this.#perHour;
    if (perHour === 0) return { headers: {} };
    const { rows } = await this.#database.run(countUpload, { callerId });
    const { uploads = 1, seconds = HOUR } = rows[0] ?? {};
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
