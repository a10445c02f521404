/**
 * How many transcodes there are, of an asset and of an owner in the making, and whose turn it is.
 *
 * Owners take turns: each transcode that waits has a number, and the lowest is made next. That of an owner's next one is one above that of
 * his last, and at least the lowest that waits. So who asks for twenty gets twenty numbers, and who asks for one after him is second;
 * and nobody is passed by for ever, because numbers only grow while anything waits.
 */
import { and, eq, isNotNull, isNull, max, min, ne, sql } from 'drizzle-orm';
import { alias } from 'drizzle-orm/pg-core';
import type { Executor } from '../database/client.ts';
import { build, compile, jsonObject, nowhere, type Parameter } from '../database/statements.ts';
import { assets } from '../database/tables/assets.ts';
import { derivatives } from '../database/tables/derivatives.ts';

const isTranscode = eq(derivatives.kind, 'transcode');

/** Held until the transaction ends, so that two who ask at once do not both see room for one more. */
const lockOwner = compile('lock-transcodes-of-owner', (p: Parameter<'ownerId'>) =>
  build
    .select({ locked: sql`pg_advisory_xact_lock(hashtextextended('transcodes ' || ${p('ownerId')}, 0))` })
    .from(nowhere),
);
const countOfAsset = compile('count-transcodes-of-asset', (p: Parameter<'assetId'>) =>
  build
    .select({ count: sql<number>`count(*)::integer`.as('count') })
    .from(derivatives)
    .where(
      and(
        eq(derivatives.assetId, p('assetId')),
        isTranscode,
        ne(derivatives.state, 'discarded'),
        ne(derivatives.state, 'failed'),
      ),
    ),
);
const countOfOwner = compile('count-transcodes-of-owner', (p: Parameter<'ownerId'>) =>
  build
    .select({ count: sql<number>`count(*)::integer`.as('count') })
    .from(derivatives)
    .innerJoin(assets, eq(assets.id, derivatives.assetId))
    .where(and(eq(derivatives.state, 'making'), isTranscode, eq(assets.ownerId, p('ownerId')))),
);

const others = alias(derivatives, 'others');
const turnOf = sql<number>`(${others.options} ->> 'turn')::integer`;
const isInTheMaking = and(eq(others.kind, 'transcode'), eq(others.state, 'making'));
const waitingTurn = build
  .select({ turn: min(turnOf) })
  .from(others)
  .where(and(isInTheMaking, isNull(others.progress)));
/** Where nothing waits: that of the latest that runs. */
const runningTurn = build
  .select({ turn: max(turnOf) })
  .from(others)
  .where(and(isInTheMaking, isNotNull(others.progress)));
const takeTurnOf = compile('take-turn-of-transcode', (p: Parameter<'id' | 'ownerId'>) => {
  const ownTurn = build
    .select({ turn: sql`max(${turnOf}) + 1` })
    .from(others)
    .innerJoin(assets, eq(assets.id, others.assetId))
    .where(and(isInTheMaking, eq(assets.ownerId, p('ownerId'))));
  // greatest() passes over what is null.
  const turn = sql`greatest(0, coalesce((${waitingTurn}), (${runningTurn})), (${ownTurn}))`;
  return build
    .update(derivatives)
    .set({ options: sql`${derivatives.options} || ${jsonObject({ turn })}` })
    .where(eq(derivatives.id, p('id')))
    .returning({ turn: sql<number>`(${derivatives.options} ->> 'turn')::integer`.as('turn') });
});
const handOn = compile('hand-on-transcode', (p: Parameter<'assetId' | 'name' | 'request' | 'next'>) =>
  build
    .update(derivatives)
    .set({ requestedBy: sql`${p('next')}` })
    .where(
      and(
        eq(derivatives.assetId, p('assetId')),
        eq(derivatives.name, p('name')),
        eq(derivatives.requestedBy, p('request')),
        eq(derivatives.state, 'making'),
        isNull(derivatives.progress),
      ),
    )
    .returning({ id: derivatives.id }),
);

/**
 * Gives a transcode that was just claimed in this transaction its turn. Who asks for the same owner meanwhile waits for the end of it,
 * where they have been counted.
 */
export async function takeTurn(transaction: Executor, id: string, ownerId: string): Promise<number> {
  return (await transaction.run(takeTurnOf, { id, ownerId })).rows[0]?.turn ?? 0;
}

/** Lets another job bring a transcode that waits. @returns false when it does not wait any more */
export async function handOnTranscode(
  transaction: Executor,
  from: { assetId: string; name: string; request: string },
  next: string,
): Promise<boolean> {
  return (await transaction.run(handOn, { ...from, next })).rows.length > 0;
}

/** With the one that was just claimed in this transaction. Who asks for the same owner meanwhile waits for its end. */
export async function countTranscodes(
  transaction: Executor,
  { id, ownerId }: { id: string; ownerId: string },
): Promise<{ ofAsset: number; ofOwner: number }> {
  await transaction.run(lockOwner, { ownerId });
  const [ofAsset] = (await transaction.run(countOfAsset, { assetId: id })).rows;
  const [ofOwner] = (await transaction.run(countOfOwner, { ownerId })).rows;
  return { ofAsset: ofAsset?.count ?? 0, ofOwner: ofOwner?.count ?? 0 };
}
