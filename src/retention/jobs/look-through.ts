/**
 * Rules have changed: the assets that they may name are looked at. Once for each change, in small batches in the order of an
 * index; a job that has done its share has the next one go on where it ended.
 */
import { isDeepStrictEqual } from 'node:util';
import type { JobReference, Outbox } from '../../database/outbox.ts';
import type { JobContext } from '../../jobs/job.ts';
import type { LifeCycleRules } from '../../validation/life-cycle.ts';
import type { LooksRepository } from '../looks.ts';

const BATCH = 1000;
const BATCHES = 100;
const HOUR = 3600 * 1000;
/**
 * Seconds before a project is looked through: an upload that has begun to settle before its rules changed has ended by then.
 */
export const SETTLING = 60;
/** The same of policies: instances that were started before know the former ones for a while. Seconds. */
const ROLLING = 3600;

export interface Place {
  projectId?: string | undefined;
  isTrash?: boolean | undefined;
  assetTypes?: string[] | undefined;
  afterTime?: string | undefined;
  afterId?: string | undefined;
}

export const lookThroughJob: JobReference<Place> = { name: 'look-through-assets' };

export interface LookThroughOptions {
  looks: LooksRepository;
  outbox: Outbox;
}

export async function lookThrough(
  { looks, outbox }: LookThroughOptions,
  place: Place,
  { signal, fence }: JobContext,
): Promise<void> {
  let rest: Place | undefined = place;
  for (let batches = 0; rest && batches < BATCHES; batches += 1) {
    signal.throwIfAborted();
    rest = await lookThroughBatch(looks, rest);
  }
  const goesOn = rest;
  if (!goesOn) return;
  await looks.transact(async (transaction) => {
    await fence(transaction);
    await outbox.send(transaction, lookThroughJob, goesOn);
  });
}

/** @returns what is left */
async function lookThroughBatch(looks: LooksRepository, place: Place): Promise<Place | undefined> {
  const { projectId, isTrash = false, assetTypes = [], afterTime, afterId } = place;
  if (projectId === undefined) {
    const last = await looks.noteTypes(assetTypes, { after: afterId, limit: BATCH });
    return last === undefined ? undefined : { assetTypes, afterId: last };
  }
  const after = afterTime !== undefined && afterId !== undefined ? { at: new Date(afterTime), id: afterId } : undefined;
  const last = await looks.noteProject(projectId, { isTrash, after, limit: BATCH });
  if (last) return { projectId, isTrash, afterTime: last.at.toISOString(), afterId: last.id };
  return isTrash ? undefined : { projectId, isTrash: true };
}

/**
 * Finds upload policies whose rules are other than when assets were last looked through for them. Instances that have other
 * policies do not undo that of each other more often than once an hour.
 */
export async function noticePolicies(
  { looks, outbox }: LookThroughOptions,
  policies: Readonly<Record<string, LifeCycleRules>> | null,
  { fence }: Pick<JobContext, 'fence'>,
  now = new Date(),
): Promise<string[]> {
  const known = new Map((await looks.policies()).map(({ assetType, ...rest }) => [assetType, rest]));
  const changed = Object.entries(policies ?? {}).filter(([assetType, rules]) => {
    const before = known.get(assetType);
    if (!before) return true;
    return !isDeepStrictEqual(before.rules, plain(rules)) && before.changedAt.getTime() < now.getTime() - HOUR;
  });
  if (changed.length === 0) return [];
  const assetTypes = changed.map(([assetType]) => assetType);
  await looks.transact(async (transaction) => {
    await fence(transaction);
    for (const [assetType, rules] of changed) await looks.putPolicy(transaction, assetType, plain(rules));
    await outbox.send(transaction, lookThroughJob, { assetTypes });
    // Those that an instance with the former policies has taken in meanwhile.
    await outbox.send(transaction, lookThroughJob, { assetTypes }, { startAfter: ROLLING });
  });
  return assetTypes;
}

/** As it is kept. */
function plain(rules: LifeCycleRules): LifeCycleRules {
  return JSON.parse(JSON.stringify(rules));
}
