/**
 * How often a share was downloaded. Where there is a limit, its row counts: one conditional UPDATE grants, so of a share for
 * three downloads three begin, however many ask for one on however many instances. Where there is none, a download adds a row
 * and changes none that another one changes; a job adds them up.
 *
 * The ranges of one download count once. Who asks for a whole file begins a download; who asks for a range goes on with what
 * he has begun within the last hours, and begins a download where there is none. So players that jump, programs that go on
 * after a break, and those that fetch a file in pieces count as one, also where the limit was reached meanwhile.
 */

import type { WithSubquery } from 'drizzle-orm';
import { and, eq, gt, isNotNull, isNull, lte, type SQL, sql } from 'drizzle-orm';
import type { PgColumn } from 'drizzle-orm/pg-core';
import type { DatabaseHandle, Executor } from '../database/client.ts';
import { build, compile, excluded, namesOf, now, nowhere, type Parameter, unnested } from '../database/statements.ts';
import { downloadMarks } from '../database/tables/downloads.ts';
import { shareMarks, shares, shareVisits } from '../database/tables/shares.ts';
import { isLive } from './statements.ts';

/** Hours for which further ranges belong to a download: a file that is resumed, a film that is watched with a break. */
const VISIT_HOURS = 6;
/** Rows that are added up by one statement. */
const FOLDED_AT_ONCE = 20_000;

export interface Download {
  shareId: string;
  /** What the ranges are of: the asset, or the share itself. */
  what: string;
  /** Whose own count goes up too. */
  assetId: string | null;
  client: Buffer;
}
type DownloadParameter = 'shareId' | 'what' | 'assetId' | 'client';

/** What a download is of, and until when it may go on. */
type Begun = WithSubquery & { shareId: PgColumn | SQL.Aliased };

const visitEnd = sql.raw(`now() + interval '${VISIT_HOURS} hours'`);
const isVisit = (p: Parameter<DownloadParameter>) =>
  and(
    eq(shareVisits.shareId, p('shareId')),
    eq(shareVisits.assetId, p('what')),
    eq(shareVisits.client, p('client')),
    gt(shareVisits.endsAt, now),
  );
/** @param again when the end of one that is there is set anew: of many at once, not by each */
const visit = (p: Parameter<DownloadParameter>, begun: Begun, again: SQL) =>
  sql`insert into ${shareVisits} (${namesOf(shareVisits.shareId, shareVisits.assetId, shareVisits.client, shareVisits.endsAt)})
    select ${begun.shareId}, ${p('what')}::uuid, ${p('client')}::bytea, ${visitEnd} from ${begun}
    on conflict (${namesOf(shareVisits.shareId, shareVisits.assetId, shareVisits.client)})
    do update set ${namesOf(shareVisits.endsAt)} = ${excluded(shareVisits.endsAt)} where ${again}
    returning ${namesOf(shareVisits.shareId)}`;
const isStale = sql`${shareVisits.endsAt} < now() + ${sql.raw(`interval '${VISIT_HOURS / 2} hours'`)}`;
const hasEnded = sql`${shareVisits.endsAt} <= now()`;
const markAsset = (p: Parameter<DownloadParameter>, begun: Begun) =>
  build.$with('marked_asset', {}).as(
    build
      .insert(downloadMarks)
      .select(sql`select ${p('assetId')}::uuid, now() from ${begun} where ${p('assetId')}::uuid is not null`)
      .getSQL(),
  );
const markAssets = compile('mark-shared-assets', (p: Parameter<'ids'>) =>
  build
    .insert(downloadMarks)
    .select(
      build
        .select({ assetId: unnested(p('ids'), downloadMarks.assetId).as('asset_id'), at: sql<Date>`now()`.as('at') })
        .from(nowhere),
    ),
);
const markShare = (begun: Begun) =>
  build
    .$with('marked_share', {})
    .as(build.insert(shareMarks).select(sql`select ${begun.shareId}, now() from ${begun}`).getSQL());

/** One more, if there may be one more. */
const counted = (p: Parameter<DownloadParameter>, condition: SQL | undefined) =>
  build.$with('counted').as(
    build
      .update(shares)
      .set({ downloads: sql`${shares.downloads} + 1`, lastUsedAt: now })
      .where(
        and(
          eq(shares.id, p('shareId')),
          isLive,
          isNotNull(shares.maxDownloads),
          sql`${shares.downloads} < ${shares.maxDownloads}`,
          condition,
        ),
      )
      .returning({ shareId: sql<string>`${shares.id}`.as('share_id') }),
  );
const countedDownload = (p: Parameter<DownloadParameter>, condition: SQL | undefined) => {
  const begun = counted(p, condition);
  const visited = build.$with('visited', {}).as(visit(p, begun, sql`true`));
  return build.with(begun, visited, markAsset(p, begun)).select({ shareId: begun.shareId }).from(begun);
};
const countWhole = compile('count-share-download', (p: Parameter<DownloadParameter>) => countedDownload(p, undefined));
const lockRow = compile('lock-share-count', (p: Parameter<'shareId'>) =>
  build
    .select({ id: shares.id })
    .from(shares)
    .where(eq(shares.id, p('shareId')))
    .for('update'),
);
/** In the transaction that has locked the row: nobody else begins one meanwhile. */
const countRange = compile('count-share-range', (p: Parameter<DownloadParameter>) =>
  countedDownload(p, sql`not exists (select from ${shareVisits} where ${isVisit(p)})`),
);
const findVisit = compile('find-share-visit', (p: Parameter<DownloadParameter>) =>
  build.select({ shareId: shareVisits.shareId }).from(shareVisits).where(isVisit(p)),
);
const uncount = compile('uncount-share-download', (p: Parameter<DownloadParameter>) => {
  const ended = build.$with('ended', {}).as(build.delete(shareVisits).where(isVisit(p)).getSQL());
  return build
    .with(ended)
    .update(shares)
    .set({ downloads: sql`${shares.downloads} - 1` })
    .where(and(eq(shares.id, p('shareId')), isNotNull(shares.maxDownloads), gt(shares.downloads, sql`0`)));
});

/** Of a share without a limit. */
const unlimited = (p: Parameter<DownloadParameter>) =>
  build.$with('unlimited').as(
    build
      .select({ shareId: sql<string>`${shares.id}`.as('share_id') })
      .from(shares)
      .where(and(eq(shares.id, p('shareId')), isLive, isNull(shares.maxDownloads))),
  );
const markWhole = compile('mark-share-download', (p: Parameter<DownloadParameter>) => {
  const begun = unlimited(p);
  const visited = build.$with('visited', {}).as(visit(p, begun, isStale));
  return build
    .with(begun, visited, markShare(begun), markAsset(p, begun))
    .select({ shareId: begun.shareId })
    .from(begun);
});
const markRange = compile('mark-share-range', (p: Parameter<DownloadParameter>) => {
  const there = unlimited(p);
  const begun = build.$with('visited', { shareId: shareVisits.shareId }).as(visit(p, there, hasEnded));
  return build.with(there, begun, markShare(begun), markAsset(p, begun)).select({ shareId: there.shareId }).from(there);
});

export class ShareDownloads {
  readonly #handle: DatabaseHandle;

  constructor(handle: DatabaseHandle) {
    this.#handle = handle;
  }

  /** Whether somebody has begun to download it, and may go on. */
  async hasBegun(download: Download): Promise<boolean> {
    return (await this.#handle.database.run(findVisit, { ...download })).rows.length > 0;
  }

  /**
   * Before bytes are sent.
   * @param isLimited as the share was found
   * @param isRange whether it may go on with one that has begun
   * @returns `begun` or `goes-on`; `refused` when there may be no more, or the share is another one than it was
   */
  async begin(download: Download, isLimited: boolean, isRange: boolean): Promise<'begun' | 'goes-on' | 'refused'> {
    const { database, transact } = this.#handle;
    const values = { ...download };
    const hasRow = async (executor: Executor, statement: typeof countWhole) =>
      (await executor.run(statement, values)).rows.length > 0;
    if (isRange && (await this.hasBegun(download))) return 'goes-on';
    if (!isLimited) return (await hasRow(database, isRange ? markRange : markWhole)) ? 'begun' : 'refused';
    if (!isRange) return (await hasRow(database, countWhole)) ? 'begun' : 'refused';
    return transact(async (transaction) => {
      await transaction.run(lockRow, values);
      if (await hasRow(transaction, countRange)) return 'begun';
      return (await hasRow(transaction, findVisit)) ? 'goes-on' : 'refused';
    });
  }

  /** Of an archive that counts once: each of the assets that was begun was downloaded once more. */
  async markAssets(ids: readonly string[]): Promise<void> {
    if (ids.length > 0) await this.#handle.database.run(markAssets, { ids });
  }

  /** Of one that has begun no byte could be sent. */
  async takeBack(download: Download): Promise<void> {
    await this.#handle.database.run(uncount, { ...download });
  }
}

const fold = compile(
  'fold-share-marks',
  () => {
    const batch = sql`(select ctid from ${shareMarks} limit ${sql.raw(String(FOLDED_AT_ONCE))} for update skip locked)`;
    const taken = build
      .$with('taken')
      .as(
        build
          .delete(shareMarks)
          .where(sql`ctid in ${batch}`)
          .returning({ shareId: shareMarks.shareId, at: shareMarks.at }),
      );
    const summed = build.$with('summed').as(
      build
        .select({
          shareId: taken.shareId,
          downloads: sql<number>`count(*)`.as('added_downloads'),
          lastAt: sql<Date>`max(${taken.at})`.as('added_last_at'),
        })
        .from(taken)
        .groupBy(taken.shareId),
    );
    const added = build.$with('added', {}).as(
      build
        .update(shares)
        .set({
          downloads: sql`${shares.downloads} + ${summed.downloads}`,
          lastUsedAt: sql`greatest(${shares.lastUsedAt}, ${summed.lastAt})`,
        })
        .from(summed)
        .where(eq(shares.id, summed.shareId))
        .getSQL(),
    );
    return build
      .with(taken, summed, added)
      .select({ rows: sql`count(*)`.mapWith(Number) })
      .from(taken);
  },
  { named: false },
);
const forgetVisits = compile(
  'forget-share-visits',
  () => build.delete(shareVisits).where(lte(shareVisits.endsAt, now)),
  { named: false },
);

/** Adds up all marks there are. */
export async function foldShareMarks(
  { database }: Pick<DatabaseHandle, 'database'>,
  signal: AbortSignal,
): Promise<void> {
  for (let taken = FOLDED_AT_ONCE; taken === FOLDED_AT_ONCE; ) {
    signal.throwIfAborted();
    const { rows } = await database.run(fold, {});
    taken = rows[0]?.rows ?? 0;
  }
}

export async function forgetShareVisits({ database }: Pick<DatabaseHandle, 'database'>): Promise<void> {
  await database.run(forgetVisits, {});
}
