/**
 * How often a password was tried: of one share by one address, and by all addresses. A try is counted before the password is
 * looked at, by one statement over all instances, so however many come at once, no more are looked at than there may be. One
 * that was right is given back. What is refused writes nothing.
 */
import { and, eq, lte, sql } from 'drizzle-orm';
import type { Executor } from '../database/client.ts';
import { build, compile, excluded, namesOf, now, type Parameter } from '../database/statements.ts';
import { shareTries } from '../database/tables/shares.ts';

/** Seconds. The window begins with the first try after the last one ended. */
const WINDOW = 15 * 60;
/** Of one share, all addresses together may try so many times what one may: more would let many addresses guess for one. */
const TOGETHER = 10;
/** Stands for all addresses. */
const EVERYBODY = Buffer.alloc(0);

type TryParameter = 'shareId' | 'client' | 'limit' | 'everybody' | 'total';
/** The row of one client, or of everybody; each is locked in this order. */
const counted = (
  p: Parameter<TryParameter>,
  client: 'client' | 'everybody',
  limit: 'limit' | 'total',
  from: string,
) => {
  const hasEnded = sql`${shareTries.endsAt} <= now()`;
  const added = sql.raw(`(select from ${from})`);
  const [tries, endsAt] = [namesOf(shareTries.tries), namesOf(shareTries.endsAt)];
  return sql`insert into ${shareTries} (${namesOf(shareTries.shareId, shareTries.client)}, ${tries}, ${endsAt})
    select ${p('shareId')}::uuid, ${p(client)}::bytea, 1, now() + make_interval(secs => ${sql.raw(String(WINDOW))}) where exists ${added}
    on conflict (${namesOf(shareTries.shareId, shareTries.client)}) do update set
      ${tries} = case when ${hasEnded} then 1 else ${shareTries.tries} + 1 end,
      ${endsAt} = case when ${hasEnded} then ${excluded(shareTries.endsAt)} else ${shareTries.endsAt} end
    where ${hasEnded} or ${shareTries.tries} < ${p(limit)}::integer
    returning ${namesOf(shareTries.shareId)}`;
};
const takeTry = compile('take-share-try', (p: Parameter<TryParameter>) => {
  const own = build.$with('own', { shareId: shareTries.shareId }).as(counted(p, 'client', 'limit', '(select) as one'));
  const all = build.$with('together', { shareId: shareTries.shareId }).as(counted(p, 'everybody', 'total', 'own'));
  return build.with(own, all).select({ shareId: all.shareId }).from(all);
});

const ofShare = (p: Parameter<'shareId' | 'client' | 'everybody'>) =>
  and(eq(shareTries.shareId, p('shareId')), sql`${shareTries.client} in (${p('client')}, ${p('everybody')})`);
const findEnd = compile('find-share-tries-end', (p: Parameter<TryParameter>) =>
  build
    .select({ seconds: sql<number>`ceil(extract(epoch from ${shareTries.endsAt} - now()))::integer`.as('seconds') })
    .from(shareTries)
    .where(
      and(
        ofShare(p),
        sql`${shareTries.endsAt} > now()`,
        sql`${shareTries.tries} >= case when ${shareTries.client} = ${p('client')} then ${p('limit')}::integer else ${p('total')}::integer end`,
      ),
    ),
);
const giveBack = compile('give-share-try-back', (p: Parameter<'shareId' | 'client' | 'everybody'>) => {
  const locked = build
    .select({ client: shareTries.client })
    .from(shareTries)
    .where(ofShare(p))
    // The client's first, as they are taken.
    .orderBy(sql`${shareTries.client} desc`)
    .for('update');
  return build
    .update(shareTries)
    .set({ tries: sql`greatest(0, ${shareTries.tries} - 1)` })
    .where(and(eq(shareTries.shareId, p('shareId')), sql`${shareTries.client} in (${locked})`));
});
const forget = compile('forget-share-tries', () => build.delete(shareTries).where(lte(shareTries.endsAt, now)), {
  named: false,
});

export class ShareTries {
  readonly #database: Executor;
  readonly #perAddress: number;

  constructor(database: Executor, perAddress: number) {
    this.#database = database;
    this.#perAddress = perAddress;
  }

  /** @returns undefined when the try is granted; else the seconds until another one is */
  async take(shareId: string, client: Buffer): Promise<number | undefined> {
    const values = {
      ...{ shareId, client, everybody: EVERYBODY },
      limit: this.#perAddress,
      total: this.#perAddress * TOGETHER,
    };
    const { rows } = await this.#database.run(takeTry, values);
    if (rows.length > 0) return undefined;
    const { rows: ends } = await this.#database.run(findEnd, values);
    return Math.max(1, ...ends.map(({ seconds }) => seconds));
  }

  /** The password was right. */
  async giveBack(shareId: string, client: Buffer): Promise<void> {
    await this.#database.run(giveBack, { shareId, client, everybody: EVERYBODY });
  }
}

export async function forgetTries(database: Executor): Promise<void> {
  await database.run(forget, {});
}
