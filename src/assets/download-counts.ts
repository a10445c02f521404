/**
 * How often an asset was downloaded, and when last. A download adds a row and changes none, so many at once do not wait for
 * each other; a job adds the rows up each minute and takes them away. So the count is exact, and reading it costs little.
 */
import { eq, exists, max, sql, type WithSubquery } from 'drizzle-orm';
import type { PgColumn } from 'drizzle-orm/pg-core';
import type { DatabaseHandle } from '../database/client.ts';
import { build, compile, excluded, type Parameter, writtenOut } from '../database/statements.ts';
import { assets } from '../database/tables/assets.ts';
import { downloadCounts, downloadMarks } from '../database/tables/downloads.ts';

/** Rows that are added up by one statement. */
const FOLDED_AT_ONCE = 20_000;
/** Rows of one asset that are looked at where its record is read: of a file that is fetched more often, the rest is told a minute later. */
const MAX_LOOKED_AT = 10_000;

/** Adds the row of a download. For `build.with`. @param downloaded the asset, or no row */
export function markDownload(downloaded: WithSubquery & { id: PgColumn }, condition = sql`true`) {
  return build.$with('marked', {}).as(
    build
      .insert(downloadMarks)
      .select(
        build
          .select({ assetId: downloaded.id, at: sql<Date>`now()`.as('at') })
          .from(downloaded)
          .where(condition),
      )
      .getSQL(),
  );
}

const folded = build
  .select({ downloads: downloadCounts.downloads, lastAt: downloadCounts.lastAt })
  .from(downloadCounts)
  .where(eq(downloadCounts.assetId, assets.id))
  .as('folded');
const recent = build
  .select({ at: downloadMarks.at })
  .from(downloadMarks)
  .where(eq(downloadMarks.assetId, assets.id))
  .limit(writtenOut(MAX_LOOKED_AT))
  .as('recent');
const added = build
  .select({ downloads: sql<number>`count(*)`.as('added_downloads'), lastAt: max(recent.at).as('added_last_at') })
  .from(recent)
  .as('added');

/** To be joined to the asset, and what is selected of it. */
export const downloadsOfAsset = { folded, added };
export const downloadColumns = {
  downloadCount: sql`coalesce(${folded.downloads}, 0) + ${added.downloads}`.mapWith(Number).as('download_count'),
  lastDownloadedAt: sql`greatest(${folded.lastAt}, ${added.lastAt})`.mapWith(downloadMarks.at).as('last_downloaded_at'),
};

/** Of assets that are there: the count of one that has gone is nobody's. */
const fold = compile(
  'fold-downloads',
  () => {
    const batch = sql`(select ctid from ${downloadMarks} limit ${sql.raw(String(FOLDED_AT_ONCE))} for update skip locked)`;
    const taken = build
      .$with('taken')
      .as(
        build
          .delete(downloadMarks)
          .where(sql`ctid in ${batch}`)
          .returning({ assetId: downloadMarks.assetId, at: downloadMarks.at }),
      );
    const summed = build
      .select({
        assetId: taken.assetId,
        downloads: sql`count(*)`.as('downloads'),
        lastAt: sql<Date>`max(${taken.at})`.as('last_at'),
      })
      .from(taken)
      .where(exists(build.select({ id: assets.id }).from(assets).where(eq(assets.id, taken.assetId))))
      .groupBy(taken.assetId)
      .orderBy(taken.assetId);
    const counted = build.$with('counted', {}).as(
      build
        .insert(downloadCounts)
        .select(summed)
        .onConflictDoUpdate({
          target: downloadCounts.assetId,
          set: {
            downloads: sql`${downloadCounts.downloads} + ${excluded(downloadCounts.downloads)}`,
            lastAt: sql`greatest(${downloadCounts.lastAt}, ${excluded(downloadCounts.lastAt)})`,
          },
        })
        .getSQL(),
    );
    return build
      .with(taken, counted)
      .select({ rows: sql`count(*)`.mapWith(Number) })
      .from(taken);
  },
  { named: false },
);

/** Adds up all rows there are. @returns how many there were */
export async function foldDownloads(
  { database }: Pick<DatabaseHandle, 'database'>,
  signal?: AbortSignal,
): Promise<number> {
  for (let total = 0; ; ) {
    signal?.throwIfAborted();
    const { rows } = await database.run(fold, {});
    const taken = rows[0]?.rows ?? 0;
    total += taken;
    if (taken < FOLDED_AT_ONCE) return total;
  }
}

/** Forgets the counts of assets that go; for `build.with`. */
export function forgetDownloads(p: Parameter<'ids'>): [WithSubquery, WithSubquery] {
  const ofThem = (column: PgColumn) => sql`${column} = any(${p('ids')}::uuid[])`;
  return [
    build.$with('marks_gone', {}).as(build.delete(downloadMarks).where(ofThem(downloadMarks.assetId)).getSQL()),
    build.$with('counts_gone', {}).as(build.delete(downloadCounts).where(ofThem(downloadCounts.assetId)).getSQL()),
  ];
}
