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
    if (itsOrder === order && value.isWellFormed() && !value.includes('\0') && fits(order, value)) return { value, id };
  } catch {
    // Told below.
  }
  const detail = 'must be the nextCursor of a page with the same sort and order';
  throw new Problem('invalid-parameter', { detail: `cursor ${detail}`, errors: [{ parameter: 'cursor', detail }] });
}

/** A forged value must not become a fault of the database. */
function fits(order: string, value: string): boolean {
  if (order.startsWith('size')) return /^\d{1,16}$/.test(value);
  if (order.startsWith('createdAt'))
    return !Number.isNaN(Date.parse(value)) && /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?[+-]\d\d(:?\d\d)?$/.test(value);
  return true;
}
