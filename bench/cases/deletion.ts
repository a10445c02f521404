/**
 * Deleting many assets for good, one by one and at once, beside DeleteObject by the SDK alone. They are texts: of pictures,
 * thumbnails would be made meanwhile, and deleted too.
 */

import { openDatabase } from '../../src/database/client.ts';
import { PostgresProxy } from '../../tests/faults/postgres-proxy.ts';
import { S3Proxy } from '../../tests/faults/s3-proxy.ts';
import { waitUntil } from '../../tests/support/wait-until.ts';
import type { DeletionOptions, Deletions } from '../deletions.ts';
import { cpuSeconds, type Part } from '../processes.ts';
import { type Row, Samples } from '../report.ts';
import { type BenchService, KiB, type Stage } from '../stage.ts';
import type { Rate, YardstickOptions } from '../yardsticks.ts';
import type { CaseOptions } from './case.ts';

const ASSETS = 1000;
const AT_ONCE = 32;
const ways = [
  { name: `deletion of ${ASSETS} assets, ${AT_ONCE} at once`, atOnce: AT_ONCE },
  { name: `deletion of ${ASSETS} assets by one request`, atOnce: 'bulk' as const },
];
const parts: Part[] = ['service', 'Postgres', 'S3 server'];

export async function deletion(stage: Stage, { rounds, say }: CaseOptions): Promise<Row[]> {
  const service = await stage.service();
  const samples = new Samples();
  for (let round = 0; round <= rounds; round++) {
    const yardstick = await stage.run<Rate>('yardsticks.ts', {
      kind: 'delete',
      s3: stage.s3,
      bucket: service.bucket.bucket,
      count: ASSETS,
      atOnce: AT_ONCE,
    } satisfies YardstickOptions);
    if (round > 0) samples.add('yardstick', ASSETS / yardstick.perSecond);
    for (const { name, atOnce } of ways) {
      const ids = await upload(service);
      const before = cpuSeconds([service.meter.pid]);
      const startedAt = performance.now();
      const { seconds } = await deleteAll(stage, service, ids, atOnce);
      await gone(service);
      const all = (performance.now() - startedAt) / 1000;
      const spent = cpuSeconds([service.meter.pid]);
      say(`round ${round}: ${name} ${seconds.toFixed(2)} s, bytes gone after ${all.toFixed(2)} s`);
      if (round === 0) continue;
      samples.add(`${name}: answered`, seconds);
      samples.add(`${name}: bytes gone`, all);
      for (const part of parts)
        samples.add(`${name}: CPU per asset, ${part}`, ((spent[part] - before[part]) * 1000) / ASSETS);
    }
  }
  await service.stop();
  const rows = ways.flatMap(({ name }): Row[] => [
    {
      group: 'deletion',
      what: `${name}: answered`,
      unit: 's',
      measured: samples.of(`${name}: answered`),
      yardstick: samples.of('yardstick'),
      beside: 'DeleteObject by the SDK',
    },
    { group: 'deletion', what: `${name}: bytes gone`, unit: 's', measured: samples.of(`${name}: bytes gone`) },
    ...parts.map((part) => {
      const what = `${name}: CPU per asset, ${part}`;
      return { group: 'deletion', what, unit: 'ms', measured: samples.of(what) };
    }),
  ]);
  return [...rows, ...(await counts(stage, say))];
}

/** Statements and requests to the object store, those of the jobs too, divided by the assets. */
async function counts(stage: Stage, say: CaseOptions['say']): Promise<Row[]> {
  const straight = await stage.database();
  const database = await new PostgresProxy(straight).listen();
  const store = await new S3Proxy(stage.s3.endpoint).listen();
  const service = await stage.service({ databaseUrl: database.replaceIn(straight), s3Endpoint: store.url });
  const rows: Row[] = [];
  for (const { name, atOnce } of ways) {
    const ids = await upload(service);
    let statements = 0;
    const requests: string[] = [];
    database.before = () => {
      statements += 1;
    };
    store.before = ({ operation }) => {
      if (operation !== 'HeadBucket') requests.push(operation);
    };
    await deleteAll(stage, service, ids, atOnce);
    await gone({ ...service, databaseUrl: straight });
    say(`${name}: ${statements} statements, ${requests.length} requests to S3`);
    const row = (what: string, count: number): Row => ({
      group: 'deletion',
      what: `${name}: ${what} per asset`,
      unit: '',
      measured: [count / ASSETS],
    });
    rows.push(row('statements', statements), row('S3 requests', requests.length));
    database.before = () => {};
    store.before = () => {};
  }
  await service.stop();
  await store.close();
  await database.close();
  return rows;
}

async function upload({ url, headersOf }: BenchService): Promise<string[]> {
  const ids: string[] = [];
  const files = Array.from({ length: ASSETS }, (_, index) => index).values();
  const worker = async () => {
    for (const index of files) {
      const headers = { ...headersOf(), 'content-type': 'text/plain' };
      const body = `${index}`.padEnd(KiB, ' text');
      const answer = await fetch(`${url}/v1/assets/raw/a.txt`, { method: 'PUT', headers, body });
      if (!answer.ok) throw new Error(await answer.text());
      ids.push(((await answer.json()) as { id: string }).id);
    }
  };
  await Promise.all(Array.from({ length: 16 }, worker));
  return ids;
}

function deleteAll(stage: Stage, { url, headersOf }: BenchService, ids: string[], atOnce: DeletionOptions['atOnce']) {
  return stage.run<Deletions>('deletions.ts', { url, headers: headersOf(), ids, atOnce } satisfies DeletionOptions);
}

/** Until the last record has gone, which goes after its bytes. */
async function gone({ databaseUrl }: Pick<BenchService, 'databaseUrl'>): Promise<void> {
  const { pool, close } = openDatabase({ url: databaseUrl, connections: 1, timeout: 10_000, onError: () => {} });
  try {
    await waitUntil(async () => (await pool.query('select from assets limit 1')).rowCount === 0, { timeout: 120_000 });
  } finally {
    await close();
  }
}
