/** Links that lead back to the service: a token with its own signature, as a presigned URL has. */
import { createHmac, createSecretKey, type KeyObject, timingSafeEqual } from 'node:crypto';
import { z } from 'zod';
import type { LinkOptions, PartAddress } from '../object-store.ts';

const MAX_TOKEN = 8192;
const linkSchema = z.tuple([z.string(), z.number(), z.string(), z.string(), z.string()]);
/** Tells the two kinds of link apart: neither can be used for the other. */
const PART_LINK = 'PUT part';
const partLinkSchema = z.tuple([z.literal(PART_LINK), z.string(), z.number(), z.string(), z.number(), z.number()]);

/** What a link permits. */
export interface LinkPermission {
  key: string;
  contentType: string;
  contentDisposition: string;
  cacheControl: string;
  expiresAt: Date;
}

/** What a link for a part permits: to write this part, of so many bytes. */
export interface PartPermission extends PartAddress {
  size: number;
}

export interface LinkTokensOptions {
  secret: Buffer;
  now: () => Date;
}

export class LinkTokens {
  /** Node takes it 10 µs sooner than bytes. */
  readonly #secret: KeyObject;
  readonly #now: () => Date;

  constructor({ secret, now }: LinkTokensOptions) {
    this.#secret = createSecretKey(secret);
    this.#now = now;
  }

  /** For the bytes of an object. */
  forObject(key: string, { expiresIn, signedAt, contentType, contentDisposition, cacheControl }: LinkOptions): string {
    return this.#token([key, this.#expiry(expiresIn, signedAt), contentType, contentDisposition, cacheControl]);
  }

  /** Never throws, whatever the token is. */
  readObject(token: string): LinkPermission | 'expired' | 'invalid' {
    const content = linkSchema.safeParse(this.#contentOf(token));
    if (!content.success) return 'invalid';
    const [key, expires, contentType, contentDisposition, cacheControl] = content.data;
    const expiresAt = new Date(expires * 1000);
    return expiresAt <= this.#now() ? 'expired' : { key, contentType, contentDisposition, cacheControl, expiresAt };
  }

  /** For writing one part. */
  forPart(
    { key, uploadId, partNumber }: PartAddress,
    { size, expiresIn }: { size: number; expiresIn: number },
  ): string {
    return this.#token([PART_LINK, key, this.#expiry(expiresIn), uploadId, partNumber, size]);
  }

  /** Never throws, whatever the token is. */
  readPart(token: string): PartPermission | 'expired' | 'invalid' {
    const content = partLinkSchema.safeParse(this.#contentOf(token));
    if (!content.success) return 'invalid';
    const [, key, expires, uploadId, partNumber, size] = content.data;
    return new Date(expires * 1000) <= this.#now() ? 'expired' : { key, uploadId, partNumber, size };
  }

  #expiry(expiresIn: number, since = this.#now()): number {
    return Math.floor(since.getTime() / 1000) + expiresIn;
  }

  #token(content: unknown[]): string {
    const payload = Buffer.from(JSON.stringify(content)).toString('base64url');
    return `${payload}.${this.#sign(payload)}`;
  }

  /** What a token of ours says; undefined for any other. */
  #contentOf(token: string): unknown {
    if (token.length > MAX_TOKEN) return undefined;
    const [payload = '', signature = '', ...rest] = token.split('.');
    const [given, expected] = [Buffer.from(signature), Buffer.from(this.#sign(payload))];
    if (rest.length > 0 || given.length !== expected.length || !timingSafeEqual(given, expected)) return undefined;
    return parseJson(Buffer.from(payload, 'base64url').toString());
  }

  #sign(payload: string): string {
    return createHmac('sha256', this.#secret).update(`stowage link 1\n${payload}`).digest('base64url');
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
