/**
 * Does what the rules want by now: deletes, and has moved to the archive. Assets are taken in small batches in the order in
 * which they are to be looked at; each batch is one short transaction, so that what is deleted has its audit row and its job,
 * and each asset its next look, or all of it comes again. Several instances take different assets.
 */
import type { AssetDeletions } from '../../assets/deletions.ts';
import type { StepValues } from '../../assets/life-cycle-step.ts';
import { type Actor, systemActor } from '../../database/audit.ts';
import type { Executor } from '../../database/client.ts';
import type { JobReference, Outbox } from '../../database/outbox.ts';
import type { JobContext } from '../../jobs/job.ts';
import type { Looked, LooksRepository } from '../looks.ts';

const BATCH = 200;
const DAY = 24 * 3600 * 1000;
/** Moves that one run asks for: they take their time, and are not to pile up. */
const MAX_MOVES = 2000;

export const archiveJob: JobReference<{ assetId: string }> = { name: 'archive-asset' };

export interface RulesOptions {
  looks: LooksRepository;
  deletions: AssetDeletions;
  outbox: Outbox;
  rules: StepValues;
  now?: () => Date;
}

export interface RulesReport {
  looked: number;
  deleted: number;
  archiving: number;
}

export async function runRules(
  { looks, deletions, outbox, rules, now = () => new Date() }: RulesOptions,
  { id, signal, fence }: JobContext,
): Promise<RulesReport> {
  const actor = lifeCycleActor(id);
  const report = { looked: 0, deleted: 0, archiving: 0 };
  for (let taken = BATCH; taken === BATCH && report.archiving < MAX_MOVES; ) {
    signal.throwIfAborted();
    const time = now();
    taken = await looks.transact(async (transaction) => {
      await fence(transaction);
      const looked = await looks.take(transaction, { now: time, limit: BATCH, ...rules });
      const due = (action: string) => looked.filter((each) => isDue(each, action, time)).map((each) => each.id);
      const wanted = due('delete');
      const deleted =
        wanted.length === 0 ? [] : await deletions.expire(transaction, wanted, { now: time, ...rules }, actor);
      const archiving = due('archive');
      await outbox.sendAll(
        transaction,
        archiveJob,
        archiving.map((assetId) => ({ assetId })),
      );
      await settle(transaction, looks, looked, new Set(deleted), time);
      report.looked += looked.length;
      report.deleted += deleted.length;
      report.archiving += archiving.length;
      return looked.length;
    });
  }
  return report;
}

/** What is done by a rule is told as this. */
export function lifeCycleActor(jobId: string): Actor {
  return { ...systemActor('life-cycle', jobId), via: 'lifecycle' };
}

/** What the trash keeps is deleted by the job that empties it. */
function isDue({ state, isBusy, step }: Looked, action: string, now: Date): boolean {
  return state !== undefined && !isBusy && step?.action === action && step.rule !== 'trash' && step.at <= now;
}

/** When each is looked at next; what no rule names any more, never. */
async function settle(
  transaction: Executor,
  looks: LooksRepository,
  looked: readonly Looked[],
  deleted: ReadonlySet<string>,
  now: Date,
): Promise<void> {
  const tomorrow = new Date(now.getTime() + DAY);
  const next = new Map<string, Date>();
  const dropped: string[] = [];
  for (const { id, state, isTrashed, isBusy, step } of looked) {
    if (state === undefined || state === 'deleting' || deleted.has(id)) dropped.push(id);
    else if (step && step.at > now) next.set(id, step.at);
    // In the trash, while it is busy, or being moved, other rules may count tomorrow.
    else if (step || isTrashed || isBusy) next.set(id, tomorrow);
    else dropped.push(id);
  }
  await looks.put(transaction, next);
  await looks.drop(transaction, dropped);
}
