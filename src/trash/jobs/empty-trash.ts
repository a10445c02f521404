/**
 * Deletes for good what is in the trash, batch after batch, each one short transaction that counts what it has deleted; so a
 * worker that dies loses nothing, and the next one goes on with what is left.
 */
import type { AssetDeletions } from '../../assets/deletions.ts';
import type { Actor } from '../../database/audit.ts';
import type { JobContext } from '../../jobs/job.ts';
import type { Emptying, TrashRepository } from '../repository.ts';

const BATCH = 500;

export interface EmptyTrashOptions {
  trash: TrashRepository;
  deletions: AssetDeletions;
}

export async function emptyTrash(
  options: EmptyTrashOptions,
  which: Pick<Emptying, 'account' | 'id'>,
  context: JobContext,
): Promise<void> {
  const { trash } = options;
  for (;;) {
    const emptying = await trash.running(which);
    if (!emptying) return;
    await trash.count(emptying);
    await deleteAll(options, emptying, context);
    if (await trash.end(emptying, actorOf(emptying), context.fence)) return;
    context.signal.throwIfAborted();
  }
}

async function deleteAll(
  { trash, deletions }: EmptyTrashOptions,
  emptying: Emptying,
  { signal, fence }: JobContext,
): Promise<void> {
  const { ownerId, projectId, cutoff } = emptying;
  const counted = async (transaction: Parameters<typeof fence>[0], deleted: number) =>
    trash.add(transaction, emptying, deleted);
  for (let after: { createdAt: Date; id: string } | undefined, looked = BATCH; looked === BATCH; ) {
    signal.throwIfAborted();
    const batch = await deletions.emptyTrash(
      { ownerId, projectId, cutoff, after, limit: BATCH },
      actorOf(emptying),
      fence,
      counted,
    );
    ({ looked, last: after } = batch);
  }
}

/** What is deleted is deleted by who has asked for it. */
function actorOf({ requestedBy, requestId, via, reason }: Emptying): Actor {
  return { callerId: requestedBy, requestId, via, because: reason };
}
