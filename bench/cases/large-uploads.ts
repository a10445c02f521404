/** One file of 1 GiB by each method, and what it costs the service. */
import { join } from 'node:path';
import { PutObjectCommand } from '@aws-sdk/client-s3';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import { curl, headerArguments } from '../curl.ts';
import type { DirectOptions } from '../direct-upload.ts';
import { writeMovie } from '../files.ts';
import { cpuSeconds } from '../processes.ts';
import { type Row, Samples } from '../report.ts';
import { fresh, GiB, type Stage } from '../stage.ts';
import { empty } from '../storage.ts';
import type { YardstickOptions } from '../yardsticks.ts';
import type { CaseOptions } from './case.ts';

const SIZE = GiB;

export async function largeUploads(stage: Stage, { rounds, say }: CaseOptions): Promise<Row[]> {
  const service = await stage.service();
  const { bucket } = service;
  const file = join(stage.directory, 'large.mp4');
  writeMovie(file, SIZE, 'random');
  const pipe = await stage.serve('yardsticks.ts', {
    kind: 'pipe',
    s3: stage.s3,
    bucket: bucket.bucket,
  } satisfies YardstickOptions);
  const headers = service.headersOf();
  const args = headerArguments(headers);

  const ways: Record<string, () => Promise<number>> = {
    presigned: async () => {
      const put = new PutObjectCommand({ Bucket: bucket.bucket, Key: fresh('presigned') });
      return (await curl(await getSignedUrl(bucket.client, put), '-T', file)).seconds;
    },
    pipe: async () => (await curl(pipe.url, '-T', file)).seconds,
    raw: async () => (await curl(`${service.url}/v1/assets/raw/large.mp4`, ...args, '-T', file)).seconds,
    form: async () => (await curl(`${service.url}/v1/assets`, ...args, '-F', `file=@${file};type=video/mp4`)).seconds,
    direct: async () =>
      (
        await stage.run<{ seconds: number }>('direct-upload.ts', {
          url: service.url,
          headers,
          file,
        } satisfies DirectOptions)
      ).seconds,
    resumable: async () => {
      const created = await fetch(`${service.url}/v1/resumable`, {
        method: 'POST',
        headers: {
          ...headers,
          'tus-resumable': '1.0.0',
          'upload-length': String(SIZE),
          'upload-metadata': `filename ${Buffer.from('large.mp4').toString('base64')},filetype ${Buffer.from('video/mp4').toString('base64')}`,
        },
      });
      const location = new URL(created.headers.get('location') ?? '', service.url).href;
      const offset = ['-X', 'PATCH', '-H', 'Tus-Resumable: 1.0.0', '-H', 'Upload-Offset: 0'];
      const type = ['-H', 'Content-Type: application/offset+octet-stream'];
      return (await curl(location, ...args, ...offset, ...type, '-T', file)).seconds;
    },
  };
  const seconds = new Samples();
  const cpu = new Samples();
  const stored = new Samples();
  // The first pass warms up the compiler and the connections.
  for (let round = 0; round <= rounds; round++) {
    for (const [way, send] of Object.entries(ways)) {
      const { meter } = way === 'pipe' ? pipe : service;
      const before = cpuSeconds([meter.pid]);
      const took = await send();
      const after = cpuSeconds([meter.pid]);
      const spent = after.service - before.service;
      const storing = after['S3 server'] - before['S3 server'];
      await empty(bucket);
      if (round === 0) continue;
      seconds.add(way, took);
      cpu.add(way, spent);
      stored.add(way, storing);
      say(
        `round ${round}: ${way} ${took.toFixed(2)} s, ${spent.toFixed(2)} CPU s, S3 server ${storing.toFixed(2)} CPU s`,
      );
    }
  }
  await service.stop();
  await pipe.stop();
  const time = (way: string, aim: number): Row => ({
    group: 'large uploads',
    what: `1 GiB, ${way}: time`,
    unit: 's',
    measured: seconds.of(way),
    yardstick: seconds.of('presigned'),
    beside: 'presigned PUT by curl',
    aim: { compare: '<=', value: aim },
  });
  const cost = (way: string, aim?: number): Row => ({
    group: 'large uploads',
    what: `1 GiB, ${way}: CPU of the service`,
    unit: 's',
    measured: cpu.of(way),
    yardstick: cpu.of('pipe'),
    beside: 'bare pipe into PutObject',
    ...(aim !== undefined && { aim: { compare: '<=', value: aim } }),
  });
  return [
    time('raw', 1.25),
    time('form', 1.35),
    time('direct', 0.8),
    time('resumable', 1.5),
    cost('raw', 1.4),
    cost('form', 1.4),
    cost('direct'),
    cost('resumable'),
    ...['presigned', 'raw', 'direct'].map(
      (way): Row => ({
        group: 'large uploads',
        what: `1 GiB, ${way}: CPU of the S3 server`,
        unit: 's',
        measured: stored.of(way),
      }),
    ),
  ];
}
