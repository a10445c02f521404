/**
 * Callers by their whole token, signature included: clients send the same token with every request, and verifying it
 * costs as much as everything else of a download link. A key that was withdrawn is accepted a minute longer; a key set is
 * fetched every ten minutes anyway.
 */
import { hash } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import type { Caller } from '../access/caller.ts';

/** How long a verified token is accepted without verifying it again, within its own life. Milliseconds. */
const TOKEN_TTL = 60_000;
/** Tokens in the cache, and bytes of them: a token may name thousands of projects. */
const MAX_TOKENS = 10_000;
const MAX_BYTES = 8 * 1024 * 1024;
/** Of an entry beside its texts, estimated. Bytes. */
const ENTRY = 400;

export class TokenCache {
  // Expiry is told in the time of the clock on the wall, so the cache goes by that clock too, looking at it each time.
  readonly #callers = new LRUCache<string, Caller>({
    max: MAX_TOKENS,
    maxSize: MAX_BYTES,
    sizeCalculation: sizeOf,
    ttl: TOKEN_TTL,
    ttlResolution: 0,
    perf: Date,
  });

  /** Bytes that it holds, estimated. */
  get bytes(): number {
    return this.#callers.calculatedSize;
  }

  callerOf(token: string): Caller | undefined {
    return this.#callers.get(nameOf(token));
  }

  /** @param expiry milliseconds since 1970 */
  remember(token: string, caller: Caller, expiry: number): void {
    // The cache believes a token in the millisecond of its end too; `exp` does not allow that (RFC 7519 section 4.1.4).
    const ttl = Math.min(Math.floor(expiry - Date.now()), TOKEN_TTL) - 1;
    // For the cache, 0 would mean for ever.
    if (ttl > 0) this.#callers.set(nameOf(token), caller, { ttl });
  }
}

/** Tokens have up to 16 KiB; what is kept of one is its SHA-256. */
function nameOf(token: string): string {
  return hash('sha256', token, 'base64');
}

function sizeOf({ id, claimedTier = '', projects = new Map() }: Caller): number {
  let size = ENTRY + id.length + claimedTier.length;
  for (const project of projects.keys()) size += ENTRY / 4 + project.length;
  return size;
}
