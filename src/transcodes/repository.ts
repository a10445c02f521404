/** How many transcodes there are: of an asset, and of an owner in the making. */
import { and, eq, ne, sql } from 'drizzle-orm';
import type { Executor } from '../database/client.ts';
import { build, compile, nowhere, type Parameter } from '../database/statements.ts';
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
