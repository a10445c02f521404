/** Keyset cursors: where the last page ended, opaque to clients, and bound to the order they were made in. */
import { z } from 'zod';
import { Problem } from '../problems.ts';

const content = z.tuple([z.string().max(64), z.string().max(1200), z.uuid()]);
const textContent = z.tuple([z.string().max(64), z.string().max(1200)]);

const LIMIT = 'must be 1 to 200';

/** Of the query of a list. */
export const pageLimit = z
  .string()
  .regex(/^\d{1,3}$/, LIMIT)
  .transform(Number)
  .refine((n) => n >= 1 && n <= 200, LIMIT)
  .default(50)
  .meta({
    override: { type: 'integer', minimum: 1, maximum: 200, default: 50 },
    description: 'Entries per page, at most',
  });
/** Of the query of a list. */
export const pageCursor = z
  .string()
  .max(4096)
  .optional()
  .meta({ description: '`nextCursor` of the previous page, with the same sort and order' });
/** Of the answer of a list. */
export const pageInfo = z
  .object({
    nextCursor: z.string().optional().meta({ description: 'Present while more follow' }),
    hasMore: z.boolean(),
  })
  .meta({ id: 'PageInfo' });
/** Header fields of the answer of a list. */
export const pageHeaders = z.object({
  Link: z.string().optional().meta({ description: 'RFC 8288; rel="next" while more follow' }),
});

/** The member `page` of the answer. */
export function pageEnd(nextCursor: string | undefined): z.input<typeof pageInfo> {
  return { ...(nextCursor !== undefined && { nextCursor }), hasMore: nextCursor !== undefined };
}

/** The header field Link of a page that others follow (RFC 8288). @param url of the request */
export function nextLink(url: string, nextCursor: string): string {
  const [path, query] = url.split('?');
  const next = new URLSearchParams(query);
  next.set('cursor', nextCursor);
  return `<${path}?${next}>; rel="next"`;
}

export interface Position {
  /** What the sort compared. */
  value: string;
  id: string;
}

/** @param order names the sort and its direction, such as `name.asc` */
export function encodeCursor(order: string, { value, id }: Position): string {
  return encode([order, value, id]);
}

/** @throws Problem invalid-parameter when the cursor is not one of ours, or was made for another order */
export function decodeCursor(order: string, cursor: string): Position {
  return decode(order, cursor, (decoded) => {
    const [itsOrder, value, id] = content.parse(decoded);
    return { parts: [itsOrder, value, id], value, position: { value, id } };
  });
}

/** The order that a cursor was made in, as it says itself. */
export function orderOf(cursor: string): string | undefined {
  try {
    const decoded: unknown = JSON.parse(Buffer.from(cursor, 'base64url').toString());
    return Array.isArray(decoded) && typeof decoded[0] === 'string' ? decoded[0] : undefined;
  } catch {
    return undefined;
  }
}

/** Of a list in the order of a text that one entry alone has, such as the id of a project. */
export function encodeTextCursor(order: string, value: string): string {
  return encode([order, value]);
}

/** @throws Problem invalid-parameter when the cursor is not one of ours, or is of another list */
export function decodeTextCursor(order: string, cursor: string): string {
  return decode(order, cursor, (decoded) => {
    const [itsOrder, value] = textContent.parse(decoded);
    return { parts: [itsOrder, value], value, position: value };
  });
}

function encode(parts: readonly string[]): string {
  return Buffer.from(JSON.stringify(parts)).toString('base64url');
}

/** @param read throws for what has another shape */
function decode<Read>(
  order: string,
  cursor: string,
  read: (decoded: unknown) => { parts: readonly string[]; value: string; position: Read },
): Read {
  try {
    const { parts, value, position } = read(JSON.parse(Buffer.from(cursor, 'base64url').toString()));
    // Base64 and JSON can be written in many ways; ours is one.
    if (parts[0] === order && fits(order, value) && encode(parts) === cursor) return position;
  } catch {
    // Told below.
  }
  const detail = 'must be the nextCursor of a page with the same sort and order';
  throw new Problem('invalid-parameter', { detail: `cursor ${detail}`, errors: [{ parameter: 'cursor', detail }] });
}

/** A forged value must not become a fault of the database. */
function fits(order: string, value: string): boolean {
  if (order.startsWith('size')) return /^\d{1,16}$/.test(value);
  if (/^(createdAt|publishedAt)/.test(order)) return isMoment(value);
  return value.isWellFormed() && !value.includes('\0');
}

/** A timestamp as Postgres writes it, in whatever time zone; years of four digits. */
const moment =
  /^([1-9]\d{3})-(\d\d)-(\d\d) ([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,3})?[+-](0\d|1[0-5])(:[0-5]\d){0,2}$/;

/** `Date.parse` takes more than Postgres, such as the 30th of February. */
function isMoment(text: string): boolean {
  const [, year, month, day] = moment.exec(text)?.map(Number) ?? [];
  if (year === undefined || month === undefined || day === undefined) return false;
  const midnight = new Date(Date.UTC(year, month - 1, day));
  return midnight.getUTCMonth() === month - 1 && midnight.getUTCDate() === day;
}
