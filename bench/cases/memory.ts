/** Resident memory of the service: at rest, and the most it ever had while bytes came in. */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { curl, headerArguments } from '../curl.ts';
import { writeMovie } from '../files.ts';
import { median, type Row, Samples } from '../report.ts';
import { GiB, MiB, type Stage } from '../stage.ts';
import { empty } from '../storage.ts';
import type { CaseOptions } from './case.ts';

/** As configured by default. */
const UPLOAD_MEMORY = 256 * MiB;
const IDLE_AIM = 110 * MiB;
const BESIDE = 64 * MiB;
/** Where one run must do: what the memory of the same work varies by. */
const TOLERANCE = 1.1;
/** Milliseconds after the start in which nothing is asked. */
const REST = 8000;

const loads = [
  { what: '8 forms of 128 MiB at once', count: 8, size: 128 * MiB },
  { what: '50 forms of 32 MiB at once', count: 50, size: 32 * MiB },
  { what: 'one form of 4 GiB', count: 1, size: 4 * GiB },
];

export async function memory(stage: Stage, { rounds, short, say }: CaseOptions): Promise<Row[]> {
  const chosen = short ? loads.slice(0, 2) : loads;
  const idle: number[] = [];
  const peaks = new Samples();
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
      say(
        `round ${round}: ${what}: idle ${idle.at(-1)?.toFixed(0)} MiB, peak ${peaks.of(what).at(-1)?.toFixed(0)} MiB`,
      );
      await service.stop();
      await empty(service.bucket);
    }
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
  ];
}
