/**
 * Tokens of shares: `/s/{token}`. A token is the first 128 bits of an HMAC of the id of its share, under a key that only the
 * service has, in 22 characters. So nobody guesses one, and it need not be kept: whoever shared is shown it again, as it is
 * derived anew. What is kept, and looked up, is its SHA-256; see keys.ts for what that protects from.
 */
import { createHash, createHmac } from 'node:crypto';

/** Of an HMAC-SHA-256, which may be cut to half of its bytes and no less (RFC 2104 section 5). */
const TOKEN_BYTES = 16;
/** The last of 22 characters has four bits that mean nothing: with another one there it is no token. */
const pattern = /^[A-Za-z0-9_-]{21}[AQgw]$/;

export function tokenOf(key: Buffer, shareId: string): string {
  const mac = createHmac('sha256', key).update(`share.v1\n${shareId}`).digest();
  return mac.subarray(0, TOKEN_BYTES).toString('base64url');
}

export function isToken(text: string): boolean {
  return pattern.test(text);
}

export function digestOf(token: string): Buffer {
  return createHash('sha256').update(`share\n${token}`).digest();
}

/** Of a share: its path, from which all others of it are made. */
export function pathOf(token: string): string {
  return `/s/${token}`;
}
