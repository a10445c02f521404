/**
 * Runs once around the whole test run: `node --test --test-global-setup=tests/support/global-setup.ts`. Test files run in
 * processes of their own and inherit the variables that are set here; tests/support/postgres.ts and s3.ts read them.
 *
 *   TEST_DATABASE_URL   the Postgres to make test databases on. Set it to use a server of yours; else one is started.
 *   TEST_S3_ENDPOINT    the S3 server, with TEST_S3_REGION, TEST_S3_ACCESS_KEY_ID and TEST_S3_SECRET_ACCESS_KEY. Set them
 *                       to use a server of yours; else Ceph is started where it is installed or can be.
 *   TEST_S3_SKIP        why there is no S3 server; its tests are then skipped. Never with CI=true: that fails the run.
 *   TEST_QUICK          set by `npm run test:quick`, which does without S3 server and programs.
 *   TEST_WARM           set by whole runs: the service is started once, so that its compile cache is there.
 *   TEST_ENTRY          the file that is started as the service, a bundle for example; else src/main.js.
 *
 * Made here for the tests: TEST_DATABASE_TEMPLATE, the database that those with tables are copies of.
 *
 * What is started here ends with this process, even if that is killed: each server watches the pipe that leads to it.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { startEmbeddedPostgres } from '../../src/database/embedded/embedded-postgres.ts';
import { createTemplate, createTestDatabase } from './postgres.ts';
import { launch } from './processes.ts';
import { providePrograms } from './programs.ts';
import { isQuick, requireS3Settings, s3SkipReason } from './s3.ts';

const cephScript = fileURLToPath(new URL('ceph-rgw.sh', import.meta.url));
/** Milliseconds: the first run installs packages. */
const CEPH_LIMIT = 300_000;
const CEPH_TRIES = 3;

/** Run from the last to the first. */
const stops: (() => Promise<void> | void)[] = [];

export async function globalSetup(): Promise<void> {
  const outcomes = await Promise.allSettled([providePostgres().then(provideTemplate), provideS3()]);
  for (const outcome of outcomes) {
    if (outcome.status === 'fulfilled') continue;
    await globalTeardown();
    throw outcome.reason;
  }
  // After Ceph, which may be installed too: there is one installer at a time.
  if (!isQuick()) providePrograms();
  if (process.env['TEST_WARM']) await warmCompileCache();
}

/** By a start and an orderly end: a process that is killed, as those of many tests are, does not write what it compiled. */
async function warmCompileCache(): Promise<void> {
  const database = await createTestDatabase();
  try {
    const service = await launch({ DATABASE_URL: database.url, DATA_DIR: temporaryDirectory('stowage-test-warm-') });
    service.child.kill('SIGTERM');
    await service.exit;
  } catch {
    // The tests tell what is wrong.
  } finally {
    await database.drop();
  }
}

export async function globalTeardown(): Promise<void> {
  for (let stop = stops.pop(); stop; stop = stops.pop()) await stop();
}

async function providePostgres(): Promise<void> {
  if (process.env['TEST_DATABASE_URL']) return;
  const directory = temporaryDirectory('stowage-test-postgres-');
  const server = await startEmbeddedPostgres({
    directory: join(directory, 'postgres'),
    password: randomBytes(16).toString('hex'),
    // Its data is gone after the run: it need not survive a loss of power, and the tests need not wait for the disk.
    settings: { max_connections: '300', fsync: 'off', full_page_writes: 'off' },
  });
  stops.push(() => server.stop());
  process.env['TEST_DATABASE_URL'] = server.url;
}

async function provideTemplate(): Promise<void> {
  const template = await createTemplate();
  stops.push(() => template.drop());
  process.env['TEST_DATABASE_TEMPLATE'] = template.name;
}

async function provideS3(): Promise<void> {
  if (isQuick()) return;
  if (process.env['TEST_S3_ENDPOINT']) return void requireS3Settings();
  try {
    // A run of its own may have been told before why there is none.
    const told = s3SkipReason();
    if (told) throw new Error(told);
    Object.assign(process.env, await startCephPatiently());
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    if (process.env['CI'] === 'true')
      throw new Error(`No S3 server for the tests, and CI=true asks for one: ${reason}`);
    process.env['TEST_S3_SKIP'] = reason;
    console.warn(`\n!!! THE TESTS THAT NEED AN S3 SERVER WILL BE SKIPPED: ${reason}\n`);
  }
}

/** @returns the variables that name the server */
/** A port that was free may be taken a moment later, so it is tried again with others. */
async function startCephPatiently(): Promise<Record<string, string>> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await startCeph();
    } catch (error) {
      if (attempt === CEPH_TRIES) throw error;
    }
  }
}

async function startCeph(): Promise<Record<string, string>> {
  const directory = temporaryDirectory('stowage-test-ceph-');
  const [port, monitorPort] = await freePorts(2);
  const ceph = spawn(cephScript, ['run', directory, String(port), String(monitorPort)], {
    stdio: ['pipe', 'pipe', 'pipe'],
    detached: true,
  });
  const ended = once(ceph, 'close');
  stops.push(async () => {
    ceph.ref();
    ceph.stdin.end();
    await ended.catch(() => {});
  });
  const output = await settingsOf(ceph);
  for (const handle of [ceph, ceph.stdin, ceph.stdout, ceph.stderr]) {
    if ('unref' in handle && typeof handle.unref === 'function') handle.unref();
  }
  return Object.fromEntries(
    [...output.matchAll(/^(S3_(?!FORCE)\w+)=(.+)$/gm)].map(([, name, value]) => [`TEST_${name}`, value ?? '']),
  );
}

/** What the script prints up to its last line; rejects when it ends instead. */
function settingsOf(ceph: ChildProcessByStdio<Writable, Readable, Readable>): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const timer = setTimeout(() => {
    ceph.stdin.end();
    reject(new Error(`Ceph was not there after ${CEPH_LIMIT / 1000} s`));
  }, CEPH_LIMIT);
  let output = '';
  let errors = '';
  ceph.stdin.on('error', () => {});
  ceph.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
    if (/^S3_FORCE_PATH_STYLE=.*\n/m.test(output)) resolve(output);
  });
  ceph.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors = (errors + text).slice(-2000);
  });
  ceph.once('error', reject);
  ceph.once('close', () => reject(new Error(errors.trim() || 'Ceph did not start')));
  return promise.finally(() => clearTimeout(timer));
}

function temporaryDirectory(prefix: string): string {
  const directory = mkdtempSync(join(tmpdir(), prefix));
  // Postgres runs as another user when this is root.
  chmodSync(directory, 0o755);
  stops.push(() => rmSync(directory, { recursive: true, force: true, maxRetries: 10 }));
  return directory;
}

/** Different ones: all are held before the first is given back. */
async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  for (const server of servers) await once(server.listen(0, '127.0.0.1'), 'listening');
  const ports = servers.map((server) => {
    const address = server.address();
    return address && typeof address === 'object' ? address.port : 0;
  });
  for (const server of servers) await once(server.close(), 'close');
  return ports;
}
