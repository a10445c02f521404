/**
 * The cost of growth without a clock: pages of Postgres that an operation touches, in a table of few assets and of many.
 * An index that is one level higher costs a page more; a scan would cost a thousand of them.
 */
import { randomBytes } from 'node:crypto';
import { v7 as uuidv7 } from 'uuid';
import { userNamed } from '../../src/access/caller.ts';
import { noLifeCycle } from '../../src/assets/life-cycle-looks.ts';
import { AssetsRepository } from '../../src/assets/repository.ts';
import { openDatabase } from '../../src/database/client.ts';
import { DerivativesRepository } from '../../src/processing/derivatives.ts';
import { noSteps } from '../../src/processing/pipeline.ts';
import { QuotasRepository } from '../../src/quotas/repository.ts';
import { UploadsRepository } from '../../src/uploads/repository.ts';
import { UsageRepository } from '../../src/usage/repository.ts';
import { Contents } from '../../src/versions/contents.ts';
import { noOutbox } from '../no-outbox.ts';
import type { Row } from '../report.ts';
import { seedAssets } from '../seed.ts';
import type { Stage } from '../stage.ts';
import type { CaseOptions } from './case.ts';

const sizes = [10_000, 100_000];
const REPEATS = 50;
const OWNER = 'bench';

export async function pages(stage: Stage, { say }: CaseOptions): Promise<Row[]> {
  const touched = await Promise.all(
    sizes.map(async (count) => {
      const databaseUrl = await stage.database();
      await seedAssets(databaseUrl, OWNER, count);
      return pagesOf(databaseUrl);
    }),
  );
  const [few, many] = touched;
  if (!few || !many) return [];
  return Object.entries(many).map(([name, count]) => {
    say(`${name}: ${few[name]} and ${count} pages`);
    return {
      group: 'growth',
      what: `${name}: pages touched with 100 000 assets`,
      unit: '',
      measured: [count],
      yardstick: [few[name] ?? Number.NaN],
      beside: 'with 10 000',
      // A third; where there are few pages at all, a level of the index more, and leaves that end elsewhere.
      aim: { compare: '<=', value: Math.max(1.3, ((few[name] ?? 0) + 8) / (few[name] ?? 1)) },
    };
  });
}

async function pagesOf(databaseUrl: string): Promise<Record<string, number>> {
  // One connection, so that its statistics are those of the database.
  const database = openDatabase({ url: databaseUrl, connections: 1, timeout: 10_000, onError: () => {} });
  const uploads = new UploadsRepository({
    database,
    outbox: noOutbox,
    limits: { defaultLimit: 2 ** 50, tierQuotas: null },
    lease: 120,
    lookAgain: 60,
    rules: noSteps,
    lifeCycleOf: () => noLifeCycle,
    contents: new Contents({
      outbox: noOutbox,
      derivatives: new DerivativesRepository(database, noOutbox),
      kept: () => 0,
      grace: 0,
      limits: { defaultLimit: 2 ** 50, tierQuotas: null },
    }),
  });
  const assets = new AssetsRepository(database);
  const quotas = new QuotasRepository(database, { defaultLimit: 2 ** 50, tierQuotas: null });
  const usage = new UsageRepository(database.database);
  const actor = { callerId: OWNER, requestId: 'pages', via: null, because: null };
  const caller = userNamed(OWNER);
  const whose = { ownerId: OWNER, caller, place: { isNew: false, account: OWNER }, actor };
  const list = { scope: { kind: 'own', caller }, trashed: false, sort: 'createdAt', order: 'desc', limit: 50 } as const;
  const { rows } = await database.pool.query<{ id: string }>('select id from assets offset 5000 limit 1');
  const operations: Record<string, () => Promise<unknown>> = {
    'list, first page': () => assets.list(list, OWNER),
    'list, a page far down': () =>
      assets.list(
        { ...list, order: 'asc', after: { value: new Date(1_700_008_000_000).toISOString(), id: uuidv7() } },
        OWNER,
      ),
    quota: () => quotas.get(OWNER),
    statistics: () => usage.statistics(OWNER),
    link: () => assets.findForDownload(caller, rows[0]?.id ?? '', 'asset.link-issued', actor, {}),
    record: () => assets.find(caller, rows[0]?.id ?? ''),
    'upload commit': async () => {
      const id = uuidv7();
      const facts = { size: 1024, mediaType: 'image/png', assetType: 'image', cacheControl: 'private' };
      const stored = { ...facts, sha256: randomBytes(32) };
      const upload = {
        id,
        ...whose,
        name: 'a.png',
        objectKey: id,
        metadata: {},
        path: '',
        tags: [],
        createdAt: new Date(),
      };
      await uploads.begin(upload, stored.size, { seal: stored });
      await uploads.settle({ id, isReplacing: false }, stored, actor);
    },
  };
  const pages = async (): Promise<number> => {
    // PostgreSQL documentation, "The Cumulative Statistics System".
    await database.pool.query('select pg_stat_force_next_flush()');
    const { rows } = await database.pool.query<{ pages: string }>(
      'select blks_hit + blks_read as pages from pg_stat_database where datname = current_database()',
    );
    return Number(rows[0]?.pages);
  };
  const found: Record<string, number> = {};
  for (const [name, operation] of Object.entries(operations)) {
    // Plans and catalogues are in memory then.
    for (let repeat = 0; repeat < 10; repeat++) await operation();
    await pages();
    const before = await pages();
    const asking = (await pages()) - before;
    for (let repeat = 0; repeat < REPEATS; repeat++) await operation();
    found[name] = Math.round(((await pages()) - before - 2 * asking) / REPEATS);
  }
  await database.close();
  return found;
}
