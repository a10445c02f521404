/** Resident memory of the service: at rest, and the most it ever had while bytes came in. */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { curl, headerArguments } from '../curl.ts';
import { writeMovie, writePng } from '../files.ts';
import type { Load } from '../load.ts';
import { median, type Row, Samples } from '../report.ts';
import { GiB, KiB, MiB, type Stage } from '../stage.ts';
import { empty } from '../storage.ts';
import type { CaseOptions } from './case.ts';

/** As configured by default. */
const UPLOAD_MEMORY = 256 * MiB;
/** 45 operations more than when it was 110: their schemas and statements, 5 MiB. */
const IDLE_AIM = 115 * MiB;
const BESIDE = 64 * MiB;
/** Where one run must do: what the memory of the same work varies by. */
const TOLERANCE = 1.1;
/** Milliseconds after the start in which nothing is asked. */
const REST = 8000;
/** Milliseconds after work in which what it took must come back. */
const REST_AFTER_WORK = 30_000;
const AIM_AFTER_WORK = 130;
const SMALL_UPLOADS = 10_000;
const SMALL = `${SMALL_UPLOADS} uploads of 1 KiB`;
const AIM_OF_SMALL_UPLOADS = 170;

const loads = [
  { what: '8 forms of 128 MiB at once', count: 8, size: 128 * MiB },
  { what: '50 forms of 32 MiB at once', count: 50, size: 32 * MiB },
  { what: 'one form of 4 GiB', count: 1, size: 4 * GiB },
];

export async function memory(stage: Stage, { rounds, short, say }: CaseOptions): Promise<Row[]> {
  const chosen = short ? loads.slice(0, 2) : loads;
  const idle: number[] = [];
  const peaks = new Samples();
  const rested = new Samples();
  for (let round = 1; round <= rounds; round++) {
    for (const { what, count, size } of chosen) {
      const file = join(stage.directory, `memory-${size}.mp4`);
      writeMovie(file, size, 'hole');
      const service = await stage.service();
      await delay(REST);
      idle.push(service.meter.rss() / MiB);
      const sendings = Array.from({ length: count }, (_, index) =>
        curl(
          `${service.url}/v1/assets`,
          ...headerArguments(service.headersOf(`bench-${index}`)),
          '-F',
          `file=@${file};type=video/mp4`,
        ),
      );
      await Promise.all(sendings);
      peaks.add(what, service.meter.peakRss() / MiB);
      if (!short) {
        await delay(REST_AFTER_WORK);
        rested.add(what, service.meter.rss() / MiB);
      }
      say(
        `round ${round}: ${what}: idle ${idle.at(-1)?.toFixed(0)} MiB, peak ${peaks.of(what).at(-1)?.toFixed(0)} MiB${short ? '' : `, then ${rested.of(what).at(-1)?.toFixed(0)} MiB`}`,
      );
      await service.stop();
      await empty(service.bucket);
    }
    if (short) continue;
    const { peak, after } = await smallUploads(stage);
    peaks.add(SMALL, peak);
    rested.add(SMALL, after);
    say(`round ${round}: ${SMALL}: peak ${peak.toFixed(0)} MiB, then ${after.toFixed(0)} MiB`);
  }
  const aim = Math.floor(
    Math.min(median(idle), IDLE_AIM / MiB) + ((UPLOAD_MEMORY + BESIDE) * (short ? TOLERANCE : 1)) / MiB,
  );
  return [
    {
      group: 'memory',
      what: 'resident memory at rest',
      unit: 'MiB',
      measured: idle,
      aim: { compare: '<=', value: (IDLE_AIM / MiB) * (short ? TOLERANCE : 1) },
    },
    ...chosen.map(
      ({ what }): Row => ({
        group: 'memory',
        what: `peak of resident memory, ${what}`,
        unit: 'MiB',
        measured: peaks.of(what),
        aim: { compare: '<=', value: aim },
      }),
    ),
    ...(short ? [] : afterWork([...chosen.map(({ what }) => what), SMALL], rested)),
    ...(short
      ? []
      : [
          {
            group: 'memory',
            what: `peak of resident memory, ${SMALL}`,
            unit: 'MiB',
            measured: peaks.of(SMALL),
            aim: { compare: '<=', value: AIM_OF_SMALL_UPLOADS },
          } satisfies Row,
        ]),
  ];
}

/** What a process that did the work holds when it rests again. */
function afterWork(works: string[], rested: Samples): Row[] {
  return works.map((what) => ({
    group: 'memory',
    what: `resident memory ${REST_AFTER_WORK / 1000} s after ${what}`,
    unit: 'MiB',
    measured: rested.of(what),
    aim: { compare: '<=', value: AIM_AFTER_WORK },
  }));
}

/** @returns MiB */
async function smallUploads(stage: Stage): Promise<{ peak: number; after: number }> {
  const service = await stage.service();
  const bodyFile = join(stage.directory, 'memory-small.png');
  writePng(bodyFile, KiB);
  await stage.run<Load>('load.ts', {
    url: `${service.url}/v1/assets/raw/small.png`,
    method: 'PUT',
    headers: { ...service.headersOf(), 'content-type': 'image/png' },
    bodyFile,
    connections: 16,
    seconds: 0,
    amount: SMALL_UPLOADS,
  });
  const peak = service.meter.peakRss() / MiB;
  await delay(REST_AFTER_WORK);
  const after = service.meter.rss() / MiB;
  await service.stop();
  await empty(service.bucket);
  return { peak, after };
}
