/** Many small files as raw bodies, beside PutObject by the SDK alone. */
import { join } from 'node:path';
import { writePng } from '../files.ts';
import type { Load, LoadOptions } from '../load.ts';
import { cpuSeconds, type Part } from '../processes.ts';
import { type Row, Samples } from '../report.ts';
import { KiB, MiB, type Stage } from '../stage.ts';
import { empty } from '../storage.ts';
import type { Rate, YardstickOptions } from '../yardsticks.ts';
import type { CaseOptions } from './case.ts';

const sizes = [
  { name: '1 KiB', size: KiB, atOnce: 32, aim: 0.75 },
  { name: '1 MiB', size: MiB, atOnce: 16, aim: 0.8 },
];

const parts: Part[] = ['service', 'Postgres', 'S3 server'];

export async function smallUploads(stage: Stage, { rounds, seconds, say }: CaseOptions): Promise<Row[]> {
  // Its thumbnail is made before a picture is answered, which PutObject does not do.
  const service = await stage.service({ env: { DERIVATIVES: 'false' } });
  const { bucket } = service;
  const rows: Row[] = [];
  for (const { name, size, atOnce, aim } of sizes) {
    const bodyFile = join(stage.directory, `${size}.png`);
    writePng(bodyFile, size);
    const measured: number[] = [];
    const yardstick: number[] = [];
    const cost = new Samples();
    for (let round = 0; round <= rounds; round++) {
      const before = cpuSeconds([service.meter.pid]);
      const ours = await stage.run<Load>('load.ts', {
        url: `${service.url}/v1/assets/raw/small.png`,
        method: 'PUT',
        headers: { ...service.headersOf(), 'content-type': 'image/png' },
        bodyFile,
        connections: atOnce,
        seconds,
      } satisfies LoadOptions);
      const spent = cpuSeconds([service.meter.pid]);
      const perUpload = (part: Part) => ((spent[part] - before[part]) * 1000) / ours.perSecond / seconds;
      await empty(bucket);
      const theirs = await stage.run<Rate>('yardsticks.ts', {
        kind: 'put',
        s3: stage.s3,
        bucket: bucket.bucket,
        size,
        atOnce,
        seconds,
      } satisfies YardstickOptions);
      await empty(bucket);
      if (round === 0) continue;
      for (const part of parts) cost.add(part, perUpload(part));
      measured.push(ours.perSecond);
      yardstick.push(theirs.perSecond);
      say(`round ${round}: ${name} ${ours.perSecond.toFixed(0)}/s beside ${theirs.perSecond.toFixed(0)}/s`);
    }
    rows.push({
      group: 'small uploads',
      what: `uploads of ${name}, ${atOnce} at once`,
      unit: '/s',
      measured,
      yardstick,
      beside: 'PutObject by the SDK',
      aim: { compare: '>=', value: aim },
    });
    for (const part of parts)
      rows.push({
        group: 'small uploads',
        what: `upload of ${name}: CPU, ${part}`,
        unit: 'ms',
        measured: cost.of(part),
      });
  }
  await service.stop();
  return rows;
}
