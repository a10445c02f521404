/**
 * Links that lead to a CDN instead of the object store. The edge of the CDN verifies them, so it may keep the bytes for
 * everybody, and hands them out to whoever has a link that is still good.
 *
 * `CloudFrontCdn`: the origin is the bucket. Signed URLs with a canned policy (Amazon CloudFront Developer Guide, "Create a
 * signed URL using a canned policy").
 *
 * `HmacCdn`: the origin is the service, which verifies what the edge has verified, or has not: a cache that keeps answers
 * by their whole address needs to know nothing. docs/delivery.md has the edges.
 */
import { createHmac, createSecretKey, type KeyObject, sign, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';
import type { Config } from '../config.ts';

/** What a link permits, and until when. */
export interface CdnPermission {
  key: string;
  contentType: string;
  contentDisposition: string;
  cacheControl: string;
  expiresAt: Date;
}

/** A link to sign. */
export interface CdnLink extends CdnPermission {
  /** Seconds that it lives. */
  life: number;
}

export interface Cdn {
  sign(link: CdnLink): Promise<string>;
}

/** The CDN of the configuration, if there is one. */
export function openCdn(config: Config): CloudFrontCdn | HmacCdn | undefined {
  const { CDN_URL: url, CDN_KEY_PAIR_ID: keyPairId, CDN_PRIVATE_KEY_FILE: privateKey, CDN_HMAC_KEY: secret } = config;
  if (url === undefined) return undefined;
  if (secret !== undefined) return new HmacCdn({ url, secret });
  if (keyPairId === undefined || privateKey === undefined) throw new Error('CDN_URL has no key');
  return new CloudFrontCdn({ url, keyPairId, privateKey });
}

/** Under which the service is the origin. */
export const CDN_PATH = '/v1/cdn/';

const signInThread = promisify(sign);

export class CloudFrontCdn implements Cdn {
  readonly #url: string;
  readonly #keyPairId: string;
  readonly #privateKey: KeyObject;

  constructor({ url, keyPairId, privateKey }: { url: string; keyPairId: string; privateKey: KeyObject }) {
    this.#url = url;
    this.#keyPairId = keyPairId;
    this.#privateKey = privateKey;
  }

  async sign({ key, contentType, contentDisposition, cacheControl, expiresAt, life }: CdnLink): Promise<string> {
    // The bucket's answer is kept; whoever asks for it later needs a link that is good then.
    const shared = sharedCacheControl(cacheControl, Math.floor(life / 2));
    const resource = `${this.#url}/${pathOf(key)}?${headerQuery({ contentType, contentDisposition, cacheControl: shared })}`;
    const seconds = secondsOf(expiresAt);
    const policy = `{"Statement":[{"Resource":"${resource}","Condition":{"DateLessThan":{"AWS:EpochTime":${seconds}}}}]}`;
    // CloudFront knows RSA with SHA-1 only. It takes most of a millisecond, which no other request should wait for.
    const signature = await signInThread('RSA-SHA1', Buffer.from(policy), this.#privateKey);
    return `${resource}&Expires=${seconds}&Signature=${cloudFrontBase64(signature)}&Key-Pair-Id=${this.#keyPairId}`;
  }
}

export class HmacCdn implements Cdn {
  readonly #url: string;
  readonly #secret: KeyObject;

  constructor({ url, secret }: { url: string; secret: string }) {
    this.#url = url;
    this.#secret = createSecretKey(Buffer.from(secret));
  }

  async sign(link: CdnLink): Promise<string> {
    return `${this.#url}${this.#address(link)}`;
  }

  /**
   * Reads an address as it was signed, to the letter: there is one spelling, so nobody fills a cache with many. Never throws.
   * @param address path and query
   */
  read(address: string, now: Date): CdnPermission | 'expired' | 'invalid' {
    const [, path = '', query = ''] = /^\/v1\/cdn\/([^?#]{1,2048})\?([^#]{1,8192})$/.exec(address) ?? [];
    const key = decoded(path);
    const given = new URLSearchParams(query);
    const seconds = Number(given.get('expires'));
    if (key === undefined || !Number.isSafeInteger(seconds) || seconds <= 0 || seconds > LAST_SECOND) return 'invalid';
    const permission: CdnPermission = {
      key,
      contentType: given.get(CONTENT_TYPE) ?? '',
      contentDisposition: given.get(CONTENT_DISPOSITION) ?? '',
      cacheControl: given.get(CACHE_CONTROL) ?? '',
      expiresAt: new Date(seconds * 1000),
    };
    const [sent, expected] = [Buffer.from(address), Buffer.from(this.#address(permission))];
    if (sent.length !== expected.length || !timingSafeEqual(sent, expected)) return 'invalid';
    return permission.expiresAt <= now ? 'expired' : permission;
  }

  #address({ key, expiresAt, ...headers }: CdnPermission): string {
    const signed = `${CDN_PATH}${pathOf(key)}?${headerQuery(headers)}&expires=${secondsOf(expiresAt)}`;
    const signature = createHmac('sha256', this.#secret).update(`stowage cdn 1\n${signed}`).digest('base64url');
    return `${signed}&signature=${signature}`;
  }
}

/** Names of S3 (GetObject), so that a bucket may be the origin as well. */
const CONTENT_TYPE = 'response-content-type';
const CONTENT_DISPOSITION = 'response-content-disposition';
const CACHE_CONTROL = 'response-cache-control';
/** At the end of the year 9999. */
const LAST_SECOND = 253_402_300_799;

/**
 * What shared caches are told: those who may see the bytes have a link, which is what the edge asks for. A policy that wants nothing
 * to be kept gets that.
 * @param longest seconds
 */
export function sharedCacheControl(ofPolicy: string, longest: number): string {
  if (/\bno-store\b/i.test(ofPolicy)) return 'no-store';
  if (/\bno-cache\b/i.test(ofPolicy)) return 'public, no-cache';
  const [, given] = /\bmax-age=(\d{1,10})\b/i.exec(ofPolicy) ?? [];
  const seconds = Math.max(0, Math.min(longest, given === undefined ? longest : Number(given)));
  return `public, max-age=${seconds}${/\bimmutable\b/i.test(ofPolicy) ? ', immutable' : ''}`;
}

function headerQuery(headers: { contentType: string; contentDisposition: string; cacheControl: string }): string {
  return [
    [CACHE_CONTROL, headers.cacheControl],
    [CONTENT_DISPOSITION, headers.contentDisposition],
    [CONTENT_TYPE, headers.contentType],
  ]
    .map(([name, value = '']) => `${name}=${percentEncoded(value)}`)
    .join('&');
}

function pathOf(key: string): string {
  return key.split('/').map(percentEncoded).join('/');
}

/** RFC 3986 section 2.1: everything but unreserved characters, so that nothing on the way spells it in another way. */
function percentEncoded(text: string): string {
  return encodeURIComponent(text).replace(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

function decoded(path: string): string | undefined {
  try {
    return decodeURIComponent(path);
  } catch {
    return undefined;
  }
}

function secondsOf(time: Date): number {
  return Math.floor(time.getTime() / 1000);
}

/** As CloudFront writes it in a URL. */
function cloudFrontBase64(bytes: Buffer): string {
  return bytes.toString('base64').replaceAll('+', '-').replaceAll('=', '_').replaceAll('/', '~');
}
