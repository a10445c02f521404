/**
 * Two limits. Requests are counted per caller in this process, by @fastify/rate-limit: that protects the process.
 * Uploads are counted per caller over all instances, in one unlogged table, file by file: that is a rule of the product.
 */
import rateLimit from '@fastify/rate-limit';
import type { FastifyInstance } from 'fastify';
import type { Database } from '../database/client.ts';
import { sql } from '../database/sql.ts';
import { Problem } from '../problems.ts';

const HOUR = 3600;

/**
 * Routes with `rateLimit: false` in their configuration are not counted.
 * @param perMinute requests of one caller; 0 for no limit
 */
export async function limitRequests(app: FastifyInstance, perMinute: number): Promise<void> {
  if (perMinute === 0) return;
  await app.register(rateLimit, {
    max: perMinute,
    timeWindow: 60_000,
    enableDraftSpec: true,
    keyGenerator: (request) =>
      request.routeOptions.config.public || request.is404 ? `address ${request.ip}` : `caller ${request.caller.id}`,
    errorResponseBuilder: (_request, context) =>
      new Problem('too-many-requests', {
        detail: `At most ${context.max} requests a minute. Slow down.`,
        retryAfter: context.ttl / 1000,
      }),
  });
}

export interface UploadCount {
  /** Header fields that tell where the caller stands (draft-ietf-httpapi-ratelimit-headers). */
  headers: Record<string, string>;
}

export class UploadLimit {
  readonly #database: Database;
  readonly #perHour: number;

  /** @param perHour uploads that a caller may begin in an hour; 0 for no limit */
  constructor(database: Database, perHour: number) {
    this.#database = database;
    this.#perHour = perHour;
  }

  /**
   * Counts one upload. The hour begins with the first upload after the last hour ended.
   * @throws Problem too-many-requests
   */
  async count(callerId: string): Promise<UploadCount> {
    if (this.#perHour === 0) return { headers: {} };
    const { rows } = await this.#database.execute<{ uploads: number; seconds: number }>(
      sql`
      insert into upload_counts as counted (caller_id, window_ends_at, uploads) values (${callerId}, now() + make_interval(secs => ${HOUR}), 1)
      on conflict (caller_id) do update set
        uploads = case when counted.window_ends_at <= now() then 1 else counted.uploads + 1 end,
        window_ends_at = case when counted.window_ends_at <= now() then excluded.window_ends_at else counted.window_ends_at end
      returning uploads, ceil(extract(epoch from window_ends_at - now()))::integer as seconds`,
      'count-upload',
    );
    const { uploads = 1, seconds = HOUR } = rows[0] ?? {};
    const headers = {
      'ratelimit-limit': String(this.#perHour),
      'ratelimit-remaining': String(Math.max(0, this.#perHour - uploads)),
      'ratelimit-reset': String(seconds),
    };
    if (uploads <= this.#perHour) return { headers };
    throw new Problem('too-many-requests', {
      detail: `At most ${this.#perHour} uploads an hour. Try again later.`,
      retryAfter: seconds,
      headers,
    });
  }
}
