/** One process at a time owns a directory. */
import * as fs from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';

const SQLITE_BUSY = 5;
/** Milliseconds. A process that was killed keeps its locks until the kernel has cleared it away. */
const LOCK_PATIENCE = 500;
/** Keeps the locks from the garbage collector, which would close the files and so unlock them. */
const ownerships = new Set<DatabaseSync>();

/**
 * Locks the directory for this process. Node has no flock, but the lock that its SQLite takes is what is needed: kept by
 * the kernel, and gone with the process however it ends, so there is no stale one to tell from a living one.
 * @returns unlocks it; idempotent
 * @throws when another process owns it
 */
export function takeOwnership(directory: string): () => void {
  const pidFile = join(directory, 'owner.pid');
  const lock = new DatabaseSync(join(directory, 'owner.lock'), { timeout: LOCK_PATIENCE });
  try {
    lock.exec('begin exclusive');
  } catch (error) {
    lock.close();
    if (!(error instanceof Error && 'errcode' in error && error.errcode === SQLITE_BUSY)) throw error;
    const pid = fs.existsSync(pidFile) ? fs.readFileSync(pidFile, 'utf8').trim() : 'unknown';
    throw new Error(
      `Embedded Postgres in ${directory} belongs to a running process (pid ${pid}). ` +
        'Stop that one, or give this one a DATA_DIR of its own, or let both use one server by DATABASE_URL.',
    );
  }
  fs.writeFileSync(pidFile, `${process.pid}\n`);
  ownerships.add(lock);
  return () => {
    if (ownerships.delete(lock)) lock.close();
  };
}
