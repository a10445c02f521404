/**
 * Files and sockets that this process may have open. Connections of clients take half of them at most, so that who is let
 * in finds some left for the database and the object store; whoever comes then is refused at once.
 */
import { readFileSync } from 'node:fs';

/** Where the limit cannot be seen, which is not Linux (proc_pid_limits(5)), there is none. */
export function mostConnections(): number {
  try {
    const [, limit] = /^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'latin1')) ?? [];
    return limit === undefined ? Number.POSITIVE_INFINITY : Math.max(1, Math.floor(Number(limit) / 2));
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}
