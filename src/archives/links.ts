/**
 * Links to archives: the token names the files, so nothing is kept for a link, and its signature is the permission, as with a
 * link to a file. It is signed with the keys of addresses of variants, which all instances share and which are replaced while
 * the service runs.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';
import type { KeyRing } from '../variants/keys.ts';

/** Of an HMAC-SHA-256, which may be cut to half of its bytes and no less (RFC 2104 section 5). */
const SIGNATURE_BYTES = 16;
const ID_BYTES = 16;
/** What 8192 characters of a path hold, with room for the longest names. */
export const MAX_LINKED = 200;

export interface ArchiveLink {
  /** Seconds since 1970. */
  expires: number;
  /** Subject of who has made it. */
  issuer: string;
  /** File name of the archive. */
  name: string;
  /** Of the assets, in lower case. */
  ids: readonly string[];
}

export function signLink({ current }: Pick<KeyRing, 'current'>, link: ArchiveLink): string {
  const { expires, issuer, name, ids } = link;
  const time = Buffer.alloc(4);
  time.writeUInt32BE(expires);
  const content = Buffer.concat([time, text(issuer), text(name), Buffer.from(ids.join('').replaceAll('-', ''), 'hex')]);
  return Buffer.concat([sign(current, content), content]).toString('base64url');
}

/**
 * Reads a token that one of the keys has signed. Never throws, whatever it is.
 * @param now seconds since 1970
 */
export function readLink(
  { accepted }: Pick<KeyRing, 'accepted'>,
  token: string,
  now: number,
): ArchiveLink | 'expired' | 'invalid' {
  const bytes = Buffer.from(token, 'base64url');
  // Another spelling of the same bytes is another address, and none of ours.
  if (bytes.length < SIGNATURE_BYTES || bytes.toString('base64url') !== token) return 'invalid';
  const [signature, content] = [bytes.subarray(0, SIGNATURE_BYTES), bytes.subarray(SIGNATURE_BYTES)];
  if (!accepted.some((key) => timingSafeEqual(signature, sign(key, content)))) return 'invalid';
  const link = contentOf(content);
  return link.expires <= now ? 'expired' : link;
}

function contentOf(content: Buffer): ArchiveLink {
  const issuer = textAt(content, 4);
  const name = textAt(content, 5 + Buffer.byteLength(issuer));
  const ids: string[] = [];
  for (let at = 6 + Buffer.byteLength(issuer) + Buffer.byteLength(name); at < content.length; at += ID_BYTES)
    ids.push(content.toString('hex', at, at + ID_BYTES).replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-'));
  return { expires: content.readUInt32BE(0), issuer, name, ids };
}

/** Subjects and names have at most 255 bytes. */
function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([Buffer.from([bytes.length]), bytes]);
}

function textAt(content: Buffer, at: number): string {
  const length = content.readUInt8(at);
  return content.toString('utf8', at + 1, at + 1 + length);
}

function sign(key: Buffer, content: Buffer): Buffer {
  return createHmac('sha256', key).update('archive.v1\n').update(content).digest().subarray(0, SIGNATURE_BYTES);
}
