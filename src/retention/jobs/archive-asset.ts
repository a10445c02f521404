/** Moves the bytes of an asset to the archive, if a rule still wants that. */
import type { StepValues } from '../../assets/life-cycle-step.ts';
import type { Core } from '../../core.ts';
import type { JobContext } from '../../jobs/job.ts';
import { versionSettings } from '../../versions/settings.ts';
import { MovesRepository } from '../moves.ts';
import { move } from './move.ts';
import { lifeCycleActor } from './run-rules.ts';

export async function archiveAsset(
  core: Core,
  rules: StepValues,
  { assetId }: { assetId: string },
  context: JobContext,
  now = new Date(),
): Promise<boolean> {
  const { background, outbox, store, settings } = core;
  const { archive } = store;
  if (!archive) return false;
  const moves = new MovesRepository(background, outbox);
  const from = await moves.findToArchive(assetId, { now, ...rules });
  if (!from) return false;
  return move(
    {
      assetId,
      from,
      keyOf: (key, id) => archive.keyFor(key, id),
      copy: (to, options) => archive.put(from.objectKey, to, from, options),
      switch: (transaction, to) => moves.switchToArchive(transaction, to, lifeCycleActor(context.id)),
      grace: settings(versionSettings).REPLACED_GRACE / 1000,
    },
    core,
    context,
  );
}
