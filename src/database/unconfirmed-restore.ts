/**
 * Whether this database was rebuilt from a backup, and nobody has confirmed it yet. Until then it may know less than the
 * object store has: nothing that its records do not name is garbage, and what they call abandoned may have been finished.
 * So nothing is deleted from the store meanwhile: jobs that could do it wait, and the reconciler refuses.
 */
import { isNull, notExists } from 'drizzle-orm';
import type { Executor } from './client.ts';
import { build, compile } from './statements.ts';
import { restores } from './tables/backups.ts';

const unconfirmed = build.select({ backupId: restores.backupId }).from(restores).where(isNull(restores.confirmedAt));

/** For statements that choose what is to be deleted from a store. */
export const isNothingUnconfirmed = notExists(unconfirmed);

const findUnconfirmed = compile(
  'find-unconfirmed-restore',
  () => build.select({ backupId: restores.backupId }).from(restores).where(isNull(restores.confirmedAt)).limit(1),
  { named: false },
);

/** Whether a restore waits to be confirmed. */
export async function isUnconfirmed(executor: Executor): Promise<boolean> {
  return (await executor.run(findUnconfirmed, {})).rows.length > 0;
}

/** @throws Error that says what to do, while a restore is not confirmed */
export async function requireConfirmed(executor: Executor): Promise<void> {
  if (await isUnconfirmed(executor))
    throw new Error(
      'this database was rebuilt from a backup, and nobody has confirmed it: look at what npm run restore has found, then run npm run restore -- --confirm',
    );
}
