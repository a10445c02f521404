/** The main process of a server: which it is, and its end. */
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import { basename, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

/** After SIGINT Postgres ends sessions and writes a checkpoint; then SIGQUIT and SIGKILL leave the rest to recovery. */
const shutdownSignals = [
  ['SIGINT', 20_000],
  ['SIGQUIT', 5_000],
  ['SIGKILL', 5_000],
] as const;
/** Milliseconds. */
const POLL = 10;

/**
 * The pid in postmaster.pid, whether it lives or not. With `status`, only if the server says that it is in it.
 * Lines of the file: pid, data directory, start time, port, socket directory, address, shared memory, status.
 */
export function readPostmasterPid(cluster: string, status?: 'ready'): number | undefined {
  try {
    const lines = fs.readFileSync(join(cluster, 'postmaster.pid'), 'utf8').split('\n');
    const pid = Number(lines[0]);
    return Number.isInteger(pid) && pid > 0 && (!status || lines[7]?.trim() === status) ? pid : undefined;
  } catch {
    return undefined;
  }
}

/** Whether the process `pid` lives and is the postmaster of `cluster`. Pids are used again: the command line decides. */
export function isPostmaster(pid: number, cluster: string): boolean {
  try {
    if (process.platform === 'linux') {
      const [program = '', ...args] = fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
      return basename(program) === 'postgres' && args.includes(cluster);
    }
    const line = execFileSync('ps', ['-ww', '-o', 'args=', '-p', String(pid)], { encoding: 'utf8' });
    return line.includes('postgres') && line.includes(`-D ${cluster} `);
  } catch {
    return false;
  }
}

/** Ends the server, and waits for it. One that is gone is success. */
export async function shutDown(pid: number, cluster: string): Promise<void> {
  for (const [signal, patience] of shutdownSignals) {
    try {
      if (isPostmaster(pid, cluster)) process.kill(pid, signal);
    } catch (error) {
      if (isPostmaster(pid, cluster)) throw error;
    }
    const deadline = performance.now() + patience;
    while (performance.now() < deadline) {
      if (!isPostmaster(pid, cluster)) return;
      await delay(POLL);
    }
  }
  throw new Error(`Postmaster ${pid} of ${cluster} does not end.`);
}
