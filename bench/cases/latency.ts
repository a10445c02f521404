/** How long somebody waits for a record while others send large files. */
import { join } from 'node:path';
import { curl, headerArguments } from '../curl.ts';
import { writeMovie } from '../files.ts';
import type { Load, LoadOptions } from '../load.ts';
import type { Row } from '../report.ts';
import { KiB, MiB, type Stage } from '../stage.ts';
import { empty } from '../storage.ts';
import type { CaseOptions } from './case.ts';
import { uploaded } from './reads.ts';

const UPLOADS = 16;
const SIZE = 128 * MiB;
const RATE = 100;
const CONNECTIONS = 4;

export async function latency(stage: Stage, { rounds, seconds, say }: CaseOptions): Promise<Row[]> {
  const service = await stage.service();
  const headers = service.headersOf();
  const id = await uploaded(stage, service.url, headers, KiB);
  const file = join(stage.directory, 'busy.mp4');
  writeMovie(file, SIZE, 'random');
  const ask = () =>
    stage.run<Load>('load.ts', {
      url: `${service.url}/v1/assets/${id}`,
      headers,
      connections: CONNECTIONS,
      seconds: Math.max(10, seconds),
      rate: RATE,
    } satisfies LoadOptions);
  const rest: number[] = [];
  const busy: number[] = [];
  for (let round = 0; round <= rounds; round++) {
    const quiet = await ask();
    let asking = true;
    const senders = Array.from({ length: UPLOADS }, async (_, index) => {
      const args = headerArguments(service.headersOf(`bench-${index}`));
      while (asking) await curl(`${service.url}/v1/assets/raw/busy.mp4`, ...args, '-T', file);
    });
    const loaded = await ask();
    asking = false;
    await Promise.all(senders);
    await empty(service.bucket);
    if (round === 0) continue;
    rest.push(quiet.p99);
    busy.push(loaded.p99);
    say(`round ${round}: p99 ${loaded.p99} ms beside ${quiet.p99} ms, p50 ${loaded.p50} ms beside ${quiet.p50} ms`);
  }
  await service.stop();
  return [
    {
      group: 'latency',
      what: 'p99 of GET /v1/assets/{id} while 16 files of 128 MiB come in',
      unit: 'ms',
      measured: busy,
      yardstick: rest,
      beside: 'at rest',
      aim: { compare: '<=', value: 5 },
    },
  ];
}
