/** Upload tickets in the database: given out, shown and revoked by whoever gave them out. */
import { and, desc, eq, gt, isNull, lte, sql } from 'drizzle-orm';
import { v7 as uuidv7 } from 'uuid';
import { makeSecret } from '../access/credential-secret.ts';
import { type Actor, auditFrom } from '../database/audit.ts';
import { countOne } from '../database/caller-counts.ts';
import type { DatabaseHandle, Executor } from '../database/client.ts';
import { build, compile, hoursAgo, inSeconds, jsonObject, now, type Parameter } from '../database/statements.ts';
import { assets, inState } from '../database/tables/assets.ts';
import { tickets } from '../database/tables/credentials.ts';
import type { Position } from '../http/paging.ts';
import './audit.ts';

/** After its end a ticket can still be looked at. */
const KEPT_HOURS = 24;
/** Rows that one statement removes. */
const BATCH = 1000;

export interface NewTicket {
  issuedBy: string;
  subject: string;
  byClaim: boolean;
  projectId?: string | undefined;
  assetType?: string | undefined;
  mediaTypes?: readonly string[] | undefined;
  maxFileSize?: number | undefined;
  maxFiles?: number | undefined;
  maxBytes?: number | undefined;
  metadata: Record<string, string>;
  /** Seconds. */
  expiresIn: number;
}

/** By whom tickets are looked at. */
export interface Issuer {
  id: string;
  /** Of a key for some projects: tickets of those. */
  only?: ReadonlySet<string>;
}

const shown = {
  id: tickets.id,
  subject: tickets.subject,
  projectId: tickets.projectId,
  assetType: tickets.assetType,
  mediaTypes: tickets.mediaTypes,
  maxFileSize: tickets.maxFileSize,
  maxFiles: tickets.maxFiles,
  maxBytes: tickets.maxBytes,
  metadata: tickets.metadata,
  files: tickets.files,
  bytes: tickets.bytes,
  createdAt: tickets.createdAt,
  expiresAt: tickets.expiresAt,
};
export type Ticket = Pick<typeof tickets.$inferSelect, keyof typeof shown>;

const isOf = (p: Parameter<'issuedBy' | 'only'>) =>
  and(
    eq(tickets.issuedBy, p('issuedBy')),
    isNull(tickets.revokedAt),
    sql`(${p('only')}::text[] is null or ${tickets.projectId} = any (${p('only')}::text[]))`,
  );

type Column = keyof Omit<typeof tickets.$inferSelect, 'files' | 'bytes' | 'createdAt' | 'expiresAt' | 'revokedAt'>;

/** By a statement of its own: the row is not locked while a ticket is made. */
const countTicket = compile('count-ticket', (p: Parameter<'callerId' | 'most'>) => {
  const counted = build.$with('counted').as(countOne(p, 'ticket'));
  // More need not be counted.
  const good = build
    .select({ id: tickets.issuedBy })
    .from(tickets)
    .where(and(eq(tickets.issuedBy, p('callerId')), gt(tickets.expiresAt, now), isNull(tickets.revokedAt)))
    .limit(p('most'))
    .as('good');
  return build
    .with(counted)
    .select({
      count: counted.count,
      seconds: counted.seconds,
      good: sql<number>`(${build.select({ count: sql`count(*)::integer` }).from(good)})`.as('good_tickets'),
    })
    .from(counted);
});

const insertTicket = compile('insert-ticket', (p: Parameter<Column | 'expiresIn' | keyof Actor>) => {
  const made = build.$with('made').as(
    build
      .insert(tickets)
      .values({
        id: p('id'),
        issuedBy: p('issuedBy'),
        subject: p('subject'),
        digest: p('digest'),
        projectId: p('projectId'),
        byClaim: p('byClaim'),
        assetType: p('assetType'),
        mediaTypes: sql`${p('mediaTypes')}::text[]`,
        maxFileSize: p('maxFileSize'),
        maxFiles: p('maxFiles'),
        maxBytes: p('maxBytes'),
        metadata: p('metadata'),
        expiresAt: inSeconds(p('expiresIn')),
      })
      .returning(shown),
  );
  const changed = build.$with('changed').as(
    build
      .select({
        // The audit row is of no asset.
        id: sql<null>`null::uuid`.as('asset_id'),
        ownerId: sql<string>`${p('issuedBy')}::text`.as('owner_id'),
        projectId: made.projectId,
        ticketId: sql<string>`${made.id}`.as('ticket_id'),
        subject: made.subject,
      })
      .from(made),
  );
  const detail = jsonObject({ ticketId: changed.ticketId, subject: changed.subject });
  return build
    .with(made, changed, auditFrom(p, changed, { action: 'ticket.created', detail }))
    .select()
    .from(made);
});

const listTickets = compile('list-tickets', (p: Parameter<'issuedBy' | 'only' | 'value' | 'id' | 'limit'>) =>
  build
    .select({ ...shown, value: sql<string>`${tickets.createdAt}::text`.as('value') })
    .from(tickets)
    .where(
      and(
        isOf(p),
        sql`(${p('id')}::uuid is null
          or (${tickets.createdAt}, ${tickets.id}) < (${p('value')}::timestamptz, ${p('id')}::uuid))`,
      ),
    )
    .orderBy(desc(tickets.createdAt), desc(tickets.id))
    .limit(p('limit')),
);

const findTicket = compile('find-ticket', (p: Parameter<'issuedBy' | 'only' | 'id'>) =>
  build
    .select(shown)
    .from(tickets)
    .where(and(isOf(p), eq(tickets.id, p('id')))),
);

const revokeTicket = compile('revoke-ticket', (p: Parameter<'issuedBy' | 'only' | 'id' | keyof Actor>) => {
  const changed = build.$with('changed').as(
    build
      .update(tickets)
      .set({ revokedAt: now })
      .where(and(isOf(p), eq(tickets.id, p('id'))))
      .returning({
        id: sql<null>`null::uuid`.as('asset_id'),
        ownerId: tickets.issuedBy,
        projectId: tickets.projectId,
        ticketId: sql<string>`${tickets.id}`.as('ticket_id'),
        subject: tickets.subject,
      }),
  );
  const detail = jsonObject({ ticketId: changed.ticketId, subject: changed.subject });
  return build
    .with(changed, auditFrom(p, changed, { action: 'ticket.revoked', detail }))
    .select({ ticketId: changed.ticketId })
    .from(changed);
});

/** Not while an upload of it is open, which may give its place back. */
const removeDead = compile(
  'remove-dead-tickets',
  (p: Parameter<'limit'>) => {
    const open = build
      .select({ id: assets.id })
      .from(assets)
      .where(and(eq(assets.ticketId, tickets.id), inState('uploading')));
    const dead = build
      .select({ id: tickets.id })
      .from(tickets)
      .where(and(lte(tickets.expiresAt, hoursAgo(KEPT_HOURS)), sql`not exists (${open})`))
      .limit(p('limit'));
    return build.delete(tickets).where(sql`${tickets.id} in (${dead})`);
  },
  { named: false },
);

export class TicketsRepository {
  readonly #handle: DatabaseHandle;

  constructor(handle: DatabaseHandle) {
    this.#handle = handle;
  }

  /**
   * @param limits tickets that the issuer may give out in an hour, and have at once; 0 for no limit
   * @param inTransaction what belongs into the same transaction: before the ticket is made, and after it
   * @returns the ticket with its token, which is nowhere else; or how many seconds the issuer has to wait, or 'too-many'
   */
  async create(
    ticket: NewTicket,
    { perHour, atOnce }: { perHour: number; atOnce: number },
    actor: Actor,
    inTransaction: {
      before: (transaction: Executor) => Promise<void>;
      after: (transaction: Executor, ticket: Ticket) => Promise<void>;
    },
  ): Promise<{ ticket: Ticket; token: string } | { seconds: number } | 'too-many'> {
    const { text: token, digest } = makeSecret('ticket');
    const { projectId = null, assetType = null, mediaTypes = null } = ticket;
    const { maxFileSize = null, maxFiles = null, maxBytes = null } = ticket;
    const limits = { projectId, assetType, mediaTypes, maxFileSize, maxFiles, maxBytes };
    const values = { ...ticket, ...limits, id: uuidv7(), digest, ...actor };
    const { rows: counts } = await this.#handle.database.run(countTicket, {
      callerId: ticket.issuedBy,
      most: atOnce,
    });
    const { count = 1, seconds = 0, good = 0 } = counts[0] ?? {};
    if (perHour > 0 && count > perHour) return { seconds };
    if (atOnce > 0 && good >= atOnce) return 'too-many';
    return this.#handle.transact(async (transaction) => {
      await inTransaction.before(transaction);
      const { rows } = await transaction.run(insertTicket, values);
      const [made] = rows;
      if (!made) throw new Error('a ticket was not made');
      await inTransaction.after(transaction, made);
      return { ticket: made, token };
    });
  }

  /** The latest first. @returns each with its place */
  async list(
    issuer: Issuer,
    { after, limit }: { after?: Position; limit: number },
  ): Promise<{ ticket: Ticket; position: Position }[]> {
    const values = { ...valuesOf(issuer), value: after?.value ?? null, id: after?.id ?? null, limit };
    const { rows } = await this.#handle.database.run(listTickets, values);
    return rows.map(({ value, ...ticket }) => ({ ticket, position: { value, id: ticket.id } }));
  }

  async find(issuer: Issuer, id: string): Promise<Ticket | undefined> {
    return (await this.#handle.database.run(findTicket, { ...valuesOf(issuer), id })).rows[0];
  }

  /** @returns false when there is none of this id, or it was revoked before */
  async revoke(
    issuer: Issuer,
    id: string,
    actor: Actor,
    inTransaction: (transaction: Executor) => Promise<void>,
  ): Promise<boolean> {
    return this.#handle.transact(async (transaction) => {
      const { rows } = await transaction.run(revokeTicket, { ...valuesOf(issuer), id, ...actor });
      if (rows.length === 0) return false;
      await inTransaction(transaction);
      return true;
    });
  }

  /** Removes tickets that have expired a day ago, revoked ones too. @returns how many */
  async removeDead(): Promise<number> {
    return (await this.#handle.database.run(removeDead, { limit: BATCH })).rowCount;
  }
}

function valuesOf({ id, only }: Issuer) {
  return { issuedBy: id, only: only ? [...only] : null };
}
