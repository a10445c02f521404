/**
 * Sixteen clients upload, delete, rename and download through two instances, while S3, Postgres and the instances fail at
 * random: killed, cut off, frozen, slow, wrong. Then everything is healed, the reaper and the reconciler go over it, and
 * the checker must find all promises kept.
 *
 * `SOAK_SECONDS` (40) says how long, `SOAK_SEED` repeats the choices of an earlier run; the seed is printed.
 */
import assert from 'node:assert/strict';
import { createHash, randomBytes, randomInt } from 'node:crypto';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../src/database/embedded/embedded-postgres.ts';
import { prepareDatabase } from '../../src/prepare-database.ts';
import { glb, png } from '../support/files.ts';
import { launch, type Running } from '../support/processes.ts';
import { randomFrom } from '../support/random.ts';
import { createTestBucket, s3Settings, s3Skip, type TestBucket } from '../support/s3.ts';
import { startService, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';
import { check } from './checker.ts';
import { Journal } from './journal.ts';
import { PostgresProxy } from './postgres-proxy.ts';
import { type S3Fault, S3Proxy } from './s3-proxy.ts';

const SECONDS = Number(process.env['SOAK_SECONDS'] ?? 40);
const SEED = Number(process.env['SOAK_SEED'] ?? randomInt(2 ** 31));
const CLIENTS = 16;
/** Milliseconds: the work left after it takes its time on a busy machine. */
const LIMIT = SECONDS * 1000 + 900_000;
const MiB = 1024 * 1024;
/** What may happen to a single call to S3. Corrupted bytes are in a test of their own: this server does not compare CRCs. */
const callFaults: S3Fault[] = [
  'unavailable',
  'reset before',
  'reset within',
  'reset after',
  'stall',
  'stall after',
  'slow',
  'cut body',
];

describe('a soak under faults', { skip: s3Skip(), timeout: LIMIT }, () => {
  const closers: (() => Promise<unknown>)[] = [];
  let directory: string;
  let server: EmbeddedPostgres;
  let s3: S3Proxy;
  let postgres: PostgresProxy;
  let bucket: TestBucket;
  let journal: Journal;
  let environment: Record<string, string>;
  let keeper: TestService;
  const instances: (Running | undefined)[] = [undefined, undefined];
  /** Answers that no fault excuses. */
  const wrong: string[] = [];
  const done: Record<string, number> = {};
  const count = (what: string) => {
    done[what] = (done[what] ?? 0) + 1;
  };

  before(async () => {
    const settings = s3Settings();
    assert.ok(settings);
    directory = await mkdtemp(join(tmpdir(), 'stowage-soak-'));
    await chmod(directory, 0o755);
    closers.push(() => rm(directory, { recursive: true, force: true, maxRetries: 10 }));
    journal = new Journal(join(directory, 'journal'));
    server = await startPostgres();
    closers.push(() => server.stop());
    await prepareDatabase(server.url);
    bucket = await createTestBucket();
    closers.push(() => bucket.drop());
    s3 = await new S3Proxy(settings.endpoint).listen();
    closers.push(() => s3.close());
    postgres = await new PostgresProxy(server.url).listen();
    closers.push(() => postgres.close());
    const shared = {
      S3_BUCKET: bucket.bucket,
      S3_REGION: settings.region,
      S3_ACCESS_KEY_ID: settings.accessKeyId,
      S3_SECRET_ACCESS_KEY: settings.secretAccessKey,
      S3_FORCE_PATH_STYLE: 'true',
      S3_CONNECT_TIMEOUT: '500ms',
      S3_REQUEST_TIMEOUT: '1500ms',
      S3_DEADLINE: '4s',
      DATABASE_TIMEOUT: '1500ms',
      PART_SIZE: '5MiB',
      UPLOAD_LEASE: '3s',
      RECONCILE_GRACE: '1s',
      REQUESTS_PER_MINUTE: '0',
      UPLOADS_PER_HOUR: '0',
      LOG_LEVEL: 'error',
    };
    environment = { ...shared, DATABASE_URL: postgres.replaceIn(server.url), S3_ENDPOINT: s3.url };
    keeper = await startService({ databaseUrl: server.url, env: { ...shared, S3_ENDPOINT: settings.endpoint } });
    closers.push(() => keeper.close());
    for (const index of instances.keys()) instances[index] = await launch(environment);
    closers.push(async () => {
      for (const instance of instances) instance?.child.kill('SIGKILL');
    });
  });
  after(async () => {
    for (const close of closers.reverse()) await close();
  });

  /** On the same port and directory each time. */
  function startPostgres(port?: number): Promise<EmbeddedPostgres> {
    return startEmbeddedPostgres({
      directory: join(directory, 'postgres'),
      password: 'soak',
      ...(port !== undefined && { port }),
    });
  }

  /** The answer tells nothing of the cause; the log of the instance does. */
  async function whatWasLogged(response: Response, { output }: Running): Promise<string> {
    const answer = await response.clone().text();
    const { requestId }: { requestId?: string } = JSON.parse(answer);
    const lines = output().split('\n');
    return lines.filter((line) => requestId !== undefined && line.includes(requestId)).join('\n') || answer;
  }

  // ---------------------------------------------------------------------------------------------------- the clients

  interface Stored {
    id: string;
    sha256: string;
    name: string;
  }

  class SoakClient {
    readonly #owner: string;
    readonly #random: () => number;
    readonly #assets: Stored[] = [];

    constructor(number: number) {
      this.#owner = `client-${number}`;
      this.#random = randomFrom(SEED + 1 + number);
    }

    async run(over: AbortSignal): Promise<void> {
      while (!over.aborted) {
        const choice = this.#random();
        const asset = this.#assets[Math.floor(this.#random() * this.#assets.length)];
        if (!asset || choice < 0.4) await this.#upload();
        else if (choice < 0.65) await this.#download(asset);
        else if (choice < 0.8) await this.#rename(asset);
        else await this.#remove(asset);
        await delay(this.#random() * 50);
      }
    }

    /** @returns undefined when there was no answer, or none that says what happened */
    async #ask(method: string, path: string, init: RequestInit = {}): Promise<Response | undefined> {
      const instance = instances[Math.floor(this.#random() * instances.length)];
      if (!instance) {
        await delay(20);
        return undefined;
      }
      try {
        const response = await fetch(instance.url + path, {
          ...init,
          method,
          headers: { 'x-user-id': this.#owner, ...(init.headers as Record<string, string>) },
          signal: AbortSignal.timeout(15_000),
        });
        if (response.status === 503 || response.status === 429) {
          if (!/^\d+$/.test(response.headers.get('retry-after') ?? ''))
            wrong.push(`${response.status} without Retry-After`);
          await response.arrayBuffer();
          return undefined;
        }
        if (response.status === 500)
          wrong.push(`500 for ${method} ${path}: ${await whatWasLogged(response, instance)}`);
        return response;
      } catch {
        return undefined;
      }
    }

    /** The same request under the same key until it is answered, as a client with patience does. */
    async #insist(method: string, path: string, init: RequestInit = {}): Promise<Response | undefined> {
      const key = randomBytes(12).toString('hex');
      const headers = { ...(init.headers as Record<string, string>), 'idempotency-key': key };
      for (let attempt = 0; attempt < 12; attempt++) {
        const response = await this.#ask(method, path, { ...init, headers });
        if (response && response.status !== 409) return response;
        if (response) await response.arrayBuffer().catch(() => {});
        await delay(100 + this.#random() * 400);
      }
      count('gave up');
      return undefined;
    }

    async #upload(): Promise<void> {
      const kind = this.#random();
      const seed = Math.floor(this.#random() * 1e9);
      // A server in memory gives the room of deleted objects back late: ten minutes of this must fit into it.
      const isLarge = kind >= 0.9;
      const bytes = isLarge ? glb((6 + (seed % 3)) * MiB, seed) : png(130 + Math.floor(this.#random() * 200_000), seed);
      const name = isLarge ? 'm.glb' : 'p.png';
      const sha256 = createHash('sha256').update(bytes).digest('hex');
      const response = await this.#insist('PUT', `/v1/assets/raw/${name}`, {
        body: bytes,
        headers: { 'content-type': 'application/octet-stream' },
      });
      if (!response) return;
      const body = (await response.json().catch(() => undefined)) as { id: string; sha256: string } | undefined;
      if (response.status !== 201) return void wrong.push(`${response.status} for an upload: ${JSON.stringify(body)}`);
      if (!body) return;
      if (body.sha256 !== sha256) wrong.push(`other digest in the answer: ${body.id}`);
      journal.write({ event: 'stored', owner: this.#owner, id: body.id, sha256, size: bytes.length });
      this.#assets.push({ id: body.id, sha256, name });
      count('uploads');
    }

    async #download({ id, sha256 }: Stored): Promise<void> {
      const response = await this.#ask('GET', `/v1/assets/${id}/content`);
      if (!response) return;
      if (response.status !== 200) return void wrong.push(`${response.status} for a download of ${id}`);
      const bytes = await response.arrayBuffer().catch(() => undefined);
      if (!bytes) return;
      const found = createHash('sha256').update(new Uint8Array(bytes)).digest('hex');
      if (found !== sha256) wrong.push(`other bytes in a whole answer: ${id}`);
      count('downloads');
    }

    async #rename(asset: Stored): Promise<void> {
      const name = `${Math.floor(this.#random() * 1e6)}-${asset.name.replace(/^\d+-/, '')}`;
      const response = await this.#ask('PATCH', `/v1/assets/${asset.id}`, {
        body: JSON.stringify({ name }),
        headers: { 'content-type': 'application/json' },
      });
      if (!response) return;
      await response.arrayBuffer().catch(() => {});
      if (response.status !== 200) return void wrong.push(`${response.status} for a renaming of ${asset.id}`);
      asset.name = name;
      count('renames');
    }

    async #remove(asset: Stored): Promise<void> {
      this.#assets.splice(this.#assets.indexOf(asset), 1);
      journal.write({ event: 'deleting', id: asset.id });
      const response = await this.#insist('DELETE', `/v1/assets/${asset.id}?permanent=true`);
      if (!response) return;
      if (response.status !== 204) return void wrong.push(`${response.status} for a deletion of ${asset.id}`);
      journal.write({ event: 'deleted', id: asset.id });
      count('deletions');
    }
  }

  // ----------------------------------------------------------------------------------------------------- the faults

  async function chaos(over: AbortSignal): Promise<void> {
    const random = randomFrom(SEED);
    const pause = (from: number, to: number) => delay(1000 * (from + random() * (to - from)));
    const faults: Record<string, () => Promise<void>> = {
      'an instance is killed': async () => {
        const index = Math.floor(random() * instances.length);
        const instance = instances[index];
        instances[index] = undefined;
        instance?.child.kill('SIGKILL');
        await instance?.exit;
        await pause(0.2, 1);
        instances[index] = await launchPatiently();
      },
      'an instance is frozen past its leases': async () => {
        const child = instances[Math.floor(random() * instances.length)]?.child;
        child?.kill('SIGSTOP');
        await pause(3, 5);
        child?.kill('SIGCONT');
      },
      'Postgres is killed': async () => {
        const port = Number(new URL(server.url).port);
        process.kill(server.pid, 'SIGKILL');
        await server.stop();
        await pause(0.2, 1.5);
        server = await waitUntil(() => startPostgres(port));
      },
      'Postgres cannot be reached': async () => {
        postgres.dead = true;
        await pause(0.5, 2);
        postgres.heal();
      },
      'answers to COMMIT are lost': async () => {
        postgres.after = (statement) => {
          if (/^commit/i.test(statement) && random() < 0.4) throw new Error('lost');
        };
        await pause(1, 3);
        postgres.heal();
      },
      'S3 cannot be reached': async () => {
        s3.dead = true;
        await pause(0.5, 2);
        s3.heal();
      },
      'S3 is frozen': async () => {
        s3.frozen = true;
        await pause(0.5, 3);
        s3.heal();
      },
      'calls to S3 fail': async () => {
        s3.faultFor = () => (random() < 0.3 ? callFaults[Math.floor(random() * callFaults.length)] : undefined);
        await pause(2, 5);
        s3.heal();
      },
      'the reaper and the reconciler run': async () => {
        await keeper.service.reconcile({}).catch(() => {});
      },
    };
    const names = Object.keys(faults);
    // Each comes up before one comes a second time.
    for (let left = [...names]; !over.aborted; ) {
      const [name = ''] = left.splice(Math.floor(random() * left.length), 1);
      count(name);
      await faults[name]?.();
      if (left.length === 0) left = [...names];
      await pause(0.2, 1.2);
    }
    s3.heal();
    postgres.heal();
  }

  /** The service ends its start when the database does not answer; whoever watches over it starts it again. */
  async function launchPatiently(): Promise<Running> {
    return waitUntil(() => launch(environment));
  }

  // ------------------------------------------------------------------------------------------------------- the soak

  test(`${CLIENTS} clients, two instances, ${SECONDS} s, seed ${SEED}`, async (context) => {
    const over = new AbortController();
    const began = performance.now();
    const clients = Array.from({ length: CLIENTS }, (_, number) => new SoakClient(number));
    // A busy machine takes longer for what is enough to tell something.
    const isEnough = () => (done['uploads'] ?? 0) > SECONDS && (done['deletions'] ?? 0) > 10;
    const waiting = waitUntil(() => isEnough() && performance.now() - began > SECONDS * 1000, { timeout: LIMIT });
    await Promise.all([
      waiting.finally(() => over.abort()),
      chaos(over.signal),
      ...clients.map((client) => client.run(over.signal)),
    ]);
    context.diagnostic(JSON.stringify(done));
    assert.deepEqual(wrong, []);

    const live = "select 1 from assets where state = 'uploading' and lease_expires_at >= now() limit 1";
    await waitUntil(async () => (await keeper.query(live)).length === 0);
    // What is listed now was there before the grace time began to matter.
    await delay(1100);
    const { outcome, report } = await keeper.service.reconcile({});
    context.diagnostic(JSON.stringify({ outcome, ...report }));
    assert.equal(outcome, 'done');
    assert.equal(report.lostAssets, 0);
    assert.equal(report.driftedQuotas, 0);
    assert.equal(report.driftedStatistics, 0);
    await waitUntil(async () => {
      // The pauses between the tries, which may be long by now, are over.
      await keeper.query("update pgboss.job set start_after = now() where state = 'retry'");
      return (await keeper.query("select 1 from assets where state = 'deleting' limit 1")).length === 0;
    });
    const faults = await check({
      journal: journal.file,
      databaseUrl: server.url,
      bucket: bucket.bucket,
      client: bucket.client,
    });
    assert.deepEqual(faults, []);
  });
});
