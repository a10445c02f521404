import { sql } from 'drizzle-orm';
import type { Pool } from 'pg';
import { executorOn } from './client.ts';
import { build, compile, nowhere, type Parameter } from './statements.ts';

const tryLock = compile(
  'try-lock',
  (p: Parameter<'lock'>) =>
    build.select({ locked: sql<boolean>`pg_try_advisory_lock(${p('lock')}::bigint)` }).from(nowhere),
  { named: false },
);
const unlock = compile(
  'unlock',
  (p: Parameter<'lock'>) =>
    build.select({ unlocked: sql<boolean>`pg_advisory_unlock(${p('lock')}::bigint)` }).from(nowhere),
  { named: false },
);

/**
 * Runs `work` while no other process runs anything under the same lock on this database. The lock belongs to a
 * connection: it is free again when the process dies, and `work` is told to stop when the connection breaks.
 * @param lock any number that stands for the work
 * @returns 'busy' when somebody else holds the lock
 */
export async function exclusively<Result>(
  pool: Pool,
  lock: number,
  work: (signal: AbortSignal) => Promise<Result>,
): Promise<Result | 'busy'> {
  const client = await pool.connect();
  const broken = new AbortController();
  const onError = (error: Error) => broken.abort(error);
  client.on('error', onError);
  const executor = executorOn(client);
  let isFree = false;
  try {
    const { rows } = await executor.run(tryLock, { lock });
    if (!rows[0]?.locked) {
      isFree = true;
      return 'busy';
    }
    try {
      return await work(broken.signal);
    } finally {
      // Said, so that whoever comes next does not find it still locked.
      isFree = await executor.run(unlock, { lock }).then(
        () => true,
        () => false,
      );
    }
  } finally {
    client.off('error', onError);
    // Closed rather than given back when in doubt: that frees the lock, whatever state the connection is in.
    client.release(!isFree);
  }
}
