/** What a scan for viruses adds to an upload, beside what clamd takes for the same bytes. */
import { startClamd } from '../../tests/support/clamd.ts';
import { median, type Row, Samples } from '../report.ts';
import type { ScanningOptions } from '../scanning.ts';
import { KiB, MiB, type Stage } from '../stage.ts';
import type { CaseOptions } from './case.ts';

const sizes = [
  { size: KiB, named: '1 KiB', count: 200 },
  { size: 10 * MiB, named: '10 MiB', count: 10 },
];

export async function scanning(stage: Stage, { rounds, say }: CaseOptions): Promise<Row[]> {
  const clamd = await startClamd();
  // Both with a part buffer that holds all of the file.
  const env = { PART_SIZE: '16MiB', DERIVATIVES: 'false' };
  const policies = { UPLOAD_POLICIES: '' };
  const plain = await stage.service({ env: { ...env, ...policies } });
  const scanning = await stage.service({
    env: { ...env, ...policies, CLAMD: clamd.socket, SCAN_INLINE: '16MiB' },
    bucket: plain.bucket,
  });
  const samples = new Samples();
  try {
    for (let round = 0; round <= rounds; round++)
      for (const { size, named, count } of sizes) {
        const run = async (options: ScanningOptions) => median(await stage.run<number[]>('scanning.ts', options));
        const alone = await run({ kind: 'clamd', socket: clamd.socket, size, count });
        const without = await run({ kind: 'uploads', url: plain.url, headers: plain.headersOf(), size, count });
        const scanned = await run({ kind: 'uploads', url: scanning.url, headers: scanning.headersOf(), size, count });
        if (round === 0) continue;
        say(`round ${round}, ${named}: clamd ${alone} ms, upload ${without} ms, scanned ${scanned} ms`);
        samples.add(`${named} alone`, alone);
        samples.add(`${named} added`, scanned - without);
      }
  } finally {
    await plain.stop();
    await scanning.stop();
    await clamd.close();
  }
  return sizes.map(({ named }) => ({
    group: 'processing',
    what: `a scan adds to an upload of ${named}`,
    unit: 'ms',
    measured: samples.of(`${named} added`),
    yardstick: samples.of(`${named} alone`),
    beside: 'clamd alone',
    aim: { compare: '<=', value: 1.15 },
  }));
}
