/** What a mirror costs: uploads with one beside uploads without, and the memory of the copy of a large file. */
import { createHash } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { waitUntil } from '../../tests/support/wait-until.ts';
import type { DirectOptions } from '../direct-upload.ts';
import { writeMovie, writePng } from '../files.ts';
import type { Load, LoadOptions } from '../load.ts';
import { type Row, Samples } from '../report.ts';
import { type BenchService, GiB, KiB, MiB, type Stage } from '../stage.ts';
import { empty } from '../storage.ts';
import type { CaseOptions } from './case.ts';

const AT_ONCE = 16;
const LARGE = 5 * GiB;
/** Milliseconds after the start, or after an upload, in which nothing is asked. */
const REST = 15_000;

export async function mirrors(stage: Stage, { rounds, seconds, say }: CaseOptions): Promise<Row[]> {
  const bodyFile = join(stage.directory, 'mirrored.png');
  writePng(bodyFile, KiB);
  const env = { DERIVATIVES: 'false' };
  const plain = await stage.service({ env });
  const copied = await stage.service({ env: { ...env, ...(await mirrorOf(stage)) } });
  const took = new Samples();
  for (let round = 0; round <= rounds; round++) {
    for (const [name, service] of [['plain', plain] as const, ['copied', copied] as const]) {
      const { perSecond } = await stage.run<Load>('load.ts', {
        url: `${service.url}/v1/assets/raw/small.png`,
        method: 'PUT',
        headers: { ...service.headersOf(), 'content-type': 'image/png' },
        bodyFile,
        connections: AT_ONCE,
        seconds,
      } satisfies LoadOptions);
      // Each begins at rest: what one has left to be copied is not the load of the other.
      await upToDate(service);
      if (round > 0) took.add(name, 1000 / perSecond);
    }
    say(`round ${round}: ${took.of('copied').at(-1)?.toFixed(3)} ms beside ${took.of('plain').at(-1)?.toFixed(3)} ms`);
  }
  await plain.stop();
  await copied.stop();
  await empty(plain.bucket);
  await empty(copied.bucket);
  return [
    {
      group: 'mirrors',
      what: `upload of 1 KiB with a mirror, ${AT_ONCE} at once`,
      unit: 'ms',
      measured: took.of('copied'),
      yardstick: took.of('plain'),
      beside: 'without a mirror',
      aim: { compare: '<=', value: 1.03 },
    },
    await memoryOfCopy(stage, say),
  ];
}

/** A mirror on the same server, as if it were another one: the bytes go through the service. */
async function mirrorOf(stage: Stage): Promise<Record<string, string>> {
  const { endpoint, accessKeyId, secretAccessKey } = stage.s3;
  const { bucket } = await stage.bucket();
  const file = join(stage.directory, `mirrors-${createHash('sha256').update(bucket).digest('hex').slice(0, 8)}.json`);
  const far = { bucket, endpoint, accessKeyId, secretAccessKey, region: 'elsewhere', forcePathStyle: true };
  writeFileSync(file, JSON.stringify({ far }));
  return { MIRRORS: file };
}

async function upToDate(service: BenchService): Promise<void> {
  await waitUntil(
    async () => {
      const answer = await fetch(`${service.url}/v1/admin/mirrors`, { headers: service.headersOf() });
      const { mirrors } = (await answer.json()) as { mirrors: { behind: { objects: number } }[] };
      return mirrors.every(({ behind }) => behind.objects === 0);
    },
    { timeout: 30 * 60_000 },
  );
}

/** Of a file that came straight to the bucket, so that the copy is all that takes memory. */
async function memoryOfCopy(stage: Stage, say: CaseOptions['say']): Promise<Row> {
  const file = join(stage.directory, 'mirrored.mp4');
  writeMovie(file, LARGE, 'hole');
  const service = await stage.service({ env: await mirrorOf(stage) });
  await delay(REST);
  const idle = service.meter.rss();
  const headers = service.headersOf();
  await stage.run('direct-upload.ts', { url: service.url, headers, file } satisfies DirectOptions);
  await upToDate(service);
  const beyond = (service.meter.peakRss() - idle) / MiB;
  say(`a copy of 5 GiB: ${beyond.toFixed(0)} MiB beyond rest`);
  await service.stop();
  await empty(service.bucket);
  rmSync(file);
  return {
    group: 'mirrors',
    what: 'memory beyond rest while 5 GiB are copied to a mirror',
    unit: 'MiB',
    measured: [beyond],
    aim: { compare: '<=', value: 64 },
  };
}
