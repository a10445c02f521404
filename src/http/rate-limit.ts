/**
 * Requests are counted per caller in this process, by @fastify/rate-limit: that protects the process. Uploads have a
 * limit of their own; see upload-limit.ts.
 */
import rateLimit from '@fastify/rate-limit';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { LRUCache } from 'lru-cache';
import { limitedBy, tierWords } from '../access/tiers.ts';
import { Problem } from '../problems.ts';
import { networkOf } from './refusal-limit.ts';

const WINDOW = 60_000;
/** Callers and addresses that are counted; then the one that was not heard of for longest is forgotten. */
const MAX_COUNTED = 5000;

declare module 'fastify' {
  interface FastifyContextConfig {
    /** What everybody may read: counted by itself, by PUBLIC_REQUESTS_PER_MINUTE. */
    countsAsPublic?: boolean;
  }
  interface FastifyRequest {
    /**
     * Counts a request that does the work of many as so many. It goes on itself; those that come after it are refused
     * until the minute is over.
     */
    countAs(requests: number): void;
  }
}

/** What each has asked for in this minute. */
class RequestCounts {
  readonly #counts = new LRUCache<string, { requests: number; endsAt: number }>({ max: MAX_COUNTED });

  /** @returns all requests of the minute, and the milliseconds that are left of it */
  add(key: string, requests: number): { current: number; ttl: number } {
    const now = Date.now();
    const found = this.#counts.get(key);
    const count = found && found.endsAt > now ? found : { requests: 0, endsAt: now + WINDOW };
    count.requests += requests;
    this.#counts.set(key, count);
    return { current: count.requests, ttl: count.endsAt - now };
  }
}

/**
 * Routes with `rateLimit: false` in their configuration are not counted.
 * @param perMinute requests of one caller whose tier does not say otherwise; 0 for no limit
 * @param publicPerMinute requests of one address for what everybody may read; 0 for no limit
 * @param hasTiers some may have a limit where others have none
 */
export async function limitRequests(
  app: FastifyInstance,
  { perMinute, publicPerMinute, hasTiers }: { perMinute: number; publicPerMinute: number; hasTiers: boolean },
): Promise<void> {
  const counts = new RequestCounts();
  const isPublic = (request: FastifyRequest) => request.routeOptions.config.countsAsPublic === true;
  const hasCaller = (request: FastifyRequest) => !request.routeOptions.config.public && !request.is404;
  const keyOf = (request: FastifyRequest) => {
    if (isPublic(request)) return `public ${networkOf(request.ip)}`;
    return hasCaller(request) ? `caller ${request.caller.id}` : `address ${networkOf(request.ip)}`;
  };
  app.decorateRequest('countAs', function (this: FastifyRequest, requests: number) {
    counts.add(keyOf(this), requests - 1);
  });
  if (perMinute === 0 && publicPerMinute === 0 && !hasTiers) return;
  const tierOf = (request: FastifyRequest) => (hasCaller(request) ? request.caller.tier : undefined);
  const limitOf = (request: FastifyRequest) =>
    isPublic(request) ? publicPerMinute : (tierOf(request)?.limits.requestsPerMinute ?? perMinute);
  await app.register(rateLimit, {
    max: limitOf,
    allowList: (request) => limitOf(request) === 0,
    timeWindow: WINDOW,
    enableDraftSpec: true,
    store: class {
      incr(key: string, done: (error: null, count: { current: number; ttl: number }) => void): void {
        done(null, counts.add(key, 1));
      }
      child() {
        return this;
      }
    },
    keyGenerator: keyOf,
    errorResponseBuilder: (request, context) =>
      new Problem('too-many-requests', {
        detail: `At most ${context.max} requests a minute. Slow down.${tierWords(tierOf(request))}`,
        ...limitedBy(tierOf(request), 'requestsPerMinute'),
        retryAfter: context.ttl / 1000,
      }),
  });
}
