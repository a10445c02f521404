/** What is done about mirrors by the clock. Copies are made by those of copiers.ts, without a job for each. */
import { z } from 'zod';
import type { Core } from '../core.ts';
import { defineJob, HOUR, MINUTE, nothing } from '../jobs/job.ts';
import { verificationOf } from './copiers.ts';
import { Filling } from './filling.ts';
import { forgetMirrorJob, KnownMirrors } from './known-mirrors.ts';
import { CopiesRepository } from './repository.ts';
import { mirrorSettings } from './settings.ts';
import { hourly, verifyCopies } from './verification.ts';

/** Milliseconds for which a copy may belong to nothing: what is written in the meantime may be on its way. */
const GRACE = 24 * 3_600_000;
/** Milliseconds of an hour in which copies are read; a mirror that is slow must not hold up the next hour. */
const READING_TIME = 50 * 60_000;

export const mirrorJobs = [
  defineJob({
    ...forgetMirrorJob,
    data: z.object({ mirror: z.string(), before: z.string() }),
    retries: 100,
    firstPause: 2,
    limit: 6 * HOUR,
    run: ({ mirror, before }, { fence, signal }, { background, outbox }: Core) =>
      new KnownMirrors(background, outbox).dropForgotten(mirror, new Date(before), fence, signal),
  }),
  defineJob({
    name: 'verify-copies',
    data: nothing,
    retries: 1,
    firstPause: MINUTE,
    limit: HOUR,
    schedule: '23 * * * *',
    run: async (_data, { signal }, core: Core) => {
      await new KnownMirrors(core.background, core.outbox).pruneMinutes();
      const time = AbortSignal.any([signal, AbortSignal.timeout(READING_TIME)]);
      await Promise.all(core.mirrors.map((mirror) => verifySome(core, mirror, time)));
    },
  }),
  defineJob({
    name: 'tend-copies',
    data: nothing,
    retries: 2,
    firstPause: 5 * MINUTE,
    limit: 6 * HOUR,
    schedule: '11 4 * * *',
    run: async (_data, { signal, fence }, core: Core) => {
      const { background, outbox, log, mirrors } = core;
      const filling = new Filling(background);
      const known = new KnownMirrors(background, outbox);
      for (const mirror of await filling.unknownMirrors()) await known.dropForgotten(mirror, new Date(), fence, signal);
      for (const { name } of mirrors) {
        const dropped = await filling.dropOfNobody(name, new Date(Date.now() - GRACE), signal);
        if (dropped > 0) log.warn({ mirror: name, dropped }, 'copies of objects that belong to nothing are removed');
      }
    },
  }),
];

async function verifySome(core: Core, mirror: Core['mirrors'][number], signal: AbortSignal): Promise<void> {
  const { background, outbox, log } = core;
  const stored = await new CopiesRepository(background, outbox).countStored(mirror.name);
  const count = hourly(stored, core.settings(mirrorSettings).MIRROR_VERIFY);
  if (count === 0) return;
  try {
    const { read, bad } = await verifyCopies(verificationOf(core, mirror), count, signal);
    if (read > 0) log.info({ mirror: mirror.name, read, bad }, 'copies read again');
  } catch (error) {
    // The time is over, or the service stops: the others are read later.
    if (!signal.aborted) throw error;
  }
}
