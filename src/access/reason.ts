/**
 * Why somebody asks for something, in his words: the header field `Stowage-Reason`, or `?reason=` of operations that list
 * it. It is kept in the audit row of what he changes. By a reason, and by nothing else, any asset is there for an
 * administrator.
 */
import { z } from 'zod';
import { Problem } from '../problems.ts';
import type { Caller } from './caller.ts';

export const REASON_HEADER = 'stowage-reason';
/** Bytes: it is kept for as long as the audit trail is. */
const MAX_REASON = 500;
const RULE = `must be 1 to ${MAX_REASON} bytes of printable text`;

/** Of bodies that name a reason. */
export const reasonText = z
  .string({ error: RULE })
  .refine(isReason, RULE)
  .meta({ override: { type: 'string', minLength: 1, maxLength: MAX_REASON } });

/** Of operations that change something. */
export const reasonQuery = z
  .string()
  .refine(isReason, RULE)
  .optional()
  .meta({
    override: { type: 'string', minLength: 1, maxLength: MAX_REASON },
    description: 'Why, for the audit trail; the header field `Stowage-Reason` says the same of every operation',
    example: 'copyright claim 1711',
  });

/**
 * The caller with his reason.
 * @throws Problem invalid-parameter
 */
export function withReason(caller: Caller, { headers, query }: { headers: object; query: unknown }): Caller {
  const field: unknown = Reflect.get(headers, REASON_HEADER);
  if (field !== undefined) return { ...caller, reason: inHeader(field) };
  // It has no prototype, so it is no instance of Object.
  const named: unknown = typeof query === 'object' && query !== null ? Reflect.get(query, 'reason') : undefined;
  // Sent twice it is none; operations that list it refuse that.
  if (typeof named !== 'string') return caller;
  if (isReason(named)) return { ...caller, reason: named };
  throw refused('reason', RULE);
}

/** Node reads header fields as ISO 8859-1; what is UTF-8 is taken as such. */
function inHeader(field: unknown): string {
  const text = typeof field === 'string' ? Buffer.from(field, 'latin1').toString() : '';
  if (isReason(text)) return text;
  throw refused('Stowage-Reason', `${RULE}, as UTF-8`);
}

function refused(parameter: string, detail: string): Problem {
  return new Problem('invalid-parameter', { detail: `${parameter} ${detail}.`, errors: [{ parameter, detail }] });
}

function isReason(text: string): boolean {
  const isPrintable = text.isWellFormed() && !/[\p{Cc}\u2028\u2029\ufffd]/u.test(text);
  return text.trim().length > 0 && Buffer.byteLength(text) <= MAX_REASON && isPrintable;
}
