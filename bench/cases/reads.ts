/** What is asked for most: links, lists, bytes. */
import { join } from 'node:path';
import { userNamed } from '../../src/access/caller.ts';
import { listStatement } from '../../src/assets/list.ts';
import { curl, headerArguments } from '../curl.ts';
import { writeMovie, writePng } from '../files.ts';
import type { Load, LoadOptions } from '../load.ts';
import type { Row } from '../report.ts';
import { seedAssets } from '../seed.ts';
import { GiB, KiB, type Stage } from '../stage.ts';
import type { Rate, YardstickOptions } from '../yardsticks.ts';
import type { CaseOptions } from './case.ts';

const AT_ONCE = 32;
const CONNECTIONS = 10;

export async function links(stage: Stage, options: CaseOptions): Promise<Row[]> {
  const service = await stage.service();
  const id = await uploaded(stage, service.url, service.headersOf(), KiB);
  const row = await compare(options, 'download links, 32 at once', {
    ours: () =>
      stage.run<Load>('load.ts', {
        url: `${service.url}/v1/assets/${id}/download`,
        headers: service.headersOf(),
        connections: AT_ONCE,
        seconds: options.seconds,
      } satisfies LoadOptions),
    theirs: () =>
      stage.run<Rate>('yardsticks.ts', {
        kind: 'presign',
        s3: stage.s3,
        bucket: service.bucket.bucket,
        seconds: options.seconds,
      } satisfies YardstickOptions),
  });
  await service.stop();
  return [{ ...row, beside: 'getSignedUrl in a loop', aim: { compare: '>=', value: 0.5 } }];
}

export async function lists(stage: Stage, options: CaseOptions): Promise<Row[]> {
  const databaseUrl = await stage.database();
  await seedAssets(databaseUrl, 'bench', 1_000_000);
  const service = await stage.service({ databaseUrl });
  const { statement, values: filters } = listStatement({
    scope: { kind: 'own', caller: userNamed('bench') },
    trashed: false,
    sort: 'createdAt',
    order: 'desc',
    limit: 51,
  });
  const { text } = statement;
  const values = statement.bind(filters);
  const row = await compare(options, 'GET /v1/assets, 50 of 1 000 000, 32 at once', {
    ours: () =>
      stage.run<Load>('load.ts', {
        url: `${service.url}/v1/assets`,
        headers: service.headersOf(),
        connections: AT_ONCE,
        seconds: options.seconds,
      } satisfies LoadOptions),
    theirs: () =>
      stage.run<Rate>('yardsticks.ts', {
        kind: 'statement',
        databaseUrl,
        text,
        values,
        connections: CONNECTIONS,
        atOnce: AT_ONCE,
        seconds: options.seconds,
      } satisfies YardstickOptions),
  });
  await service.stop();
  return [{ ...row, beside: 'the statement by a bare pool', aim: { compare: '>=', value: 0.6 } }];
}

export async function content(stage: Stage, options: CaseOptions): Promise<Row[]> {
  const service = await stage.service();
  const headers = service.headersOf();
  const id = await uploaded(stage, service.url, headers, KiB);
  const link = await directly(service.url, headers, id);
  const small = await compare(options, 'GET content of 1 KiB, 32 at once', {
    ours: () =>
      stage.run<Load>('load.ts', {
        url: `${service.url}/v1/assets/${id}/content`,
        headers,
        connections: AT_ONCE,
        seconds: options.seconds,
      } satisfies LoadOptions),
    theirs: () =>
      stage.run<Load>('load.ts', { url: link, connections: AT_ONCE, seconds: options.seconds } satisfies LoadOptions),
  });

  const file = join(stage.directory, 'large-content.mp4');
  writeMovie(file, GiB, 'random');
  const sent = await curl(`${service.url}/v1/assets/raw/large.mp4`, ...headerArguments(headers), '-T', file);
  const { id: large } = JSON.parse(sent.body) as { id: string };
  const largeLink = await directly(service.url, headers, large);
  const measured: number[] = [];
  const yardstick: number[] = [];
  for (let round = 0; round <= options.rounds; round++) {
    const ours = await curl(
      `${service.url}/v1/assets/${large}/content`,
      ...headerArguments(headers),
      '-o',
      '/dev/null',
    );
    const theirs = await curl(largeLink, '-o', '/dev/null');
    if (round === 0) continue;
    measured.push(ours.seconds);
    yardstick.push(theirs.seconds);
    options.say(`round ${round}: GET 1 GiB ${ours.seconds.toFixed(2)} s beside ${theirs.seconds.toFixed(2)} s`);
  }
  await service.stop();
  return [
    { ...small, beside: 'GET of a link', aim: { compare: '>=', value: 0.6 } },
    {
      group: 'reads',
      what: 'GET content of 1 GiB: time',
      unit: 's',
      measured,
      yardstick,
      beside: 'GET of a link',
      aim: { compare: '<=', value: 1.25 },
    },
  ];
}

/** Two rates, in turn. */
export async function compare(
  { rounds, say }: CaseOptions,
  what: string,
  { ours, theirs }: { ours: () => Promise<Rate>; theirs: () => Promise<Rate> },
): Promise<Row> {
  const measured: number[] = [];
  const yardstick: number[] = [];
  for (let round = 0; round <= rounds; round++) {
    const mine = await ours();
    const other = await theirs();
    if (round === 0) continue;
    measured.push(mine.perSecond);
    yardstick.push(other.perSecond);
    say(`round ${round}: ${what}: ${mine.perSecond.toFixed(0)}/s beside ${other.perSecond.toFixed(0)}/s`);
  }
  return { group: 'reads', what, unit: '/s', measured, yardstick };
}

/** @returns the id of an asset of this size */
export async function uploaded(
  stage: Stage,
  url: string,
  headers: Record<string, string>,
  size: number,
): Promise<string> {
  const file = join(stage.directory, `upload-${size}.png`);
  writePng(file, size);
  const { body } = await curl(`${url}/v1/assets/raw/a.png`, ...headerArguments(headers), '-T', file);
  return (JSON.parse(body) as { id: string }).id;
}

/** A link that leads to the object store. */
async function directly(url: string, headers: Record<string, string>, id: string): Promise<string> {
  const answer = await fetch(`${url}/v1/assets/${id}/download`, { headers });
  return ((await answer.json()) as { url: string }).url;
}
