/** The start of a server. */
import { createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { Account } from './account.ts';
import { type GuardedProcess, runGuarded } from './guard.ts';
import { isPostmaster, readPostmasterPid } from './postmaster.ts';
import type { Programs } from './programs.ts';

/** Milliseconds. Recovery after a crash replays at most max_wal_size (1 GB by default), which takes slow disks a while. */
const STARTUP_LIMIT = 120_000;
/** Backends of a postmaster that was killed leave by themselves, at the latest when their statement ends. */
const LEFTOVER_LIMIT = 15_000;
/** Milliseconds. */
const POLL = 10;

export interface Launch {
  cluster: string;
  programs: Programs;
  account: Account;
  port: number | undefined;
  settings: Record<string, string>;
  log: (line: string) => void;
}

/**
 * Starts the server and waits until it takes connections.
 * @throws with its own words when it does not
 */
export async function launch({
  cluster,
  programs,
  account,
  port: fixedPort,
  settings,
  log,
}: Launch): Promise<{ pid: number; port: number }> {
  const deadline = performance.now() + LEFTOVER_LIMIT;
  for (;;) {
    const port = fixedPort ?? (await freePort());
    const enforced = { ...settings, listen_addresses: '127.0.0.1', port: String(port), unix_socket_directories: '' };
    const flags = Object.entries(enforced).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
    // The pid in a postmaster.pid that was left behind may by now be anybody's. Postgres takes the file for stale if its
    // pid is this one, and still makes sure that no backend of the old server is left, which it could not do if we
    // removed the file.
    const environment = { PG_GRANDPARENT_PID: String(readPostmasterPid(cluster) ?? 0) };
    const server = runGuarded(account, [programs.postgres, '-D', cluster, ...flags], { environment, log });
    server.unref();
    const pid = await untilReady(server, cluster);
    if (pid !== undefined) return { pid, port };

    const lastLines = server.lastLines();
    const portTaken = fixedPort === undefined && /could not (bind|create any TCP\/IP sockets)/.test(lastLines);
    const leftovers = /shared memory block .* still in use/.test(lastLines);
    if (!(portTaken || leftovers) || performance.now() > deadline) {
      throw new Error(`Embedded Postgres in ${cluster} did not start: ${lastLines}`);
    }
    await delay(100);
  }
}

/** Pid of the postmaster once it takes connections; undefined when it ended instead. */
async function untilReady(server: GuardedProcess, cluster: string): Promise<number | undefined> {
  let ended = false;
  void server.exited.then(() => {
    ended = true;
  });
  const deadline = performance.now() + STARTUP_LIMIT;
  while (!ended) {
    const pid = readPostmasterPid(cluster, 'ready');
    if (pid !== undefined && isPostmaster(pid, cluster)) return pid;
    if (performance.now() > deadline) {
      server.end();
      throw new Error(`Embedded Postgres in ${cluster} was not ready after ${STARTUP_LIMIT} ms: ${server.lastLines()}`);
    }
    await delay(POLL);
  }
  return undefined;
}

async function freePort(): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const probe = createServer().once('error', reject);
  probe.listen(0, '127.0.0.1', () => {
    const address = probe.address();
    const port = address && typeof address === 'object' ? address.port : 0;
    probe.close(() => resolve(port));
  });
  return promise;
}
