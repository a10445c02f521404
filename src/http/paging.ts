/** Keyset cursors: where the last page ended, opaque to clients, and bound to the order they were made in. */
import { z } from 'zod';
import { Problem } from '../problems.ts';

const content = z.tuple([z.string().max(64), z.string().max(1200), z.uuid()]);

export interface Position {
  /** What the sort compared. */
  value: string;
  id: string;
}

/** @param order names the sort and its direction, such as `name.asc` */
export function encodeCursor(order: string, { value, id }: Position): string {
  return Buffer.from(JSON.stringify([order, value, id])).toString('base64url');
}

/** @throws Problem invalid-parameter when the cursor is not one of ours, or was made for another order */
export function decodeCursor(order: string, cursor: string): Position {
  try {
    const [itsOrder, value, id] = content.parse(JSON.parse(Buffer.from(cursor, 'base64url').toString()));
    const position = { value, id };
    // Base64 and JSON can be written in many ways; ours is one.
    if (itsOrder === order && fits(order, value) && encodeCursor(order, position) === cursor) return position;
  } catch {
    // Told below.
  }
  const detail = 'must be the nextCursor of a page with the same sort and order';
  throw new Problem('invalid-parameter', { detail: `cursor ${detail}`, errors: [{ parameter: 'cursor', detail }] });
}

/** A forged value must not become a fault of the database. */
function fits(order: string, value: string): boolean {
  if (order.startsWith('size')) return /^\d{1,16}$/.test(value);
  if (order.startsWith('createdAt')) return isMoment(value);
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
