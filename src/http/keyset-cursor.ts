/** Cursors of lists whose rows are in the order of other things than times, names or sizes of assets; opaque to clients. */
import { z } from 'zod';
import { Problem } from '../problems.ts';

const outer = z.tuple([z.string().max(64), z.unknown()]);

/**
 * A codec of cursors.
 * @param keys what the rows are in the order of, as text
 */
export function cursorOf<Keys extends readonly string[]>(keys: z.ZodType<Keys>) {
  const encode = (order: string, position: Keys) =>
    Buffer.from(JSON.stringify([order, position])).toString('base64url');
  return {
    /** @param order names the sort and its direction: a cursor is good for the order that it was made in */
    encode,
    /** @throws Problem invalid-parameter when the cursor is not one of ours, or was made for another order */
    decode: (order: string, cursor: string): Keys => {
      try {
        const [itsOrder, content] = outer.parse(JSON.parse(Buffer.from(cursor, 'base64url').toString()));
        const position = keys.parse(content);
        // Base64 and JSON can be written in many ways; ours is one.
        if (itsOrder === order && encode(order, position) === cursor) return position;
      } catch {
        // Told below.
      }
      const detail = 'must be the nextCursor of a page with the same sort, order and filters';
      throw new Problem('invalid-parameter', { detail: `cursor ${detail}`, errors: [{ parameter: 'cursor', detail }] });
    },
  };
}

/** A whole number that Postgres takes for a bigint. */
export const wholeNumber = z.string().regex(/^\d{1,18}$/);
/** Text that Postgres takes. */
export const storableText = z
  .string()
  .max(1200)
  .refine((text) => text.isWellFormed() && !text.includes('\0'));

/** Rows of a page. */
export const pageLimit = z
  .string()
  .regex(/^\d{1,3}$/, 'must be 1 to 200')
  .transform(Number)
  .refine((n) => n >= 1 && n <= 200, 'must be 1 to 200')
  .default(50)
  .meta({
    override: { type: 'integer', minimum: 1, maximum: 200, default: 50 },
    description: 'Rows per page, at most',
  });
export const pageCursor = z
  .string()
  .max(4096)
  .optional()
  .meta({ description: '`nextCursor` of the previous page, with the same sort, order and filters' });
