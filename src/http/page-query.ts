/** Pages of short lists, the latest first: what the query says, and what the page tells of the next one. */
import type { FastifyReply } from 'fastify';
import { z } from 'zod';
import { decodeCursor, encodeCursor, type Position } from './paging.ts';

const MAX_PAGE = 200;
const ORDER = 'createdAt.desc';

export const pageQuery = z.strictObject({
  limit: z
    .string()
    .regex(/^\d{1,3}$/, `must be 1 to ${MAX_PAGE}`)
    .transform(Number)
    .refine((n) => n >= 1 && n <= MAX_PAGE, `must be 1 to ${MAX_PAGE}`)
    .default(50)
    .meta({
      override: { type: 'integer', minimum: 1, maximum: MAX_PAGE, default: 50 },
      description: 'Rows per page',
    }),
  cursor: z.string().max(4096).optional().meta({ description: '`nextCursor` of the previous page' }),
});

export const linkHeader = z.object({
  Link: z.string().optional().meta({ description: 'RFC 8288; rel="next" while more follow' }),
});

export function pageInfo(id: string) {
  return z
    .object({
      nextCursor: z.string().optional().meta({ description: 'Present while more follow' }),
      hasMore: z.boolean(),
    })
    .meta({ id });
}

/**
 * @param path of the list, for the Link header
 * @param list the rows after a position, the latest first, each with its place in the order
 * @param filters what else was asked for, for the Link header
 */
export async function pageOf<Row extends { position: Position }>(
  reply: FastifyReply,
  path: string,
  { limit, cursor }: z.output<typeof pageQuery>,
  list: (query: { after?: Position; limit: number }) => Promise<Row[]>,
  filters: Readonly<Record<string, string>> = {},
): Promise<{ rows: Row[]; page: { nextCursor?: string; hasMore: boolean } }> {
  const after = cursor === undefined ? undefined : decodeCursor(ORDER, cursor);
  const found = await list({ limit: limit + 1, ...(after && { after }) });
  const rows = found.slice(0, limit);
  const last = rows.at(-1);
  if (found.length <= limit || !last) return { rows, page: { hasMore: false } };
  const nextCursor = encodeCursor(ORDER, last.position);
  const query = new URLSearchParams({ ...filters, limit: String(limit), cursor: nextCursor });
  reply.header('link', `<${path}?${query}>; rel="next"`);
  return { rows, page: { nextCursor, hasMore: true } };
}
