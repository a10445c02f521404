/**
 * What a share is opened with once its password was right: a signed moment until which it stays open, for this share and this
 * password. No instance has to remember it; another password, or the end of the share, ends it.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';
import { markOf } from './passwords.ts';

/** Seconds: as long as a film is watched. */
export const PASS_LIFE = 4 * 3600;
/** Of an HMAC-SHA-256, which may be cut to half of its bytes and no less (RFC 2104 section 5). */
const SIGNATURE_BYTES = 16;
const pattern = /^(\d{10})\.([A-Za-z0-9_-]{22})$/;

interface Locked {
  id: string;
  password: Buffer;
}

/** @param key of the share @param now seconds since 1970 */
export function signPass(key: Buffer, share: Locked, now: number): { pass: string; endsAt: number } {
  const endsAt = now + PASS_LIFE;
  return { pass: `${endsAt}.${sign(key, share, endsAt).toString('base64url')}`, endsAt };
}

export function isPass(key: Buffer, share: Locked, text: string, now: number): boolean {
  const [, endsAt = '', signature = ''] = pattern.exec(text) ?? [];
  const given = Buffer.from(signature, 'base64url');
  if (given.length !== SIGNATURE_BYTES || Number(endsAt) <= now) return false;
  return timingSafeEqual(given, sign(key, share, Number(endsAt)));
}

function sign(key: Buffer, { id, password }: Locked, endsAt: number): Buffer {
  const signed = ['share-pass.v1', id, markOf(password), endsAt].join('\n');
  return createHmac('sha256', key).update(signed).digest().subarray(0, SIGNATURE_BYTES);
}
