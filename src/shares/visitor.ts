/**
 * Who downloads, as far as that can be told: so that the ranges of one download count once. A browser that came by the page
 * of the share sends what the page gave it; everything else is known by its address and what it calls itself. Kept is a digest
 * together with the token, which the database has not: so nobody reads addresses out of it.
 */
import { createHash, randomBytes } from 'node:crypto';
import type { FastifyRequest } from 'fastify';
import { networkOf } from '../http/refusal-limit.ts';

export const VISIT_COOKIE = 'stowage-visit';
export const PASS_COOKIE = 'stowage-share';

/** Of a download. */
export function visitorOf(request: FastifyRequest, token: string): Buffer {
  const visit = cookieOf(request, VISIT_COOKIE);
  const who =
    visit !== undefined && /^[A-Za-z0-9_-]{22}$/.test(visit)
      ? ['visit', visit]
      : ['address', request.ip, request.headers['user-agent'] ?? ''];
  return digestOf(token, who);
}

/** Of somebody who tries passwords: what he calls himself he can change. */
export function addressOf(request: FastifyRequest, token: string): Buffer {
  return digestOf(token, ['network', networkOf(request.ip)]);
}

export function newVisit(): string {
  return randomBytes(16).toString('base64url');
}

/** RFC 6265 section 4.2.1. The first of a name counts: browsers send that of the longest path first. */
export function cookieOf({ headers }: FastifyRequest, name: string): string | undefined {
  for (const pair of (headers.cookie ?? '').split(';')) {
    const [its = '', value] = pair.trim().split('=');
    if (its === name && value !== undefined) return value;
  }
  return undefined;
}

function digestOf(token: string, parts: readonly string[]): Buffer {
  return createHash('sha256')
    .update([token, ...parts].join('\n'))
    .digest();
}
