/** What a scan for viruses takes while somebody waits for the answer to an upload, beside what clamd takes for the same bytes. */
import { setTimeout as delay } from 'node:timers/promises';
import { startClamd } from '../../tests/support/clamd.ts';
import { type Row, Samples } from '../report.ts';
import type { ScanningOptions } from '../scanning.ts';
import { KiB, MiB, type Stage } from '../stage.ts';
import type { CaseOptions } from './case.ts';

/** Milliseconds. */
const SCRAPE_LIFE = 3100;

const sizes = [
  { size: KiB, named: '1 KiB', count: 200 },
  { size: 10 * MiB, named: '10 MiB', count: 10 },
];

export async function scanning(stage: Stage, { rounds, say }: CaseOptions): Promise<Row[]> {
  const clamd = await startClamd();
  const service = await stage.service({
    // A part buffer holds all of the file.
    env: { PART_SIZE: '16MiB', SCAN_INLINE: '16MiB', DERIVATIVES: 'false', CLAMD: clamd.socket },
  });
  const samples = new Samples();
  try {
    for (let round = 0; round <= rounds; round++)
      for (const { size, named, count } of sizes) {
        const run = (options: ScanningOptions) => stage.run<number[]>('scanning.ts', options);
        const alone = mean(await run({ kind: 'clamd', socket: clamd.socket, size, count }));
        const before = await scansOf(service.url);
        await run({ kind: 'uploads', url: service.url, headers: service.headersOf(), size, count });
        const after = await scansOf(service.url);
        const inUpload = ((after.seconds - before.seconds) * 1000) / (after.count - before.count);
        if (round === 0) continue;
        say(`round ${round}, ${named}: clamd ${alone} ms, in an upload ${inUpload} ms`);
        samples.add(`${named} alone`, alone);
        samples.add(`${named} in an upload`, inUpload);
      }
  } finally {
    await service.stop();
    await clamd.close();
  }
  return sizes.map(({ named }) => ({
    group: 'processing',
    what: `scan of ${named} in an upload`,
    unit: 'ms',
    measured: samples.of(`${named} in an upload`),
    yardstick: samples.of(`${named} alone`),
    beside: 'clamd alone',
    aim: { compare: '<=', value: 1.15 },
  }));
}

/** As the service has measured them. A scrape within seconds of another has its text, so it is waited for. */
async function scansOf(url: string): Promise<{ seconds: number; count: number }> {
  await delay(SCRAPE_LIFE);
  const text = await (await fetch(`${url}/metrics`)).text();
  const value = (name: string) =>
    Number(
      new RegExp(`^stowage_scan_duration_seconds_${name}{[^}]*trigger="upload"[^}]*} (.+)$`, 'm').exec(text)?.[1] ?? 0,
    );
  return { seconds: value('sum'), count: value('count') };
}

function mean(values: number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
