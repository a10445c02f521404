/**
 * The public keys of an issuer (RFC 7517), fetched from its URL when they are needed. Whatever tokens strangers send, the
 * URL is asked by one request at a time, not again for some seconds after it failed, and for a key that it did not have
 * once in half a minute. Keys that cannot be used, such as RSA keys of fewer than 2048 bits (RFC 7518 section 3.3), are
 * passed over: whoever signs with one is not let in.
 */
import { createLocalJWKSet, errors, importJWK, type JWK, type JWTVerifyGetKey } from 'jose';

const DEADLINE = 5000;
/** Milliseconds after which the set is fetched again. */
const MAX_AGE = 600_000;
/** Milliseconds for which keys are believed that could not be fetched again. */
const MAX_STALE_AGE = 3_600_000;
/** Milliseconds between two fetches for keys that were not in the set. */
const UNKNOWN_KEY_PAUSE = 30_000;
/** Milliseconds between two fetches while they fail. */
const FAILURE_PAUSE = 3000;
/** Bytes of a set. */
const MAX_SET = 1024 * 1024;
const MIN_RSA_BITS = 2048;

type Find = ReturnType<typeof createLocalJWKSet>;

/** The set cannot be fetched, or is none. */
export class KeySetUnavailable extends Error {
  override name = 'KeySetUnavailable';
}

export class KeySet {
  readonly #url: string;
  readonly #now: () => number;
  #keys: { find: Find; at: number } | undefined;
  #failure: { error: unknown; at: number } | undefined;
  #fetching: Promise<Find> | undefined;

  /** @param now milliseconds of a clock that only goes forward */
  constructor(url: string, now: () => number = () => performance.now()) {
    this.#url = url;
    this.#now = now;
  }

  /** For jose. @throws KeySetUnavailable; errors of jose for a token without a key in the set */
  readonly find: JWTVerifyGetKey = async (header, token) => {
    const find = await this.#current();
    try {
      return await find(header, token);
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey) || this.#age() < UNKNOWN_KEY_PAUSE) throw error;
      return (await this.#fetch())(header, token);
    }
  };

  async #current(): Promise<Find> {
    const keys = this.#keys;
    if (keys && this.#age() < MAX_AGE) return keys.find;
    try {
      return await this.#fetch();
    } catch (error) {
      if (keys && this.#age() < MAX_STALE_AGE) return keys.find;
      throw error;
    }
  }

  #age(): number {
    return this.#now() - (this.#keys?.at ?? Number.NEGATIVE_INFINITY);
  }

  #fetch(): Promise<Find> {
    if (this.#failure && this.#now() - this.#failure.at < FAILURE_PAUSE)
      throw new KeySetUnavailable('the key set could not be fetched a moment ago', { cause: this.#failure.error });
    this.#fetching ??= this.#load().finally(() => {
      this.#fetching = undefined;
    });
    return this.#fetching;
  }

  async #load(): Promise<Find> {
    try {
      const keys = await usable(await fetchKeys(this.#url));
      const find = createLocalJWKSet({ keys });
      this.#keys = { find, at: this.#now() };
      this.#failure = undefined;
      return find;
    } catch (error) {
      this.#failure = { error, at: this.#now() };
      throw new KeySetUnavailable('the key set cannot be fetched', { cause: error });
    }
  }
}

async function fetchKeys(url: string): Promise<JWK[]> {
  const answer = await fetch(url, {
    headers: { accept: 'application/jwk-set+json, application/json' },
    redirect: 'manual',
    signal: AbortSignal.timeout(DEADLINE),
  });
  if (answer.status !== 200) {
    await answer.body?.cancel();
    throw new Error(`the key set answers ${answer.status}`);
  }
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of answer.body ?? []) {
    size += chunk.length;
    if (size > MAX_SET) throw new Error('the key set is too large');
    chunks.push(chunk);
  }
  const document: unknown = JSON.parse(Buffer.concat(chunks).toString());
  const keys: unknown = document instanceof Object && 'keys' in document ? document.keys : undefined;
  if (!Array.isArray(keys)) throw new Error('the key set has no keys');
  return keys.filter((key): key is JWK => key instanceof Object && 'kty' in key && typeof key.kty === 'string');
}

/** Those of the keys that a signature can be verified with. */
async function usable(keys: JWK[]): Promise<JWK[]> {
  const results = await Promise.all(
    keys.map(async (key) => {
      if (key.kty === 'oct') return false;
      if (key.kty === 'RSA' && bitsOf(key.n) < MIN_RSA_BITS) return false;
      try {
        await importJWK(key, key.alg ?? algorithmOf(key));
        return true;
      } catch {
        return false;
      }
    }),
  );
  return keys.filter((_key, index) => results[index]);
}

function algorithmOf({ kty }: JWK): string {
  return kty === 'RSA' ? 'RS256' : kty === 'EC' ? 'ES256' : 'EdDSA';
}

/** Of a modulus in base64url. */
function bitsOf(modulus: unknown): number {
  const bytes = Buffer.from(typeof modulus === 'string' ? modulus : '', 'base64url');
  const first = bytes.findIndex((byte) => byte !== 0);
  return first < 0 ? 0 : (bytes.length - first) * 8 - Math.clz32(bytes[first] ?? 0) + 24;
}
