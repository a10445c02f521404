/**
 * Brings the bytes of an archived asset back. Where the archive must be asked for them first, it is asked, and looked at
 * again and again until they can be read.
 */
import type { Core } from '../../core.ts';
import { systemActor } from '../../database/audit.ts';
import type { JobContext } from '../../jobs/job.ts';
import type { Archive } from '../../storage/archive/archive.ts';
import { type Readiness, type RestoreSpeed, SpeedNotAvailable } from '../../storage/object-store.ts';
import { versionSettings } from '../../versions/settings.ts';
import { type Movable, MovesRepository } from '../moves.ts';
import { move } from './move.ts';

const DAY = 24 * 3600 * 1000;
/**
 * Seconds between two looks. S3 User Guide, "Archive retrieval options": 1 to 5 minutes, 3 to 12 hours, 5 to 48 hours.
 */
const pauses: Readonly<Record<RestoreSpeed, number>> = { expedited: 30, standard: 300, bulk: 900 };

interface Request {
  assetId: string;
  requestedAt: string;
}

export async function restoreAsset(core: Core, request: Request, context: JobContext): Promise<void> {
  const { background, outbox, store } = core;
  const { archive } = store;
  const moves = new MovesRepository(background, outbox);
  const found = await moves.findRestoring(request.assetId, request.requestedAt);
  if (!found) return;
  const { signal, fence } = context;
  const actor = systemActor('life-cycle', context.id);
  const { assetId: id, requestedAt } = request;
  const fail = (reason: string) => moves.failRestore({ id, requestedAt, reason }, actor, fence);
  if (!archive) return fail('no-archive');
  const { speed, days } = found.restore;
  const wanted = new Date(Date.parse(requestedAt) + days * DAY);
  try {
    const ready = await ask(archive, found.objectKey, { speed, days, wanted }, signal);
    if (!ready) return await fail('missing');
    if (ready.state !== 'readable') return await moves.lookAgain(request, pauses[speed], fence);
    if (archive.comesBackInPlace)
      await moves.openInPlace({ id, requestedAt, until: ready.until ?? wanted }, actor, fence);
    else await takeOut(core, moves, archive, { ...request, found, days }, context);
  } catch (error) {
    if (!(error instanceof SpeedNotAvailable)) throw error;
    await fail('speed-not-available');
  }
}

/** @returns how it is with the object, once it was asked for; undefined when it is not there */
async function ask(
  archive: Archive,
  key: string,
  { speed, days, wanted }: { speed: RestoreSpeed; days: number; wanted: Date },
  signal: AbortSignal,
): Promise<Readiness | undefined> {
  const ready = await archive.readiness(key, { signal });
  // What can be read until the day before was asked for by somebody else, for fewer days.
  const isTooShort =
    ready?.state === 'readable' && ready.until !== undefined && ready.until.getTime() < wanted.getTime() - DAY;
  if (ready?.state !== 'offline' && !(isTooShort && archive.comesBackInPlace)) return ready;
  await archive.request(key, { days, speed }, { signal });
  return archive.readiness(key, { signal });
}

async function takeOut(
  core: Core,
  moves: MovesRepository,
  archive: Archive,
  { assetId, requestedAt, found, days }: Request & { found: Movable; days: number },
  context: JobContext,
): Promise<void> {
  const actor = systemActor('life-cycle', context.id);
  await move(
    {
      assetId,
      from: found,
      copy: (to, options) => archive.takeOut(found.objectKey, to, found, options),
      switch: (transaction, to) => moves.switchBack(transaction, { ...to, requestedAt, days }, actor),
      grace: core.settings(versionSettings).REPLACED_GRACE / 1000,
    },
    core,
    context,
  );
}
