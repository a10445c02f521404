/**
 * Who is calling. A bearer token (RFC 6750) is a JWT whose algorithm, issuer and audience are fixed by configuration,
 * never by the token. Without configured keys the service is in development mode, on a loopback address only, and
 * believes the header `x-user-id`.
 *
 * The answer to a request without a valid token is given before its body is read.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { createRemoteJWKSet, errors, type JWTPayload, type JWTVerifyGetKey, jwtVerify } from 'jose';
import { LRUCache } from 'lru-cache';
import type { Actor } from '../database/audit.ts';
import { Problem, unavailable } from '../problems.ts';

/** The authenticated subject. Assets are owned by callers: `id` is their `ownerId`. */
export interface Caller {
  id: string;
  scopes: ReadonlySet<string>;
}

/** Who acts in this request, for the audit trail. */
export function actorOf(request: { caller: Pick<Caller, 'id'>; id: string }): Actor {
  return { callerId: request.caller.id, requestId: request.id };
}

declare module 'fastify' {
  interface FastifyRequest {
    caller: Caller;
  }
  interface FastifyContextConfig {
    /** Answered without a caller. */
    public?: boolean;
    /** The scope that a caller needs. */
    scope?: string;
  }
}

export type AuthenticationOptions =
  | { mode: 'development' }
  | {
      mode: 'secret' | 'keySet';
      key: { secret: string } | { url: string; algorithms: string[] };
      issuer?: string;
      audience?: string;
      /** Milliseconds, at most 60,000. */
      clockSkew: number;
    };

const SUBJECT_LENGTH = 255;
const KEY_SET_DEADLINE = 5000;
const KEY_SET_COOLDOWN = 30_000;
const KEY_SET_AGE = 600_000;
/** How long a verified token is accepted without verifying it again, within its own life. Milliseconds. */
const TOKEN_TTL = 60_000;
/** Tokens in the cache. */
const MAX_TOKENS = 10_000;
/** Seconds since 1970 at the end of the year 9999; what lies beyond is no date. */
const LAST_DATE = 253_402_300_799;

export function authenticate(app: FastifyInstance, options: AuthenticationOptions): void {
  const identify = options.mode === 'development' ? developer : bearer(options);
  // Replaced before any handler runs; a getter makes forgetting that loud.
  app.decorateRequest('caller', {
    getter() {
      throw new Error('this route is public and has no caller');
    },
  });
  app.addHook('onRequest', async (request) => {
    const { config } = request.routeOptions;
    if (config.public || request.is404) return;
    const caller = await identify(request);
    Object.defineProperty(request, 'caller', { value: caller });
    if (config.scope !== undefined && !caller.scopes.has(config.scope)) {
      throw new Problem('missing-scope', {
        detail: `This needs the scope ${config.scope}.`,
        headers: { 'www-authenticate': `Bearer realm="stowage", error="insufficient_scope", scope="${config.scope}"` },
      });
    }
  });
}

async function developer(request: FastifyRequest): Promise<Caller> {
  const id = request.headers['x-user-id'] ?? 'local-user';
  if (typeof id !== 'string' || !isSubject(id)) {
    throw new Problem('invalid-parameter', {
      detail: 'x-user-id must be 1 to 255 printable characters.',
      errors: [{ parameter: 'x-user-id', detail: 'is not usable' }],
    });
  }
  return { id, scopes: new Set(['admin']) };
}

function bearer(
  options: Exclude<AuthenticationOptions, { mode: 'development' }>,
): (request: FastifyRequest) => Promise<Caller> {
  const { key, issuer, audience, clockSkew } = options;
  const algorithms = 'secret' in key ? ['HS256'] : key.algorithms;
  const findKey = 'secret' in key ? secretKey(key.secret) : keySet(key.url);
  const checks = {
    algorithms,
    requiredClaims: ['exp', 'sub'],
    clockTolerance: clockSkew / 1000,
    ...(issuer !== undefined && { issuer }),
    ...(audience !== undefined && { audience }),
  };
  const known = new TokenCache();
  return async (request) => {
    const token = /^Bearer +([A-Za-z0-9_=-]+\.[A-Za-z0-9_=-]+\.[A-Za-z0-9_=-]*)$/i.exec(
      request.headers.authorization ?? '',
    )?.[1];
    if (token === undefined) {
      const sent = request.headers.authorization !== undefined;
      throw unauthenticated(
        sent ? 'The Authorization header is not a bearer token.' : 'Send Authorization: Bearer with a JWT.',
        sent ? 'invalid_request' : undefined,
      );
    }
    const seen = known.callerOf(token);
    if (seen) return seen;
    try {
      const { payload } = await jwtVerify(token, findKey, checks);
      const caller = toCaller(payload);
      known.remember(token, caller, ((payload.exp ?? 0) + clockSkew / 1000) * 1000);
      return caller;
    } catch (error) {
      throw refusal(error);
    }
  };
}

/**
 * Callers by their whole token, signature included: clients send the same token with every request, and verifying it
 * costs as much as everything else of a download link. A key that was withdrawn is accepted a minute longer; a key set is
 * fetched every ten minutes anyway.
 */
export class TokenCache {
  // Expiry is told in the time of the clock on the wall, so the cache goes by that clock too, looking at it each time.
  readonly #callers = new LRUCache<string, Caller>({ max: MAX_TOKENS, ttl: TOKEN_TTL, ttlResolution: 0, perf: Date });

  callerOf(token: string): Caller | undefined {
    return this.#callers.get(token);
  }

  /** @param expiry milliseconds since 1970 */
  remember(token: string, caller: Caller, expiry: number): void {
    // The cache believes a token in the millisecond of its end too; `exp` does not allow that (RFC 7519 section 4.1.4).
    const ttl = Math.min(Math.floor(expiry - Date.now()), TOKEN_TTL) - 1;
    // For the cache, 0 would mean for ever.
    if (ttl > 0) this.#callers.set(token, caller, { ttl });
  }
}

function secretKey(secret: string): JWTVerifyGetKey {
  const key = new TextEncoder().encode(secret);
  return async () => key;
}

function keySet(url: string): JWTVerifyGetKey {
  return createRemoteJWKSet(new URL(url), {
    timeoutDuration: KEY_SET_DEADLINE,
    cooldownDuration: KEY_SET_COOLDOWN,
    cacheMaxAge: KEY_SET_AGE,
  });
}

function toCaller(payload: JWTPayload): Caller {
  const { sub, exp } = payload;
  if (exp === undefined || exp > LAST_DATE) throw unauthenticated('The claim exp is not a date.', 'invalid_token');
  if (sub === undefined || !isSubject(sub))
    throw unauthenticated('The claim sub must be 1 to 255 printable characters.', 'invalid_token');
  return { id: sub, scopes: new Set(scopesOf(payload)) };
}

/** `scope` is a string of names with spaces (RFC 8693 section 4.2); some issuers send a list, or call it `scp`. */
function scopesOf({ scope, scp }: JWTPayload): string[] {
  return [scope, scp].flatMap((claim) => {
    if (typeof claim === 'string') return claim.split(' ');
    return Array.isArray(claim) ? claim.filter((each) => typeof each === 'string') : [];
  });
}

function isSubject(text: string): boolean {
  return (
    text.length > 0 &&
    Buffer.byteLength(text) <= SUBJECT_LENGTH &&
    text.isWellFormed() &&
    !/[\p{Cc}\u2028\u2029]/u.test(text)
  );
}

/** Every doubt is a refusal; but a key set that cannot be fetched is our trouble, not the caller's. */
function refusal(error: unknown): unknown {
  if (error instanceof Problem) return error;
  if (error instanceof errors.JWTExpired) return unauthenticated('The token has expired.', 'invalid_token');
  if (error instanceof errors.JWTClaimValidationFailed)
    return unauthenticated(`The claim ${error.claim} is missing or not accepted.`, 'invalid_token');
  if (error instanceof errors.JWKSTimeout || !(error instanceof errors.JOSEError)) return unavailable('key set', error);
  // Anything but 200 or not JSON: jose says so with its most general error.
  if (error.code === 'ERR_JOSE_GENERIC' || error instanceof errors.JWKSInvalid) return unavailable('key set', error);
  return unauthenticated('The token is not valid.', 'invalid_token');
}

function unauthenticated(detail: string, code?: string): Problem {
  const challenge = `Bearer realm="stowage"${code === undefined ? '' : `, error="${code}", error_description="${detail}"`}`;
  return new Problem('unauthenticated', { detail, headers: { 'www-authenticate': challenge } });
}
