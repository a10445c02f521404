/**
 * How many files and bytes a ticket still allows. They are counted in the transaction that begins or extends an upload, and
 * given back in the statement that ends one which became no asset: so a place is neither taken twice nor lost, whatever
 * process dies. What an upload has of a ticket is one place, and the bytes that are reserved for it.
 *
 * Rows are locked in one order, so that no two transactions wait for each other: the asset, its quota, its ticket.
 */
import { and, eq, gt, isNull, type SQL, sql, type WithSubquery } from 'drizzle-orm';
import type { PgColumn } from 'drizzle-orm/pg-core';
import type { Executor } from '../database/client.ts';
import { build, compile, now, type Parameter } from '../database/statements.ts';
import { tickets } from '../database/tables/credentials.ts';
import { Problem } from '../problems.ts';
import { ticketUsedUp } from './problems.ts';

const hasRoom = (bytes: SQL) =>
  sql`(${tickets.maxBytes} is null or ${tickets.bytes} + ${bytes} <= ${tickets.maxBytes})`;

const takePlace = compile('take-ticket-place', (p: Parameter<'ticket' | 'bytes'>) => {
  const bytes = sql`${p('bytes')}::bigint`;
  return build
    .update(tickets)
    .set({ files: sql`${tickets.files} + 1`, bytes: sql`${tickets.bytes} + ${bytes}` })
    .where(
      and(
        eq(tickets.id, p('ticket')),
        isNull(tickets.revokedAt),
        gt(tickets.expiresAt, now),
        sql`(${tickets.maxFiles} is null or ${tickets.files} < ${tickets.maxFiles})`,
        hasRoom(bytes),
      ),
    );
});

/** What began in time may end; what was revoked may not. */
const takeBytes = compile('take-ticket-bytes', (p: Parameter<'ticket' | 'bytes'>) => {
  const bytes = sql`${p('bytes')}::bigint`;
  return build
    .update(tickets)
    .set({ bytes: sql`${tickets.bytes} + ${bytes}` })
    .where(and(eq(tickets.id, p('ticket')), isNull(tickets.revokedAt), hasRoom(bytes)));
});

const findCounts = compile('find-ticket-counts', (p: Parameter<'ticket'>) =>
  build
    .select({
      maxFiles: tickets.maxFiles,
      maxBytes: tickets.maxBytes,
      files: tickets.files,
      bytes: tickets.bytes,
      isGood: sql<boolean>`${tickets.revokedAt} is null and ${tickets.expiresAt} > now()`.as('is_good'),
    })
    .from(tickets)
    .where(eq(tickets.id, p('ticket'))),
);

/**
 * Takes the place of one file, in the transaction that begins its upload.
 * @param bytes that are reserved for it
 * @throws Problem ticket-used-up; then the transaction must not be committed
 */
export async function countFile(transaction: Executor, ticket: string, bytes: number): Promise<void> {
  if ((await transaction.run(takePlace, { ticket, bytes })).rowCount === 1) return;
  throw await usedUp(transaction, ticket, bytes);
}

/** The same for more bytes of a file that has its place. @throws Problem ticket-used-up */
export async function countBytes(transaction: Executor, ticket: string, bytes: number): Promise<void> {
  if (bytes === 0 || (await transaction.run(takeBytes, { ticket, bytes })).rowCount === 1) return;
  throw await usedUp(transaction, ticket, bytes);
}

/**
 * Gives place and bytes of an upload back, in the statement that ends it; pass it to `build.with`.
 * @param upload the row of the upload, whose reservation is released
 * @param released the part of the statement that changes the quota, with a row that it returns: it comes first
 */
export function givenBack(
  upload: WithSubquery & { ticketId: PgColumn | SQL.Aliased; reservedBytes: PgColumn | SQL.Aliased },
  released: WithSubquery,
): WithSubquery {
  return build.$with('given_back', {}).as(
    build
      .update(tickets)
      .set({ files: sql`${tickets.files} - 1`, bytes: sql`${tickets.bytes} - ${upload.reservedBytes}` })
      .from(upload)
      .where(and(eq(tickets.id, upload.ticketId), sql`(select count(*) from ${released}) >= 0`))
      .getSQL(),
  );
}

async function usedUp(database: Executor, ticket: string, bytes: number): Promise<Problem> {
  const { rows } = await database.run(findCounts, { ticket });
  const [row] = rows;
  if (!row?.isGood)
    return new Problem(ticketUsedUp, { detail: 'The ticket was revoked or has expired. Ask for another.' });
  const of = (count: number, most: number | null, what: string) =>
    most === null ? [] : [`${count} of ${most} ${what}`];
  const taken = [...of(row.files, row.maxFiles, 'files'), ...of(row.bytes, row.maxBytes, 'bytes')].join(' and ');
  return new Problem(ticketUsedUp, {
    detail: `Of the ticket, ${taken} are taken, and this needs ${bytes} bytes more. Ask for another ticket.`,
  });
}
