/** Photos from the upload to the thumbnail, beside sharp alone, and what the tools hold of memory. */
import { randomFillSync } from 'node:crypto';
import { join } from 'node:path';
import { Client } from 'pg';
import sharp from 'sharp';
import { descendants, residentMemory } from '../../tests/support/process-tree.ts';
import { waitUntil } from '../../tests/support/wait-until.ts';
import type { Load, LoadOptions } from '../load.ts';
import { type Row, Samples } from '../report.ts';
import type { SharpLoopOptions } from '../sharp-loop.ts';
import { type BenchService, MiB, type Stage } from '../stage.ts';
import { empty } from '../storage.ts';
import type { Rate } from '../yardsticks.ts';
import type { CaseOptions } from './case.ts';

const PHOTOS = 100;
/** As TOOLS_AT_ONCE has it by default. */
const AT_ONCE = 2;
const UPLOADS_AT_ONCE = 4;
/** Photos before those that are measured. */
const WARM = 8;
const BOMBS = 10;
/** What a child may take by itself and for a task, as the toolbox has it, of AT_ONCE children. */
const TOOLS_MEMORY = AT_ONCE * (640 + 128);
/** By how much the memory of the same work varies. */
const TOLERANCE = 1.1;

export async function photos(stage: Stage, { rounds, say }: CaseOptions): Promise<Row[]> {
  const photo = await writePhoto(stage);
  const bomb = await writeBomb(stage);
  const figures = new Samples();
  for (let round = 1; round <= rounds; round++) {
    const without = await stage.service({ env: { DERIVATIVES: 'false' } });
    await upload(stage, without, photo, PHOTOS);
    figures.add('memoryWithout', without.meter.peakRss() / MiB);
    await without.stop();
    await empty(without.bucket);

    const onDisk = await stage.service({ isOnDisk: true });
    figures.add('disk', await photosPerSecond(stage, onDisk, photo));
    await onDisk.stop();
    const service = await stage.service();
    figures.add('measured', await photosPerSecond(stage, service, photo));
    figures.add('memory', service.meter.peakRss() / MiB);
    const options = { file: photo, amount: PHOTOS, atOnce: AT_ONCE } satisfies SharpLoopOptions;
    figures.add('yardstick', (await stage.run<Rate>('sharp-loop.ts', options)).perSecond);
    const confined = await stage.run<Rate>('sharp-loop.ts', { ...options, isConfined: true });
    figures.add('confined', confined.perSecond);

    let highest = 0;
    const watch = setInterval(() => {
      const all = descendants(service.meter.pid).map(residentMemory);
      highest = Math.max(
        highest,
        all.reduce((sum, bytes) => sum + bytes, 0),
      );
    }, 50);
    await upload(stage, service, bomb, BOMBS);
    await madeOrRefused(service, WARM + PHOTOS + BOMBS);
    clearInterval(watch);
    figures.add('tools', highest / MiB);
    say(
      `round ${round}: ${figures.of('measured').at(-1)?.toFixed(1)}/s, on disk ${figures.of('disk').at(-1)?.toFixed(1)}/s beside ${figures.of('yardstick').at(-1)?.toFixed(1)}/s, tools ${figures.of('tools').at(-1)?.toFixed(0)} MiB`,
    );
    await service.stop();
    await empty(service.bucket);
  }
  return [
    {
      group: 'processing',
      what: `photos of 12 megapixels, from the upload to the thumbnail, ${PHOTOS} in a row`,
      unit: '/s',
      measured: figures.of('measured'),
      yardstick: figures.of('yardstick'),
      beside: `sharp alone, ${AT_ONCE} at once`,
      aim: { compare: '>=', value: 0.8 },
    },
    {
      group: 'processing',
      what: 'the same on the disk instead of S3',
      unit: '/s',
      measured: figures.of('disk'),
      yardstick: figures.of('yardstick'),
      beside: `sharp alone, ${AT_ONCE} at once`,
      aim: { compare: '>=', value: 0.8 },
    },
    {
      group: 'processing',
      what: 'thumbnails and placeholders in the processes of the service, without uploads',
      unit: '/s',
      measured: figures.of('confined'),
      yardstick: figures.of('yardstick'),
      beside: `sharp alone, ${AT_ONCE} at once`,
    },
    {
      group: 'processing',
      what: 'peak of resident memory of the service meanwhile',
      unit: 'MiB',
      measured: figures.of('memory'),
      yardstick: figures.of('memoryWithout'),
      beside: 'the same uploads without thumbnails',
      aim: { compare: '<=', value: TOLERANCE },
    },
    {
      group: 'processing',
      what: `peak of resident memory of all tools, ${BOMBS} progressive JPEG of 99 megapixels at once`,
      unit: 'MiB',
      measured: figures.of('tools'),
      aim: { compare: '<=', value: TOOLS_MEMORY },
    },
  ];
}

/** Slopes and grain, as photos have them. */
async function writePhoto(stage: Stage): Promise<string> {
  const [width, height] = [4000, 3000];
  const pixels = randomFillSync(Buffer.alloc(width * height * 3));
  for (let at = 0; at < pixels.length; at++) {
    const [x, y] = [Math.floor(at / 3) % width, Math.floor(at / 3 / width)];
    const slope = 128 + 50 * Math.sin(x / 310 + (at % 3)) + 50 * Math.cos(y / 170);
    pixels[at] = slope + ((pixels[at] ?? 0) % 16);
  }
  const path = join(stage.directory, 'photo.jpg');
  await sharp(pixels, { raw: { width, height, channels: 3 } })
    .jpeg({ quality: 90 })
    .toFile(path);
  return path;
}

/** As many pixels as are read at all, in the form that takes most memory for each of them. */
async function writeBomb(stage: Stage): Promise<string> {
  const path = join(stage.directory, 'bomb.jpg');
  const flat = { create: { width: 11_000, height: 9000, channels: 3, background: '#204060' } } as const;
  await sharp(flat).jpeg({ progressive: true, chromaSubsampling: '4:4:4' }).toFile(path);
  return path;
}

function upload(stage: Stage, service: BenchService, bodyFile: string, amount: number): Promise<Load> {
  return stage.run<Load>('load.ts', {
    url: `${service.url}/v1/assets/raw/photo.jpg`,
    method: 'PUT',
    headers: { ...service.headersOf(), 'content-type': 'image/jpeg' },
    bodyFile,
    connections: UPLOADS_AT_ONCE,
    seconds: 0,
    amount,
  } satisfies LoadOptions);
}

/** From the first byte to the last thumbnail, when the processes that make them have begun. */
async function photosPerSecond(stage: Stage, service: BenchService, photo: string): Promise<number> {
  await upload(stage, service, photo, WARM);
  await madeOrRefused(service, WARM);
  const began = performance.now();
  await upload(stage, service, photo, PHOTOS);
  await madeOrRefused(service, WARM + PHOTOS);
  return (PHOTOS / (performance.now() - began)) * 1000;
}

/** Resolves when so many thumbnails are there, or it is known why not. */
async function madeOrRefused({ databaseUrl }: BenchService, count: number): Promise<void> {
  const client = new Client(databaseUrl);
  await client.connect();
  const done = "select count(*)::integer as count from derivatives where state in ('ready', 'failed')";
  await waitUntil(async () => (await client.query<{ count: number }>(done)).rows[0]?.count === count);
  await client.end();
}
