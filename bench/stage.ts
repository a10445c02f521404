/**
 * What every measurement stands on: the Postgres and the S3 server that the tests use, and the service as a process of
 * its own, started as `npm start` starts it. Nothing is measured in this process; see load.ts and yardsticks.ts.
 */
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { SignJWT } from 'jose';
import { prepareDatabase } from '../src/prepare-database.ts';
import { globalSetup, globalTeardown } from '../tests/support/global-setup.ts';
import { createTestDatabase } from '../tests/support/postgres.ts';
import { createTestBucket, requireS3Settings, type S3Settings, type TestBucket } from '../tests/support/s3.ts';
import { waitUntil } from '../tests/support/wait-until.ts';
import { cpuSecondsOf } from './processes.ts';

export const KiB = 1024;
export const MiB = 1024 * KiB;
export const GiB = 1024 * MiB;

const SECRET = 'a secret of the benchmark, longer than its digest';
const root = fileURLToPath(new URL('..', import.meta.url));

/** A process that is looked at from outside. */
export class Meter {
  readonly pid: number;

  constructor(pid: number) {
    this.pid = pid;
  }

  /** User and system time since it began. */
  cpuSeconds(): number {
    return cpuSecondsOf(this.pid);
  }

  /** Resident bytes now. */
  rss(): number {
    return this.#status('VmRSS');
  }

  /** Most resident bytes since it began, or since `forgetPeak`. */
  peakRss(): number {
    return this.#status('VmHWM');
  }

  forgetPeak(): void {
    writeFileSync(`/proc/${this.pid}/clear_refs`, '5');
  }

  #status(field: string): number {
    const text = readFileSync(`/proc/${this.pid}/status`, 'utf8');
    return Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(text)?.[1]) * KiB;
  }
}

export interface BenchService {
  url: string;
  meter: Meter;
  bucket: TestBucket;
  databaseUrl: string;
  /** Header fields of a caller. */
  headersOf(caller?: string): Record<string, string>;
  stop(): Promise<void>;
}

export interface ServiceOptions {
  env?: Record<string, string>;
  databaseUrl?: string;
  bucket?: TestBucket;
  /** Instead of the S3 server, such as a proxy that counts. */
  s3Endpoint?: string;
  /** On the disk instead of the S3 server. */
  isOnDisk?: boolean;
}

export class Stage {
  readonly directory = mkdtempSync(join(tmpdir(), 'stowage-bench-'));
  readonly #tokens = new Map<string, string>();
  readonly #closers: (() => Promise<unknown>)[] = [];

  readonly #profiles: string | undefined;

  private constructor(profiles: string | undefined) {
    this.#profiles = profiles;
  }

  /** @param profiles directory for CPU profiles of the service; none are made when absent */
  static async open(profiles?: string): Promise<Stage> {
    // The largest upload must fit, beside those that are not yet collected as garbage.
    process.env['CEPH_DEVICE_BYTES'] ??= String(14 * GiB);
    await globalSetup();
    // As `npm start` does.
    for (const script of ['scripts/build.ts', 'dist/compile.js'])
      execFileSync(process.execPath, [join(root, script)], { stdio: 'ignore' });
    return new Stage(profiles);
  }

  get s3(): S3Settings {
    return requireS3Settings();
  }

  /** A new database with all migrations applied. */
  async database(): Promise<string> {
    const { url, drop } = await createTestDatabase();
    this.#closers.push(drop);
    await prepareDatabase(url);
    return url;
  }

  async bucket(): Promise<TestBucket> {
    const bucket = await createTestBucket();
    this.#closers.push(() => bucket.drop());
    return bucket;
  }

  /** The service with the settings it has by default, but for limits on how often somebody may ask. */
  async service(options: ServiceOptions = {}): Promise<BenchService> {
    const bucket = options.bucket ?? (await this.bucket());
    const databaseUrl = options.databaseUrl ?? (await this.database());
    const headers = await this.#callers();
    const port = await freePort();
    const { endpoint, region, accessKeyId, secretAccessKey } = this.s3;
    const policies = join(this.directory, 'policies.json');
    writeFileSync(policies, JSON.stringify({ video: { mediaTypes: ['video/mp4'], maxBytes: 5 * GiB } }));
    const { variables, args } = startCommand();
    const child = spawn(process.execPath, args, {
      cwd: root,
      env: {
        PATH: process.env['PATH'] ?? '',
        ...variables,
        HOST: '127.0.0.1',
        PORT: String(port),
        DATABASE_URL: databaseUrl,
        ...(options.isOnDisk
          ? { DATA_DIR: mkdtempSync(join(this.directory, 'data-')) }
          : {
              S3_BUCKET: bucket.bucket,
              S3_ENDPOINT: options.s3Endpoint ?? endpoint,
              S3_REGION: region,
              S3_ACCESS_KEY_ID: accessKeyId,
              S3_SECRET_ACCESS_KEY: secretAccessKey,
              S3_FORCE_PATH_STYLE: 'true',
            }),
        AUTH_JWT_SECRET: SECRET,
        UPLOAD_POLICIES: policies,
        DEFAULT_QUOTA: '1TiB',
        // In force, so that what they cost is measured, and too large to be met.
        UPLOADS_PER_HOUR: '100000000',
        REQUESTS_PER_MINUTE: '100000000',
        UPLOADS_PER_CALLER: '64',
        ...(this.#profiles !== undefined && { NODE_OPTIONS: `--cpu-prof --cpu-prof-dir=${resolve(this.#profiles)}` }),
        ...options.env,
      },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let errors = '';
    child.stderr.on('data', (chunk) => {
      errors = (errors + chunk).slice(-4000);
    });
    const stop = async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      await ended;
    };
    this.#closers.push(stop);
    const url = `http://127.0.0.1:${port}`;
    await waitUntil(
      async () => {
        if (child.exitCode !== null) throw new Error(`the service ended: ${errors}`);
        return (await fetch(`${url}/readyz`).catch(() => undefined))?.ok;
      },
      { timeout: 60_000 },
    );
    return { url, meter: new Meter(child.pid ?? 0), bucket, databaseUrl, headersOf: headers, stop };
  }

  /** Runs a script of this folder as a process of its own. @returns what it printed, as JSON */
  async run<Result>(script: string, options: object): Promise<Result> {
    const path = fileURLToPath(new URL(script, import.meta.url));
    const { stdout } = await promisify(execFile)(process.execPath, [path, JSON.stringify(options)], {
      maxBuffer: 16 * MiB,
    });
    return JSON.parse(stdout) as Result;
  }

  /** The same for a script that goes on until it is killed, and prints its URL first. */
  async serve(script: string, options: object): Promise<{ url: string; meter: Meter; stop: () => Promise<void> }> {
    const path = fileURLToPath(new URL(script, import.meta.url));
    const child = spawn(process.execPath, [path, JSON.stringify(options)], { stdio: ['ignore', 'pipe', 'inherit'] });
    const stop = () => kill(child);
    this.#closers.push(stop);
    const [line] = await once(child.stdout, 'data');
    return { url: String(line).trim(), meter: new Meter(child.pid ?? 0), stop };
  }

  async close(): Promise<void> {
    for (const close of this.#closers.reverse()) await close().catch((error) => console.error(String(error)));
    rmSync(this.directory, { recursive: true, force: true });
    await globalTeardown();
  }

  /** Tokens are made beforehand: signing is no part of what is measured. */
  async #callers(): Promise<(caller?: string) => Record<string, string>> {
    for (const caller of ['bench', ...Array.from({ length: 64 }, (_, index) => `bench-${index}`)]) {
      if (this.#tokens.has(caller)) continue;
      const token = await new SignJWT({ scope: 'admin' })
        .setProtectedHeader({ alg: 'HS256' })
        .setSubject(caller)
        .setExpirationTime('12h')
        .sign(new TextEncoder().encode(SECRET));
      this.#tokens.set(caller, token);
    }
    return (caller = 'bench') => ({ authorization: `Bearer ${this.#tokens.get(caller)}` });
  }
}

/** What `npm start` runs: `NAME=value exec node ...`. */
function startCommand(): { variables: Record<string, string>; args: string[] } {
  const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { scripts: { start: string } };
  const [before = '', after = ''] = scripts.start.split('exec node ');
  const variables = Object.fromEntries([...before.matchAll(/(\w+)=(\S+)/g)].map(([, name, value]) => [name, value]));
  return { variables, args: after.split(' ') };
}

export async function freePort(): Promise<number> {
  const { createServer } = await import('node:net');
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  await once(server.close(), 'close');
  return address && typeof address === 'object' ? address.port : 0;
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}

/** A name that nobody used before. */
export const fresh = (prefix: string): string => `${prefix}-${randomBytes(8).toString('hex')}`;
