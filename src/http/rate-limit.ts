/**
 * Requests are counted per caller in this process, by @fastify/rate-limit: that protects the process. Uploads have a
 * limit of their own; see upload-limit.ts.
 */
import rateLimit from '@fastify/rate-limit';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { LRUCache } from 'lru-cache';
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
 * @param perMinute requests of one caller; 0 for no limit
 * @param publicPerMinute requests of one address for what everybody may read; 0 for no limit
 */
export async function limitRequests(app: FastifyInstance, perMinute: number, publicPerMinute: number): Promise<void> {
  const counts = new RequestCounts();
  const isPublic = (request: FastifyRequest) => request.routeOptions.config.countsAsPublic === true;
  const keyOf = (request: FastifyRequest) => {
    if (isPublic(request)) return `public ${networkOf(request.ip)}`;
    if (request.routeOptions.config.public || request.is404) return `address ${networkOf(request.ip)}`;
    return `caller ${request.caller.id}`;
  };
  const limitOf = (request: FastifyRequest) => (isPublic(request) ? publicPerMinute : perMinute);
  app.decorateRequest('countAs', function (this: FastifyRequest, requests: number) {
    counts.add(keyOf(this), requests - 1);
  });
  if (perMinute === 0 && publicPerMinute === 0) return;
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
    errorResponseBuilder: (_request, context) =>
      new Problem('too-many-requests', {
        detail: `At most ${context.max} requests a minute. Slow down.`,
        retryAfter: context.ttl / 1000,
      }),
  });
}
