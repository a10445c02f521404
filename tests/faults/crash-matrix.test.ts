/**
 * The service is killed with SIGKILL before and after every call to S3 and every statement of an upload and of a deletion.
 * Whatever the moment: once the reaper and the reconciler have gone over it, the checker finds all promises kept, and the
 * client that sends its request again under the same Idempotency-Key has exactly one asset.
 *
 * What there is to be killed at is not written down here: each scenario first runs undisturbed and is listened to.
 */
import assert from 'node:assert/strict';
import { createHash, randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { prepareDatabase } from '../../src/prepare-database.ts';
import { Client } from '../support/client.ts';
import { glb, png } from '../support/files.ts';
import { createTestDatabase } from '../support/postgres.ts';
import { launch, type Running } from '../support/processes.ts';
import { createTestBucket, s3Settings, s3Skip, type TestBucket } from '../support/s3.ts';
import { startService, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';
import { check } from './checker.ts';
import { Journal } from './journal.ts';
import { PostgresProxy } from './postgres-proxy.ts';
import { S3Proxy } from './s3-proxy.ts';

const MiB = 1024 * 1024;

interface Prepared {
  id: string;
}

interface Scenario {
  name: string;
  /** What is there before. */
  prepare?: () => Promise<Prepared>;
  /** What the client does; it may find the service dead. */
  act: (url: string, prepared: Prepared | undefined) => Promise<void>;
  /** What it does again afterwards. */
  again: (prepared: Prepared | undefined) => Promise<void>;
}

describe('killed at any moment', { skip: s3Skip(), timeout: 900_000 }, () => {
  let s3: S3Proxy;
  let postgres: PostgresProxy;
  let bucket: TestBucket;
  let journal: Journal;
  let databaseUrl: string;
  /** Lives on, on straight ways to Postgres and S3: the other instance. */
  let survivor: TestService;
  let environment: Record<string, string>;
  const closers: (() => Promise<unknown>)[] = [];

  before(async () => {
    const settings = s3Settings();
    assert.ok(settings);
    const directory = await mkdtemp(join(tmpdir(), 'stowage-matrix-'));
    closers.push(() => rm(directory, { recursive: true, force: true }));
    journal = new Journal(join(directory, 'journal'));
    const database = await createTestDatabase();
    databaseUrl = database.url;
    closers.push(() => database.drop());
    await prepareDatabase(databaseUrl);
    bucket = await createTestBucket();
    closers.push(() => bucket.drop());
    s3 = await new S3Proxy(settings.endpoint).listen();
    closers.push(() => s3.close());
    postgres = await new PostgresProxy(databaseUrl).listen();
    closers.push(() => postgres.close());
    const shared = {
      S3_BUCKET: bucket.bucket,
      S3_REGION: settings.region,
      S3_ACCESS_KEY_ID: settings.accessKeyId,
      S3_SECRET_ACCESS_KEY: settings.secretAccessKey,
      S3_FORCE_PATH_STYLE: 'true',
      PART_SIZE: '5MiB',
      // Longer than any of the uploads: no renewal is among the steps.
      UPLOAD_LEASE: '3s',
      RECONCILE_GRACE: '0s',
      REQUESTS_PER_MINUTE: '0',
      UPLOADS_PER_HOUR: '0',
      LOG_LEVEL: 'error',
    };
    environment = { ...shared, DATABASE_URL: postgres.replaceIn(databaseUrl), S3_ENDPOINT: s3.url };
    survivor = await startService({ databaseUrl, env: { ...shared, S3_ENDPOINT: settings.endpoint } });
    closers.push(() => survivor.close());
    // Something that must outlive all of it.
    await store(survivor.url, 'bystander', png(3000, 99), randomUUID());
  });
  after(async () => {
    for (const close of closers.reverse()) await close();
  });

  async function store(url: string, owner: string, bytes: Buffer<ArrayBuffer>, key: string): Promise<string> {
    const name = bytes.toString('latin1', 0, 4) === 'glTF' ? 'm.glb' : 'p.png';
    const { status, body } = await new Client(url, owner).raw(bytes, { name, headers: { 'idempotency-key': key } });
    assert.equal(status, 201, JSON.stringify(body));
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    journal.write({ event: 'stored', owner, id: body.id, sha256, size: bytes.length });
    return body.id;
  }

  /** Sends it until it is no longer told that the first one may still be running. */
  async function storeAgain(owner: string, bytes: Buffer<ArrayBuffer>, key: string): Promise<void> {
    await waitUntil(
      () =>
        store(survivor.url, owner, bytes, key).then(
          () => true,
          (error) => {
            if (String(error).includes('request-in-progress')) return false;
            throw error;
          },
        ),
      { timeout: 20_000 },
    );
    const { body } = await new Client(survivor.url, owner).get('/v1/assets');
    assert.equal(body.data.length, 1, 'the same request has made two assets');
  }

  function uploading(name: string, bytes: () => Buffer<ArrayBuffer>): () => Scenario {
    return () => {
      const [owner, key, file] = [`owner-${randomUUID()}`, randomUUID(), bytes()];
      return {
        name,
        act: async (url) => void (await store(url, owner, file, key)),
        again: () => storeAgain(owner, file, key),
      };
    };
  }

  async function remove(url: string, owner: string, id: string, key: string): Promise<void> {
    journal.write({ event: 'deleting', id });
    const headers = { 'idempotency-key': key };
    const { status } = await new Client(url, owner).request('DELETE', `/v1/assets/${id}?permanent=true`, { headers });
    if (status === 409) throw new Error('request-in-progress');
    assert.equal(status, 204);
    journal.write({ event: 'deleted', id });
  }

  function deleting(): Scenario {
    const [owner, key] = [`owner-${randomUUID()}`, randomUUID()];
    return {
      name: 'a deletion',
      prepare: async () => ({ id: await store(survivor.url, owner, png(2000, 7), randomUUID()) }),
      act: (url, prepared) => remove(url, owner, prepared?.id ?? '', key),
      again: async (prepared) => {
        await waitUntil(() =>
          remove(survivor.url, owner, prepared?.id ?? '', key).then(
            () => true,
            (error) => {
              if (String(error).includes('request-in-progress')) return false;
              throw error;
            },
          ),
        );
      },
    };
  }

  /** What a process does, in order: each call to S3 and each statement. */
  async function eventsOf(scenario: Scenario): Promise<string[]> {
    const events: string[] = [];
    const { service, prepared } = await begin(scenario);
    s3.before = ({ operation }) => void events.push(`S3 ${operation}`);
    postgres.before = (statement) => void events.push(`SQL ${summary(statement)}`);
    await scenario.act(service.url, prepared);
    await kill(service);
    return events;
  }

  async function begin(scenario: Scenario): Promise<{ service: Running; prepared: Prepared | undefined }> {
    s3.heal();
    postgres.heal();
    const prepared = await scenario.prepare?.();
    const service = await launch({ ...environment, ROLE: 'api' });
    // A request of no importance: what is done once per process is done.
    await new Client(service.url, 'bystander').get('/v1/assets');
    return { service, prepared };
  }

  async function kill({ child, exit }: Running): Promise<void> {
    child.kill('SIGKILL');
    await exit;
    s3.heal();
    postgres.heal();
  }

  /** Kills the service at the step of this number, and fails when there was none. */
  async function killAt(scenario: Scenario, index: number, side: 'before' | 'after'): Promise<Prepared | undefined> {
    const { service, prepared } = await begin(scenario);
    let struck = false;
    const strike = async () => {
      struck = true;
      service.child.kill('SIGKILL');
      await service.exit;
      throw new Error('killed');
    };
    // Calls may be under way at once: each is counted when it begins, and struck by its number.
    const numbers = new Map<object, number>();
    const begun = (step: object) => {
      numbers.set(step, numbers.size);
      return side === 'before' && numbers.get(step) === index ? strike() : undefined;
    };
    const ended = (step: object) => (side === 'after' && numbers.get(step) === index ? strike() : undefined);
    s3.before = begun;
    s3.after = ended;
    // One statement at a time in these scenarios.
    let statement = {};
    postgres.before = () => {
      statement = {};
      return begun(statement);
    };
    postgres.after = () => ended(statement);
    await scenario.act(service.url, prepared).catch(() => {});
    await kill(service);
    assert.ok(struck, 'the service was never killed');
    return prepared;
  }

  /** The reaper, the reconciler and the clients go over it; then the checker. */
  async function settle(left: { scenario: Scenario; prepared: Prepared | undefined }[]): Promise<void> {
    await waitUntil(
      async () => {
        const live = "select 1 from assets where state = 'uploading' and lease_expires_at >= now() limit 1";
        return (await survivor.query(live)).length === 0;
      },
      { timeout: 20_000 },
    );
    const { outcome } = await survivor.service.reconcile({ mostDeleted: 10 });
    assert.equal(outcome, 'done');
    for (const { scenario, prepared } of left) await scenario.again(prepared);
    await nothingDeleting(30_000);
    await assertPromises();
  }

  function nothingDeleting(timeout: number): Promise<boolean> {
    const deleting = "select 1 from assets where state = 'deleting' limit 1";
    return waitUntil(async () => (await survivor.query(deleting)).length === 0, { timeout });
  }

  async function assertPromises(): Promise<void> {
    const faults = await check({ journal: journal.file, databaseUrl, bucket: bucket.bucket, client: bucket.client });
    assert.deepEqual(faults, []);
  }

  for (const make of [
    uploading('an upload by one request', () => png(4000, 1)),
    uploading('an upload in parts', () => glb(11 * MiB, 2)),
    deleting,
  ]) {
    test(`${make().name}: before and after each of its steps`, async (context) => {
      const events = await eventsOf(make());
      context.diagnostic(events.join(' | '));
      assert.ok(events.length >= 3, events.join('\n'));
      const left: { scenario: Scenario; prepared: Prepared | undefined }[] = [];
      for (const [index, event] of events.entries()) {
        for (const side of ['before', 'after'] as const) {
          await context.test(`${side} ${index + 1}. ${event}`, async () => {
            const scenario = make();
            left.push({ scenario, prepared: await killAt(scenario, index, side) });
          });
        }
      }
      await context.test('nothing is lost or left behind, and who asks again has it once', () => settle(left));
    });
  }

  test('the job that deletes: before and after each of its steps', async (context) => {
    const steps: { name: string; matches: (event: string) => boolean }[] = [
      { name: 'the look at the record', matches: (event) => event.includes('select object_key from assets') },
      { name: 'S3 ListMultipartUploads', matches: (event) => event === 'S3 ListMultipartUploads' },
      { name: 'S3 ListObjectsV2', matches: (event) => event === 'S3 ListObjectsV2' },
      { name: 'S3 DeleteObjects', matches: (event) => event === 'S3 DeleteObjects' },
      { name: 'the end of the record', matches: (event) => event.includes('delete from assets') },
      { name: 'the end of the job', matches: (event) => /UPDATE pgboss\.job\w*[\s\S]*SET completed_on/.test(event) },
    ];
    // The other instance must leave the work to the one that is killed.
    await survivor.service.closeWork();
    const owner = `owner-${randomUUID()}`;
    for (const { name, matches } of steps) {
      for (const side of ['before', 'after'] as const) {
        await context.test(`${side} ${name}`, async () => {
          s3.heal();
          postgres.heal();
          const service = await launch({ ...environment, ROLE: 'all' });
          const id = await store(service.url, owner, png(2000, 8), randomUUID());
          const struck = Promise.withResolvers<void>();
          const strike = async (event: string) => {
            if (!matches(event)) return;
            service.child.kill('SIGKILL');
            await service.exit;
            struck.resolve();
            throw new Error('killed');
          };
          s3[side] = ({ operation }) => strike(`S3 ${operation}`);
          postgres[side] = (statement) => strike(statement);
          await remove(service.url, owner, id, randomUUID());
          await struck.promise;
        });
      }
    }
    s3.heal();
    postgres.heal();
    // One more process takes over all that the dead have left, once their leases have run out.
    const last = await launch({ ...environment, ROLE: 'all' });
    await nothingDeleting(90_000);
    await kill(last);
    await assertPromises();
  });
});

function summary(statement: string): string {
  return statement.replace(/\s+/g, ' ').trim().slice(0, 60);
}
