/** What tokens are verified by. */
import type { Config } from '../config.ts';
import { type Check, Fault } from './check.ts';

/** Milliseconds; the service waits as long for a key set. */
const DEADLINE = 5000;
/** Key types of JSON Web Keys (RFC 7518 section 6.1, RFC 8037) by algorithm. */
const keyTypes: Record<string, string> = { RS256: 'RSA', ES256: 'EC', EdDSA: 'OKP' };

export function callerChecks(config: Config): Check[] {
  const { AUTH_JWKS_URL } = config;
  if (AUTH_JWKS_URL === undefined) return [];
  return [{ name: 'key set', needed: true, run: () => keySet(AUTH_JWKS_URL, config.AUTH_ALGORITHMS) }];
}

async function keySet(url: string, algorithms: readonly string[]): Promise<string> {
  const keys = keysIn(await load(url));
  if (keys === undefined) throw new Fault(`${url} does not answer with a key set: correct AUTH_JWKS_URL`);
  const wanted = algorithms.map((algorithm) => keyTypes[algorithm]);
  const usable = keys.filter((key) => key['use'] !== 'enc' && wanted.includes(String(key['kty'])));
  if (usable.length === 0)
    throw new Fault(
      `none of the ${keys.length} keys of ${url} is for ${algorithms.join(', ')}: correct AUTH_JWKS_URL or AUTH_ALGORITHMS`,
    );
  return `${usable.length} of ${keys.length} keys can be used`;
}

async function load(url: string): Promise<unknown> {
  let answer: Response;
  try {
    answer = await fetch(url, { signal: AbortSignal.timeout(DEADLINE) });
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    const reason = cause instanceof Error ? cause.message || cause.name : String(cause);
    throw new Fault(`${url} cannot be reached (${reason}): correct AUTH_JWKS_URL, or start the issuer`);
  }
  if (!answer.ok) throw new Fault(`${url} answers ${answer.status}: correct AUTH_JWKS_URL`);
  return answer.json().catch(() => undefined);
}

/** RFC 7517 section 5. */
function keysIn(document: unknown): Record<string, unknown>[] | undefined {
  const keys: unknown = document instanceof Object && 'keys' in document ? document.keys : undefined;
  return Array.isArray(keys) ? keys.filter((key) => key instanceof Object) : undefined;
}
