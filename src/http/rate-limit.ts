/**
 * Requests are counted per caller in this process, by @fastify/rate-limit: that protects the process. Uploads have a
 * limit of their own; see upload-limit.ts.
 */
import rateLimit from '@fastify/rate-limit';
import type { FastifyInstance } from 'fastify';
import { Problem } from '../problems.ts';

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
