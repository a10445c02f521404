/**
 * Secrets of API keys and upload tickets: a prefix, 32 random bytes and check digits. By prefix and check digits (CRC-32, as
 * those of GitHub's tokens) scanners of leaks know one without asking us, and a typo is refused without asking the database.
 * The secret is shown once; what is kept of it is its SHA-256, which is enough, as nobody guesses 32 random bytes.
 */
import { createHash, randomBytes } from 'node:crypto';
import { crc32 } from 'node:zlib';

export type CredentialKind = 'key' | 'ticket';

const prefixes: Record<CredentialKind, string> = { key: 'stw_', ticket: 'stt_' };
const DIGITS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const RANDOM_BYTES = 32;
/** Digits of base 62 that hold 32 bytes, and those that hold a CRC-32. */
const RANDOM_DIGITS = 43;
const CHECK_DIGITS = 6;

const pattern = new RegExp(`^(?:stw|stt)_[0-9A-Za-z]{${RANDOM_DIGITS + CHECK_DIGITS}}$`);

export interface CredentialSecret {
  text: string;
  digest: Buffer;
}

export function makeSecret(kind: CredentialKind): CredentialSecret {
  const number = BigInt(`0x${randomBytes(RANDOM_BYTES).toString('hex')}`);
  const body = prefixes[kind] + inBase62(number, RANDOM_DIGITS);
  const text = body + checkDigits(body);
  return { text, digest: digestOf(text) };
}

/** What a secret is of; undefined when it cannot be one of ours. */
export function kindOfSecret(text: string): CredentialKind | undefined {
  if (!pattern.test(text)) return undefined;
  const body = text.slice(0, -CHECK_DIGITS);
  if (checkDigits(body) !== text.slice(-CHECK_DIGITS)) return undefined;
  return text.startsWith(prefixes.key) ? 'key' : 'ticket';
}

/** Whether it is meant to be one of ours, be it damaged. */
export function looksLikeSecret(text: string): boolean {
  return Object.values(prefixes).some((prefix) => text.startsWith(prefix));
}

export function digestOf(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

function checkDigits(body: string): string {
  return inBase62(BigInt(crc32(body)), CHECK_DIGITS);
}

function inBase62(number: bigint, length: number): string {
  let text = '';
  for (let rest = number; rest > 0n; rest /= 62n) text = DIGITS.charAt(Number(rest % 62n)) + text;
  return text.padStart(length, '0');
}
