/**
 * Who is calling. A bearer token (RFC 6750) is a JWT whose algorithm, issuer and audience are fixed by configuration,
 * never by the token; or an API key, or an upload ticket, which the database knows. Without configured keys of tokens the
 * service is in development mode, on a loopback address only, and believes the header `x-user-id`.
 *
 * Who has the scope `act-for` may speak for somebody else, whom `Stowage-Subject` names.
 *
 * The answer to a request without a valid token is given before its body is read.
 */
import type { FastifyContextConfig, FastifyInstance, FastifyRequest } from 'fastify';
import {
  errors,
  type JWTPayload,
  type JWTVerifyGetKey,
  type JWTVerifyOptions,
  type JWTVerifyResult,
  jwtVerify,
} from 'jose';
import type { Caller } from '../access/caller.ts';
import { looksLikeSecret } from '../access/credential-secret.ts';
import type { Credentials } from '../access/credentials.ts';
import { grantedBy, scopesActing } from '../access/granted.ts';
import { hasScope } from '../access/may.ts';
import { withReason } from '../access/reason.ts';
import { type Action, type MemberRole, memberRoles, rules, type Scope, scopes } from '../access/rules.ts';
import { isSubject, MAX_SUBJECT } from '../access/subject.ts';
import type { Tiers } from '../access/tiers.ts';
import { Problem, unavailable } from '../problems.ts';
import { KeySet, KeySetUnavailable } from './key-set.ts';
import type { RefusalLimit } from './refusal-limit.ts';
import { TokenCache } from './token-cache.ts';

declare module 'fastify' {
  interface FastifyRequest {
    caller: Caller;
  }
  interface FastifyContextConfig {
    /** Answered without a caller. */
    public?: boolean;
    /** The scope that a caller needs; told by the name that tokens have for it. */
    scope?: Scope;
    /** What the route does: the scope for it is needed. What is done to which resource is decided by `may`. */
    action?: Action;
    /** The same where the request decides which it is: the handler asks for the scope, by `requireScope`. */
    actions?: readonly Action[];
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
      names: ClaimNames;
    };

/** Names whom somebody with the scope `act-for` speaks for. */
const SUBJECT_HEADER = 'stowage-subject';
/** Seconds since 1970 at the end of the year 9999; what lies beyond is no date. */
const LAST_DATE = 253_402_300_799;

/** Tells who calls. */
interface Identifier {
  /** At once, when the credential was verified a moment ago. */
  known(request: FastifyRequest): Caller | undefined;
  /** Of whom it is known that he was somebody a moment ago: he is looked at, whatever others at his address do. */
  isFamiliar?(request: FastifyRequest): boolean;
  /** @throws Problem */
  verify(request: FastifyRequest): Promise<Caller>;
}

export interface Authentication {
  options: AuthenticationOptions;
  /** Keys and tickets. */
  credentials: Credentials;
  tiers: Tiers;
  /** Counts callers who are not let in, by address. */
  refusals: RefusalLimit;
}

export function authenticate(app: FastifyInstance, { options, credentials, tiers, refusals }: Authentication): void {
  const tokens = options.mode === 'development' ? developer : bearer(options);
  const secrets = bySecret(credentials);
  const nameOf = (scope: Scope) => (options.mode === 'development' ? scope : options.names.nameOf(scope));
  // Replaced before any handler runs; a getter makes forgetting that loud.
  app.decorateRequest('caller', {
    getter() {
      throw new Error('this route is public and has no caller');
    },
  });
  const identify = async (request: FastifyRequest): Promise<Caller> => {
    const identifier = secretOf(request) === undefined ? tokens : secrets;
    const known = identifier.known(request);
    if (known) return known;
    if (identifier.isFamiliar?.(request)) return identifier.verify(request);
    return refusals.guard(request.ip, () => identifier.verify(request));
  };
  app.addHook('onRequest', async (request) => {
    const { config } = request.routeOptions;
    if (config.public) return;
    const identified = withReason(spokenFor(request, await identify(request), nameOf), request);
    const tier = await tiers.of(identified);
    const caller = tier ? { ...identified, tier } : identified;
    Object.defineProperty(request, 'caller', { value: caller });
    requireForRoute(caller, config, nameOf);
  });
}

/** @throws Problem missing-scope, forbidden */
function requireForRoute(
  caller: Caller,
  { scope, action }: Pick<FastifyContextConfig, 'scope' | 'action'>,
  nameOf: (scope: Scope) => string,
): void {
  if (caller.ticket !== undefined && (action === undefined || !hasScope(caller, action)))
    throw new Problem('forbidden', {
      detail: 'An upload ticket is for uploads and what became of them. Ask with a token or an API key.',
    });
  if (caller.only && action === 'account.read')
    throw new Problem('forbidden', { detail: 'This key is for projects, and this is of all that its owner has.' });
  if (scope !== undefined && !caller.scopes.has(scope)) throw missingScope(nameOf(scope));
  if (action !== undefined && !hasScope(caller, action)) throw missingScope(nameOf(rules[action].scope));
}

/**
 * The subject that `Stowage-Subject` names, in whose name the credential speaks; without the header field, the caller.
 * @throws Problem missing-scope; invalid-parameter when nobody can have this name
 */
function spokenFor({ headers, raw }: FastifyRequest, caller: Caller, nameOf: (scope: Scope) => string): Caller {
  const subject = headers[SUBJECT_HEADER];
  if (subject === undefined) return caller;
  if (caller.ticket !== undefined || !caller.scopes.has('act-for')) throw missingScope(nameOf('act-for'));
  // Sent twice, Node makes one of them.
  const isOne = typeof subject === 'string' && raw.headersDistinct[SUBJECT_HEADER]?.length === 1;
  const id = isOne ? asText(subject) : undefined;
  if (id === undefined || !isSubject(id)) {
    const detail = `must be 1 to ${MAX_SUBJECT} bytes of printable text in UTF-8, and be there once`;
    throw new Problem('invalid-parameter', {
      detail: `Stowage-Subject ${detail}.`,
      errors: [{ parameter: 'Stowage-Subject', detail }],
    });
  }
  const { only, via = `token:${caller.id}` } = caller;
  return { id, scopes: scopesActing(caller.scopes), ...(only && { only }), via };
}

/** Node reads header fields as Latin-1; clients send UTF-8, as far as it is more than ASCII. */
function asText(field: string): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.from(field, 'latin1'));
  } catch {
    return undefined;
  }
}

/** Who calls, in requests that may be public. */
export function callerIdOf(request: FastifyRequest): string | undefined {
  const caller: unknown = Object.getOwnPropertyDescriptor(request, 'caller')?.value;
  return caller instanceof Object && 'id' in caller && typeof caller.id === 'string' ? caller.id : undefined;
}

const developer: Identifier = {
  known: () => undefined,
  verify: async ({ headers }) => {
    const id = headers['x-user-id'] ?? 'local-user';
    if (typeof id !== 'string' || !isSubject(id)) {
      throw new Problem('invalid-parameter', {
        detail: `x-user-id must be 1 to ${MAX_SUBJECT} printable characters.`,
        errors: [{ parameter: 'x-user-id', detail: 'is not usable' }],
      });
    }
    return { id, scopes: developerScopes };
  },
};

function bearer(options: Exclude<AuthenticationOptions, { mode: 'development' }>): Identifier {
  const { key, issuer, audience, clockSkew } = options;
  const algorithms = 'secret' in key ? ['HS256'] : key.algorithms;
  const findKey = 'secret' in key ? secretKey(key.secret) : new KeySet(key.url).find;
  const checks = {
    algorithms,
    requiredClaims: ['exp', 'sub'],
    clockTolerance: clockSkew / 1000,
    ...(issuer !== undefined && { issuer }),
    ...(audience !== undefined && { audience }),
  };
  const known = new TokenCache();
  return {
    known: (request) => {
      const token = tokenOf(request);
      return token === undefined ? undefined : known.callerOf(token);
    },
    verify: async (request) => {
      const token = tokenOf(request);
      if (token === undefined) throw noToken(request);
      try {
        const { payload } = await verify(token, findKey, checks);
        const caller = toCaller(payload, options.names);
        known.remember(token, caller, ((payload.exp ?? 0) + clockSkew / 1000) * 1000);
        return caller;
      } catch (error) {
        throw refusal(error);
      }
    },
  };
}

/** A set may have several keys that fit a token without `kid`: any of them may have signed it. */
async function verify(token: string, findKey: JWTVerifyGetKey, checks: JWTVerifyOptions): Promise<JWTVerifyResult> {
  try {
    return await jwtVerify(token, findKey, checks);
  } catch (error) {
    if (!(error instanceof errors.JWKSMultipleMatchingKeys)) throw error;
    for await (const key of error) {
      try {
        return await jwtVerify(token, key, checks);
      } catch (next) {
        if (!(next instanceof errors.JWSSignatureVerificationFailed)) throw next;
      }
    }
    throw new errors.JWSSignatureVerificationFailed();
  }
}

/** By an API key or an upload ticket. */
function bySecret(credentials: Credentials): Identifier {
  const withSecret = <Result>(request: FastifyRequest, work: (secret: string) => Result) =>
    work(secretOf(request) ?? '');
  return {
    known: (request) => withSecret(request, (secret) => credentials.recall(secret)),
    isFamiliar: (request) => withSecret(request, (secret) => credentials.wasGood(secret)),
    verify: async (request) => {
      const caller = await withSecret(request, (secret) => credentials.find(secret));
      if (caller) return caller;
      throw unauthenticated('The key or ticket is unknown, revoked or expired.', 'invalid_token');
    },
  };
}

/** What is sent as a key or a ticket, be it damaged. */
function secretOf({ headers }: FastifyRequest): string | undefined {
  const sent = /^Bearer +([A-Za-z0-9_]+)$/i.exec(headers.authorization ?? '')?.[1];
  return sent !== undefined && looksLikeSecret(sent) ? sent : undefined;
}

function tokenOf({ headers }: FastifyRequest): string | undefined {
  return /^Bearer +([A-Za-z0-9_=-]+\.[A-Za-z0-9_=-]+\.[A-Za-z0-9_=-]*)$/i.exec(headers.authorization ?? '')?.[1];
}

function noToken({ headers }: FastifyRequest): Problem {
  return headers.authorization === undefined
    ? unauthenticated('Send Authorization: Bearer with a JWT, an API key or an upload ticket.')
    : unauthenticated('The Authorization header is not a bearer token.', 'invalid_request');
}

function secretKey(secret: string): JWTVerifyGetKey {
  const key = new TextEncoder().encode(secret);
  return async () => key;
}

function toCaller(payload: JWTPayload, names: ClaimNames): Caller {
  const { exp } = payload;
  // Whatever the type of the library says, a claim is what the issuer wrote.
  const sub: unknown = payload.sub;
  if (exp === undefined || exp > LAST_DATE) throw unauthenticated('The claim exp is not a date.', 'invalid_token');
  if (typeof sub !== 'string' || !isSubject(sub))
    throw unauthenticated(`The claim sub must be 1 to ${MAX_SUBJECT} printable characters.`, 'invalid_token');
  const projects = projectsIn(payload, names);
  const claimedTier = tierIn(payload, names);
  return {
    ...{ id: sub, scopes: scopesIn(payload, names) },
    ...(projects && { projects }),
    ...(claimedTier !== undefined && { claimedTier }),
  };
}

/** How tokens say what they are for. */
export interface ClaimNames {
  /** The name that issuers have for a scope. */
  nameOf(scope: Scope): string;
  /** Claims that hold scopes. */
  scopeClaims: readonly string[];
  /** Claim that maps project ids to roles; absent: none is believed. */
  projectsClaim?: string | undefined;
  /** Claim that names the tier of the caller; absent: none is believed. */
  tierClaim?: string | undefined;
}

/** Characters of the name of a tier; a longer one is none. */
const MAX_TIER = 64;

/** All but the audit trail of everybody: whoever tries the service out sees what a user sees. */
const developerScopes: ReadonlySet<Scope> = new Set(scopes.filter((scope) => scope !== 'audit'));

/** Issuers put scopes of other services into tokens too. */
function scopesIn(payload: JWTPayload, { nameOf, scopeClaims }: ClaimNames): ReadonlySet<Scope> {
  const named = new Set(scopeClaims.flatMap((claim) => namesIn(payload[claim])));
  return grantedBy(scopes.filter((scope) => named.has(nameOf(scope))));
}

/** A string of names with spaces (RFC 8693 section 4.2), or a list, as some issuers send. */
function namesIn(claim: unknown): string[] {
  if (typeof claim === 'string') return claim.split(' ');
  return Array.isArray(claim) ? claim.filter((each) => typeof each === 'string') : [];
}

/** Roles by project, as the token says: an object of ids and roles. What is no role says nothing. */
function projectsIn(payload: JWTPayload, { projectsClaim }: ClaimNames): ReadonlyMap<string, MemberRole> | undefined {
  const claim: unknown = projectsClaim === undefined ? undefined : payload[projectsClaim];
  if (!(claim instanceof Object) || Array.isArray(claim)) return undefined;
  const said = Object.entries(claim).flatMap(([project, role]): [string, MemberRole][] => {
    const known = memberRoles.find((each) => each === role);
    return known === undefined ? [] : [[project, known]];
  });
  return new Map(said);
}

/** A name that no tier has is looked at where tiers are known. */
function tierIn(payload: JWTPayload, { tierClaim }: ClaimNames): string | undefined {
  const claim: unknown = tierClaim === undefined ? undefined : payload[tierClaim];
  return typeof claim === 'string' && claim.length > 0 && claim.length <= MAX_TIER ? claim : undefined;
}

function missingScope(scope: string): Problem {
  return new Problem('missing-scope', {
    detail: `This needs the scope ${scope}.`,
    headers: { 'www-authenticate': `Bearer realm="stowage", error="insufficient_scope", scope="${scope}"` },
  });
}

/** Every doubt is a refusal; but a key set that cannot be fetched is our trouble, not the caller's. */
function refusal(error: unknown): unknown {
  if (error instanceof Problem) return error;
  if (error instanceof KeySetUnavailable) return unavailable('key set', error);
  if (error instanceof errors.JWTExpired) return unauthenticated('The token has expired.', 'invalid_token');
  if (error instanceof errors.JWTClaimValidationFailed)
    return unauthenticated(`The claim ${error.claim} is missing or not accepted.`, 'invalid_token');
  return unauthenticated('The token is not valid.', 'invalid_token');
}

function unauthenticated(detail: string, code?: string): Problem {
  const challenge = `Bearer realm="stowage"${code === undefined ? '' : `, error="${code}", error_description="${detail}"`}`;
  return new Problem('unauthenticated', { detail, headers: { 'www-authenticate': challenge } });
}
