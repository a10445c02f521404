/**
 * Real servers and real kills. A "service" is another process that starts the embedded Postgres and then idles, so that it
 * can be killed like one. Nothing here depends on how the directory is laid out: the server tells where its data is.
 */
import assert from 'node:assert/strict';
import { type ChildProcessByStdio, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  cpSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { after, before, type TestContext, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { Client } from 'pg';
import { z } from 'zod';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../src/database/embedded/embedded-postgres.ts';
import { waitUntil } from '../support/wait-until.ts';

const password = 'a password: /?#[]@!$&\'"%41';
const moduleFile = new URL('../../src/database/embedded/embedded-postgres.ts', import.meta.url);
const nodeModules = new URL('../../node_modules/', import.meta.url);

const isRoot = process.getuid?.() === 0;
const needsRoot = !isRoot && 'needs root';
const needsProc = process.platform !== 'linux' && 'needs /proc';

const template = mkdtempSync(join(tmpdir(), 'stowage-postgres-'));
before(async () => {
  chmodSync(template, 0o755);
  const server = await startEmbeddedPostgres({ directory: join(template, 'postgres'), password });
  await server.stop();
});
after(() => removeDirectory(template));

test('the first start makes a cluster in UTF-8 with the database, asks for the password, and listens on loopback alone', async (t) => {
  const { url } = await start(t, temporaryDirectory(t));

  const [settings] = await query(
    url,
    `select current_database() as database, current_user as user, pg_encoding_to_char(encoding) as encoding,
       datlocprovider as provider, datlocale as locale, lower('ÄÉ') as lower,
       current_setting('listen_addresses') as addresses, current_setting('unix_socket_directories') as sockets
     from pg_database where datname = current_database()`,
  );
  assert.deepEqual(settings, {
    database: 'stowage',
    user: 'stowage',
    encoding: 'UTF8',
    provider: 'b',
    locale: 'C.UTF-8',
    lower: 'äé',
    addresses: '127.0.0.1',
    sockets: '',
  });
  const wrong = new URL(url);
  wrong.password = 'wrong';
  await assert.rejects(query(wrong.href, 'select 1'), { code: '28P01' });
  const methods = await query(url, 'select distinct auth_method from pg_hba_file_rules');
  assert.deepEqual(methods, [{ auth_method: 'scram-sha-256' }]);
});

test('the server runs with the settings and the port that it was given, and its log reaches the caller', async (t) => {
  const lines: string[] = [];
  const port = 20_000 + (process.pid % 10_000);
  const settings = { max_connections: '17' };
  const log = (line: string) => lines.push(line);
  const { url } = await start(t, usedDirectory(t), { port, settings, log });

  assert.equal(new URL(url).port, String(port));
  assert.deepEqual(await query(url, 'show max_connections'), [{ max_connections: '17' }]);
  await waitUntil(() => lines.some((line) => line.includes('ready to accept connections')));
});

test('the password stands in no process argument', { skip: needsProc }, async (t) => {
  const { pid } = await start(t, usedDirectory(t));

  for (const each of [pid, parentOf(pid)]) {
    assert.ok(!readFileSync(`/proc/${each}/cmdline`, 'utf8').includes(password));
  }
});

test('a stopped server keeps its data for the next start, and stopping twice is fine', async (t) => {
  const directory = usedDirectory(t);
  const first = await start(t, directory);
  await query(first.url, 'create table kept as select 42 as answer');
  await Promise.all([first.stop(), first.stop()]);
  await first.stop();
  assert.ok(!isAlive(first.pid));

  const second = await start(t, directory);
  assert.deepEqual(await query(second.url, 'select * from kept'), [{ answer: 42 }]);
});

test('stopping disconnects the clients that are still there', async (t) => {
  const server = await start(t, usedDirectory(t));
  const client = new Client({ connectionString: server.url });
  const disconnected = new Promise((resolve) => client.on('error', resolve));
  await client.connect();

  await server.stop();
  assert.ok((await disconnected) instanceof Error);
});

test('another password than that of the cluster is refused, and no server stays behind', async (t) => {
  const directory = usedDirectory(t);
  const first = await start(t, directory);
  await first.stop();

  await assert.rejects(start(t, directory, { password: 'another' }), { code: '28P01' });
  const again = await start(t, directory);
  assert.deepEqual(await query(again.url, 'select 1 as one'), [{ one: 1 }]);
});

test('a process that only started the server and has nothing else to do ends, and the server with it', async (t) => {
  const service = await startService(t, usedDirectory(t), { idle: false });

  assert.equal(await service.exitCode, 0);
  await waitUntil(() => !isAlive(service.pid));
});

test('a killed service takes its server with it, and what was committed is there at the next start', async (t) => {
  const directory = usedDirectory(t);
  const service = await startService(t, directory);
  await query(service.url, 'create table kept as select 42 as answer');

  service.kill();
  await waitUntil(() => !isAlive(service.pid));
  const next = await start(t, directory);
  assert.deepEqual(await query(next.url, 'select * from kept'), [{ answer: 42 }]);
});

test('a service that starts at once after the last one was killed does not trip over it', async (t) => {
  const directory = usedDirectory(t);
  const service = await startService(t, directory);

  service.kill();
  const next = await start(t, directory);
  assert.notEqual(next.pid, service.pid);
  assert.deepEqual(await query(next.url, 'select 1 as one'), [{ one: 1 }]);
});

test('an orphan that outlived its service is stopped by the next start', { skip: needsProc }, async (t) => {
  const directory = usedDirectory(t);
  const service = await startService(t, directory);
  await query(service.url, 'create table kept as select 42 as answer');
  const guard = parentOf(service.pid);
  const helpers = childrenOf(guard).filter((pid) => pid !== service.pid);
  for (const pid of [...helpers, guard]) process.kill(pid, 'SIGKILL');
  service.kill();
  await service.exitCode;
  assert.ok(isAlive(service.pid), 'the server should be an orphan now');

  const next = await start(t, directory);
  assert.ok(!isAlive(service.pid));
  assert.deepEqual(await query(next.url, 'select * from kept'), [{ answer: 42 }]);
});

test('a server that was killed recovers at the next start, and stopping what is left of it is fine', async (t) => {
  const directory = usedDirectory(t);
  const first = await start(t, directory);
  await query(first.url, 'create table kept as select 42 as answer');

  process.kill(first.pid, 'SIGKILL');
  await first.stop();
  const second = await start(t, directory);
  assert.deepEqual(await query(second.url, 'select * from kept'), [{ answer: 42 }]);
});

test('a start waits for a backend of a killed server that is still at work', { skip: needsProc }, async (t) => {
  const directory = usedDirectory(t);
  const first = await start(t, directory);
  const busy = new Client({ connectionString: first.url });
  busy.on('error', () => {});
  await busy.connect();
  const { rows } = await busy.query('select pg_backend_pid() as pid');
  const [{ pid }] = z.tuple([z.object({ pid: z.number() })]).parse(rows);
  await busy.query(`set statement_timeout = '6s'`);
  const statement = busy.query('select count(*) from generate_series(1, 1000000000)').catch(() => 'ended');

  process.kill(first.pid, 'SIGKILL');
  await first.stop();
  assert.ok(isAlive(pid), 'the backend should be at work still');
  const second = await start(t, directory);
  assert.ok(!isAlive(pid));
  assert.equal(await statement, 'ended');
  assert.deepEqual(await query(second.url, 'select 1 as one'), [{ one: 1 }]);
});

test('a pid file whose pid now belongs to some other process hinders no start and costs no process its life', async (t) => {
  const directory = usedDirectory(t);
  const first = await start(t, directory);
  const data = await dataDirectory(first.url);
  const pidFile = readFileSync(join(data, 'postmaster.pid'), 'utf8');
  await first.stop();
  const { uid, gid } = statSync(data);
  const bystander = spawn('sleep', ['600'], { stdio: 'ignore', ...(isRoot && { uid, gid }) });
  cleanUp(t, () => bystander.kill('SIGKILL'));
  writeFileSync(join(data, 'postmaster.pid'), pidFile.replace(/^\d+/, String(bystander.pid)));

  const second = await start(t, directory);
  assert.deepEqual(await query(second.url, 'select 1 as one'), [{ one: 1 }]);
  assert.equal(bystander.exitCode, null);
  assert.equal(bystander.signalCode, null);
});

test('a service that was killed while it made the cluster leaves nothing that hinders the next one', async (t) => {
  const directory = temporaryDirectory(t);
  const service = spawnService(t, directory);
  await waitUntil(() =>
    readdirSync(directory, { recursive: true }).some((path) => String(path).endsWith('PG_VERSION')),
  );
  service.kill();
  await service.exitCode;

  const next = await start(t, directory);
  assert.deepEqual(await query(next.url, 'select 1 as one'), [{ one: 1 }]);
  const data = await dataDirectory(next.url);
  const versions = readdirSync(directory, { recursive: true, encoding: 'utf8' }).filter((path) =>
    path.endsWith('PG_VERSION'),
  );
  assert.ok(
    versions.every((path) => join(directory, path).startsWith(join(data, '/'))),
    `${versions}`,
  );
});

test('a second service on the same directory is told at once who owns it, and leaves the first alone', async (t) => {
  const directory = usedDirectory(t);
  const first = await startService(t, directory);

  const began = performance.now();
  await assert.rejects(start(t, directory), (error) => {
    assert.ok(error instanceof Error);
    assert.match(error.message, new RegExp(`\\b${first.servicePid}\\b`));
    assert.match(error.message, /DATA_DIR/);
    return true;
  });
  assert.ok(performance.now() - began < 30_000);
  assert.deepEqual(await query(first.url, 'select 1 as one'), [{ one: 1 }]);
});

test('of several services that start at the same moment on a new directory exactly one gets it', async (t) => {
  const directory = temporaryDirectory(t);
  const services = Array.from({ length: 4 }, () => spawnService(t, directory));
  const outcomes = await Promise.all(services.map((service) => service.started.catch((error: unknown) => error)));

  const [winner, ...others] = outcomes.filter((outcome) => !(outcome instanceof Error));
  assert.ok(winner && others.length === 0, `${outcomes}`);
});

test('a start in the same process after a stop gets the directory again', async (t) => {
  const directory = usedDirectory(t);
  const first = await start(t, directory);
  await assert.rejects(start(t, directory), /DATA_DIR/);
  await first.stop();
  await start(t, directory);
});

test('without the optional package the message names DATABASE_URL', async (t) => {
  const { startEmbeddedPostgres: startWithoutPackage } = await copyOfModule(temporaryDirectory(t), {
    withPackage: false,
  });

  await assert.rejects(
    startWithoutPackage({ directory: join(temporaryDirectory(t), 'postgres'), password }),
    /DATABASE_URL/,
  );
});

test('libraries are linked where npm was told to run no install scripts', async (t) => {
  const copy = await copyOfModule(temporaryDirectory(t), { withPackage: true });
  for (const path of copy.links()) rmSync(path);
  assert.deepEqual(copy.links(), []);

  const server = await copy.startEmbeddedPostgres({ directory: join(temporaryDirectory(t), 'postgres'), password });
  cleanUp(t, () => server.stop());
  assert.deepEqual(await query(server.url, 'select 1 as one'), [{ one: 1 }]);
});

test('root can start it where nobody else may enter, as in a clone under /root, and recover there', {
  skip: needsRoot,
}, async (t) => {
  const clone = temporaryDirectory(t, 0o700);
  const { startEmbeddedPostgres: startThere } = await copyOfModule(clone, { withPackage: true, mode: 'go-rwx' });
  const directory = join(clone, 'data', 'postgres');
  const first = await startThere({ directory, password });
  cleanUp(t, () => first.stop());
  await query(first.url, 'create table kept as select 42 as answer');

  process.kill(first.pid, 'SIGKILL');
  await first.stop();
  const second = await startThere({ directory, password });
  cleanUp(t, () => second.stop());
  assert.deepEqual(await query(second.url, 'select * from kept'), [{ answer: 42 }]);
  assert.notEqual(statSync(await dataDirectory(second.url)).uid, 0);
  assert.equal(statSync(clone).mode & 0o777, 0o700);
});

const containerCapabilities = '-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap';
const bareCapabilities = '-all,+chown,+fowner,+kill,+setgid,+setuid,+setpcap';

test('root can start it there with the fewer capabilities of a container, too', { skip: needsRoot }, async (t) => {
  const directory = temporaryDirectory(t, 0o700);
  const wrapper = ['setpriv', `--bounding-set=${containerCapabilities}`];
  const service = await startService(t, directory, { wrapper });

  assert.deepEqual(await query(service.url, 'select 1 as one'), [{ one: 1 }]);
});

test('where root cannot lend the way in, the message names the directory and DATA_DIR', {
  skip: needsRoot,
}, async (t) => {
  const directory = temporaryDirectory(t, 0o700);
  const wrapper = ['setpriv', `--bounding-set=${bareCapabilities}`];

  await assert.rejects(spawnService(t, directory, { wrapper }).started, (error) => {
    assert.ok(error instanceof Error && error.message.includes(directory));
    assert.match(error.message, /DATA_DIR/);
    return true;
  });
});

// --------------------------------------------------------------------------------------------------------------- tools

const cleanups = new WeakMap<TestContext, (() => unknown)[]>();

/** Like `t.after`, but the last that was opened is closed first. */
function cleanUp(t: TestContext, step: () => unknown): void {
  const steps = cleanups.get(t);
  if (steps) return void steps.push(step);
  const first = [step];
  cleanups.set(t, first);
  t.after(async () => {
    for (const each of first.toReversed()) await each();
  });
}

function temporaryDirectory(t: TestContext, mode = 0o755): string {
  const directory = mkdtempSync(join(tmpdir(), 'stowage-postgres-'));
  chmodSync(directory, mode);
  cleanUp(t, () => removeDirectory(directory));
  return directory;
}

/** A directory in which a server ran and was stopped: quicker than a new cluster. */
function usedDirectory(t: TestContext): string {
  const directory = temporaryDirectory(t);
  execFileSync('cp', ['-a', join(template, 'postgres'), directory]);
  return directory;
}

function removeDirectory(directory: string): void {
  rmSync(directory, { recursive: true, force: true, maxRetries: 10 });
}

async function start(
  t: TestContext,
  directory: string,
  options: Partial<Parameters<typeof startEmbeddedPostgres>[0]> = {},
): Promise<EmbeddedPostgres> {
  const server = await startEmbeddedPostgres({ directory: join(directory, 'postgres'), password, ...options });
  cleanUp(t, () => server.stop());
  return server;
}

async function query(url: string, statement: string): Promise<unknown[]> {
  const client = new Client({ connectionString: url, connectionTimeoutMillis: 5000 });
  await client.connect();
  try {
    const { rows } = await client.query(statement);
    return rows;
  } finally {
    await client.end();
  }
}

async function dataDirectory(url: string): Promise<string> {
  const [row] = z.array(z.object({ data_directory: z.string() })).parse(await query(url, 'show data_directory'));
  return row?.data_directory ?? assert.fail('the server tells no directory');
}

interface Service {
  /** Of the service and not of its server. */
  servicePid: number | undefined;
  exitCode: Promise<number | null>;
  /** Rejects with what it wrote to standard error when it ends before. */
  started: Promise<{ pid: number; url: string }>;
  /** As `kill -9` does. */
  kill(): void;
}

interface ServiceOptions {
  idle?: boolean;
  wrapper?: string[];
}

function spawnService(t: TestContext, directory: string, { idle = true, wrapper = [] }: ServiceOptions = {}): Service {
  const script = `
    import { startEmbeddedPostgres } from '${moduleFile}';
    const [directory, password, idle] = process.argv.slice(1);
    const { pid, url } = await startEmbeddedPostgres({ directory, password });
    console.log(JSON.stringify({ pid, url }));
    if (idle === 'true') setInterval(() => {}, 60_000);`;
  const node = [
    process.execPath,
    '--input-type=module',
    '--eval',
    script,
    join(directory, 'postgres'),
    password,
    `${idle}`,
  ];
  const [command = '', ...args] = [...wrapper, ...node];
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const started = firstLine(child);
  const exitCode = once(child, 'exit').then(() => child.exitCode);
  cleanUp(t, async () => {
    child.kill('SIGKILL');
    const server = await started.catch(() => undefined);
    await waitUntil(() => !server || !isAlive(server.pid));
  });
  return { servicePid: child.pid, exitCode, started, kill: () => child.kill('SIGKILL') };
}

async function startService(t: TestContext, directory: string, options?: ServiceOptions) {
  const service = spawnService(t, directory, options);
  return { ...service, ...(await service.started) };
}

function firstLine(child: ChildProcessByStdio<null, Readable, Readable>): Promise<{ pid: number; url: string }> {
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  const answer = Promise.withResolvers<{ pid: number; url: string }>();
  answer.promise.catch(() => {});
  createInterface({ input: child.stdout }).once('line', (line) => {
    answer.resolve(z.object({ pid: z.number(), url: z.string() }).parse(JSON.parse(line)));
  });
  child.once('close', () => answer.reject(new Error(errors)));
  return answer.promise;
}

/** The module as it would be in a clone at `root`, beside its own copy of the package. */
async function copyOfModule(root: string, { withPackage, mode }: { withPackage: boolean; mode?: string }) {
  const modules = join(root, 'node_modules');
  const file = join(root, 'src', 'database', 'embedded', 'embedded-postgres.ts');
  mkdirSync(modules);
  writeFileSync(join(root, 'package.json'), '{"type":"module"}');
  // With what it imports.
  cpSync(new URL('../../', moduleFile), join(root, 'src'), { recursive: true });
  for (const name of ['pg', 'zod', 'drizzle-orm']) symlinkSync(new URL(name, nodeModules), join(modules, name));
  if (withPackage) {
    for (const name of ['embedded-postgres', '@embedded-postgres']) {
      cpSync(new URL(name, nodeModules), join(modules, name), { recursive: true, verbatimSymlinks: true });
    }
  }
  if (mode)
    execFileSync('chmod', [
      '-R',
      mode,
      join(root, 'src'),
      ...(withPackage ? [join(modules, '@embedded-postgres')] : []),
    ]);
  const copy: typeof import('../../src/database/embedded/embedded-postgres.ts') = await import(
    pathToFileURL(file).href
  );
  const links = () =>
    readdirSync(join(modules, '@embedded-postgres'), { recursive: true, encoding: 'utf8' })
      .map((path) => join(modules, '@embedded-postgres', path))
      .filter((path) => lstatSync(path).isSymbolicLink());
  return { ...copy, links };
}

/** Neither gone nor a zombie. */
function isAlive(pid: number): boolean {
  const state = spawnSync('ps', ['-o', 'stat=', '-p', String(pid)], { encoding: 'utf8' }).stdout.trim();
  return state !== '' && !state.startsWith('Z');
}

function parentOf(pid: number): number {
  return Number(execFileSync('ps', ['-o', 'ppid=', '-p', String(pid)], { encoding: 'utf8' }));
}

function childrenOf(pid: number): number[] {
  const lines = execFileSync('ps', ['-o', 'pid=', '--ppid', String(pid)], { encoding: 'utf8' })
    .trim()
    .split('\n');
  return lines.map(Number);
}
