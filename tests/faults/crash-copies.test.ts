/**
 * A process that copies objects to a mirror, killed with SIGKILL at each step of it. Another one takes over what it has left, and
 * then the mirror has what the bucket has, and no part of anything; when the assets are deleted, it has nothing.
 */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Client } from '../support/client.ts';
import { glb, png } from '../support/files.ts';
import { bucketAsMirror, digestsIn, mirrored } from '../support/mirrors.ts';
import { patience } from '../support/patience.ts';
import { createPreparedDatabase } from '../support/postgres.ts';
import { launch, spawnService } from '../support/processes.ts';
import { contentsOf, createTestBucket, requireS3Settings, s3Skip, type TestBucket } from '../support/s3.ts';
import { startService, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';
import { PostgresProxy } from './postgres-proxy.ts';
import { S3Proxy } from './s3-proxy.ts';

const MiB = 1024 * 1024;

/** The moment after a step is the one before the next, as far as anybody can tell. */
const steps: { name: string; side: 'before' | 'after'; matches: (event: string) => boolean }[] = [
  { name: 'the claim', side: 'after', matches: (event) => /update "copies" set "attempts"/.test(event) },
  { name: 'PutObject', side: 'after', matches: (event) => event === 'S3 PutObject' },
  { name: 'UploadPart', side: 'after', matches: (event) => event === 'S3 UploadPart' },
  { name: 'CompleteMultipartUpload', side: 'after', matches: (event) => event === 'S3 CompleteMultipartUpload' },
  { name: 'the outcome', side: 'after', matches: (event) => /jsonb_to_recordset[\s\S]*as tried/.test(event) },
];
/** The same of copies that are removed. */
const removal: typeof steps = [
  { name: 'DeleteObjects', side: 'after', matches: (event) => event === 'S3 DeleteObjects' },
  { name: 'the end of the rows', side: 'after', matches: (event) => /delete from "copies"/.test(event) },
];

describe('killed at any moment', { skip: s3Skip() }, () => {
  const closers: (() => Promise<unknown>)[] = [];
  let far: TestBucket;
  let server: S3Proxy;
  let postgres: PostgresProxy;
  let service: TestService;
  let client: Client;
  let environment: Record<string, string>;

  before(async () => {
    const directory = await mkdtemp(join(tmpdir(), 'stowage-mirror-'));
    closers.push(() => rm(directory, { recursive: true, force: true }));
    const database = await createPreparedDatabase();
    closers.push(() => database.drop());
    far = await createTestBucket();
    closers.push(() => far.drop());
    server = await new S3Proxy(requireS3Settings().endpoint).listen();
    closers.push(() => server.close());
    postgres = await new PostgresProxy(database.url).listen();
    closers.push(() => postgres.close());
    // Takes uploads, and leaves all work to the processes that are killed.
    const env = { ROLE: 'api', DATABASE_URL: database.url, REQUESTS_PER_MINUTE: '0' };
    const mirrors = { far: bucketAsMirror(far, { endpoint: server.url }) };
    service = await startService({ store: 's3', databaseUrl: database.url, mirrors, env });
    closers.push(() => service.close());
    client = new Client(service.url, 'admin');
    const file = join(directory, 'mirrors.json');
    await writeFile(file, JSON.stringify(mirrors));
    environment = {
      ...service.place,
      ...patience,
      MIRRORS: file,
      DATABASE_URL: postgres.replaceIn(database.url),
      LOG_LEVEL: 'error',
    };
  });
  after(async () => {
    for (const close of closers.reverse()) await close();
  });

  /** Starts the process that works, and kills it at the step. */
  async function struckAt({ side, matches }: (typeof steps)[number]): Promise<void> {
    server.heal();
    postgres.heal();
    const { child, exit, output } = spawnService({ PORT: '0', ...environment });
    let struck = false;
    const strike = async (event: string) => {
      if (!matches(event)) return;
      struck = true;
      child.kill('SIGKILL');
      await exit;
      throw new Error('killed');
    };
    server[side] = ({ operation }) => strike(`S3 ${operation}`);
    postgres[side] = (statement) => strike(statement);
    await exit;
    assert.ok(struck, `the process ended by itself: ${output()}`);
    server.heal();
    postgres.heal();
  }
  /** Whoever was killed is not heard of for long, as far as rows tell. */
  const timePasses = async () => {
    await service.query('update copies set due_at = now() where due_at > now()');
    await service.query("update pgboss.job set heartbeat_on = now() - interval '1 hour' where state = 'active'");
  };

  test('copies: at each step', async (context) => {
    for (const step of steps) {
      for (const bytes of [png(2000, 1), glb(11 * MiB, 1)]) {
        const name = bytes.length > MiB ? 'm.glb' : 'p.png';
        assert.equal((await client.raw(bytes, { name })).status, 201);
      }
      await context.test(`${step.side} ${step.name}`, () => struckAt(step));
      await timePasses();
    }
    const last = await launch(environment);
    await mirrored(service);
    assert.ok(service.bucket);
    const there = await digestsIn(far);
    assert.equal(Object.keys(there).length, 2 * steps.length);
    assert.deepEqual(there, await digestsIn(service.bucket));
    assert.deepEqual((await contentsOf(far)).openUploads, []);
    last.child.kill('SIGKILL');
    await last.exit;
  });

  test('their removal: at each step', async (context) => {
    await timePasses();
    const { body } = await client.get('/v1/assets?limit=100');
    for (const { id } of body.data)
      assert.equal((await client.request('DELETE', `/v1/assets/${id}?permanent=true`)).status, 204);
    for (const step of removal) {
      await context.test(`${step.side} ${step.name}`, () => struckAt(step));
      await timePasses();
    }
    const last = await launch(environment);
    await waitUntil(async () => {
      await timePasses();
      return (await service.query('select 1 from assets union all select 1 from copies')).length === 0;
    });
    assert.deepEqual(await contentsOf(far), { keys: [], openUploads: [] });
    last.child.kill('SIGKILL');
    await last.exit;
  });
});
