/**
 * Downloads of public assets are counted like others, but not one by one: a stranger would write a row each time that he
 * sends a line. They are added up in the process and written each second; a process that dies loses what it has counted since.
 */
import { eq, exists, sql } from 'drizzle-orm';
import type { Database } from '../database/client.ts';
import { build, compile, excluded, nowhere, type Parameter, unnested } from '../database/statements.ts';
import { assets } from '../database/tables/assets.ts';
import { downloadCounts } from '../database/tables/downloads.ts';

/** Milliseconds between writes. */
const WRITE_EVERY = 1000;
/** Assets that are counted while the database is away; of others nothing is. */
const MAX_COUNTED = 10_000;

/** Of assets that are there. In one order, as that of the job that adds up downloads (assets/download-counts.ts). */
const addDownloads = compile('add-public-downloads', (p: Parameter<'ids' | 'counts'>) => {
  const counted = build.$with('counted').as(
    build
      .select({
        assetId: unnested(p('ids'), downloadCounts.assetId).as('asset_id'),
        downloads: unnested(p('counts'), downloadCounts.downloads).as('downloads'),
        lastAt: sql<Date>`now()`.as('last_at'),
      })
      .from(nowhere),
  );
  const there = build
    .select()
    .from(counted)
    .where(exists(build.select({ id: assets.id }).from(assets).where(eq(assets.id, counted.assetId))))
    .orderBy(counted.assetId);
  return build
    .with(counted)
    .insert(downloadCounts)
    .select(there)
    .onConflictDoUpdate({
      target: downloadCounts.assetId,
      set: {
        downloads: sql`${downloadCounts.downloads} + ${excluded(downloadCounts.downloads)}`,
        lastAt: sql`greatest(${downloadCounts.lastAt}, ${excluded(downloadCounts.lastAt)})`,
      },
    });
});

export class PublicDownloads {
  readonly #database: Database;
  readonly #onError: (message: string, error: unknown) => void;
  #counts = new Map<string, number>();
  #timer: NodeJS.Timeout | undefined;

  constructor(database: Database, onError: (message: string, error: unknown) => void) {
    this.#database = database;
    this.#onError = onError;
  }

  count(assetId: string, downloads = 1): void {
    if (this.#counts.size >= MAX_COUNTED && !this.#counts.has(assetId)) return;
    this.#counts.set(assetId, (this.#counts.get(assetId) ?? 0) + downloads);
    this.#timer ??= setTimeout(() => void this.write(), WRITE_EVERY).unref();
  }

  /** Writes what was counted; what cannot be written is counted on. */
  async write(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const counts = this.#counts;
    if (counts.size === 0) return;
    this.#counts = new Map();
    try {
      await this.#database.run(addDownloads, { ids: [...counts.keys()], counts: [...counts.values()] });
    } catch (error) {
      this.#onError('downloads of public assets could not be counted yet', error);
      for (const [assetId, downloads] of counts) this.count(assetId, downloads);
    }
  }
}
