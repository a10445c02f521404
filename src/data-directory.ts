/** Who may look into DATA_DIR: the account of the service alone. */
import { chmodSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { basename, resolve } from 'node:path';

/** What the service keeps there, and what a crash may leave of it. */
const own = /^(?:postgres|objects|(?:link-secret|postgres-password)(?:\.\d+\.[0-9a-f]{8})?)$/;
const OTHERS = 0o077;

/**
 * Makes the directory, closed to all other accounts. One that is there and open is closed, unless it holds files of others
 * (somebody named `/srv` or `/tmp`) or belongs to somebody else: what the service makes in it is closed in any case.
 */
export function claimDirectory(directory: string): void {
  const path = resolve(directory);
  mkdirSync(path, { recursive: true, mode: 0o700 });
  const { mode, uid } = statSync(path);
  if ((mode & OTHERS) === 0 || uid !== process.getuid?.()) return;
  if (readdirSync(path).every((name) => own.test(basename(name)))) chmodSync(path, 0o700);
}
