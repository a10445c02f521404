/**
 * Addresses of variants: `/v1/variants/{asset}/{revision}/{options}?exp={seconds}&sig={signature}`. Whoever has one needs no
 * token. What is signed is written anew from the parts that were read, never cut out of the text of the request, and an
 * address that is spelled in another way than it is signed is none: so there is one address for one picture and one expiry.
 */
import { createHash, createHmac, createSecretKey, timingSafeEqual } from 'node:crypto';
import { parse, serialise, type VariantOptions } from './options.ts';

/** Of an HMAC-SHA-256, which may be cut to half of its bytes and no less (RFC 2104 section 5). */
const SIGNATURE_BYTES = 16;

const address =
  /^\/v1\/variants\/([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\/([0-9a-f]{16})\/([a-z0-9-]{1,40}\.[a-z]{3,4})\?exp=(\d{10})&sig=([A-Za-z0-9_-]{22})$/;

export interface VariantAddress {
  assetId: string;
  /** Of the bytes from which it is made; see `revisionOf`. */
  revision: string;
  options: VariantOptions;
  /** Seconds since 1970. */
  expires: number;
}

/** Path and query. */
export function signAddress(key: Buffer, parts: VariantAddress): string {
  const { assetId, revision, options, expires } = parts;
  const signature = sign(key, parts).toString('base64url');
  return `/v1/variants/${assetId}/${revision}/${serialise(options)}?exp=${expires}&sig=${signature}`;
}

/**
 * Reads an address that one of the keys has signed.
 * @param url path and query as they were sent
 * @param now seconds since 1970
 * @returns undefined for anything else; nothing tells what is wrong with it
 */
export function readAddress(keys: readonly Buffer[], url: string, now: number): VariantAddress | undefined {
  const [, assetId = '', revision = '', spelled = '', expiry = '', signature = ''] = address.exec(url) ?? [];
  const options = parse(spelled);
  const expires = Number(expiry);
  if (!options || expires <= now) return undefined;
  const parts = { assetId, revision, options, expires };
  const given = Buffer.from(signature, 'base64url');
  // The last of 22 characters has four bits that mean nothing: another one there would be a second spelling.
  if (given.length !== SIGNATURE_BYTES || given.toString('base64url') !== signature) return undefined;
  return keys.some((key) => timingSafeEqual(given, sign(key, parts))) ? parts : undefined;
}

function sign(key: Buffer, { assetId, revision, options, expires }: VariantAddress): Buffer {
  const signed = ['variant.v1', assetId, revision, serialise(options), expires].join('\n');
  // Node takes a KeyObject 8 µs sooner than bytes.
  return createHmac('sha256', createSecretKey(key)).update(signed).digest().subarray(0, SIGNATURE_BYTES);
}

/**
 * Names the bytes that are served of an asset, so that other bytes have other addresses and each answer can be kept for ever:
 * the first 64 bits of their digest, or of that of their key, which is written once.
 */
export function revisionOf({ sha256, objectKey }: { sha256?: Buffer | null; objectKey: string }): string {
  const digest = sha256 ?? createHash('sha256').update(objectKey).digest();
  return digest.toString('hex').slice(0, 16);
}
