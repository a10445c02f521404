/**
 * A mirror that stands still, is dead, or full: nothing else suffers, and when it works again it gets what it lacks. Its server is a
 * real one, behind a proxy that stalls and kills connections and one that answers as a full server does.
 */
import assert from 'node:assert/strict';
import { createHash, randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { after, afterEach, before, describe, test } from 'node:test';
import { Copier } from '../../src/mirrors/copier.ts';
import { CopiesRepository } from '../../src/mirrors/repository.ts';
import { Yielding } from '../../src/mirrors/yielding.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { Client } from '../support/client.ts';
import { glb, png } from '../support/files.ts';
import { bucketAsMirror, copyRows, digestsIn, mirrored } from '../support/mirrors.ts';
import { createPreparedDatabase } from '../support/postgres.ts';
import { contentsOf, createTestBucket, requireS3Settings, s3Skip, type TestBucket } from '../support/s3.ts';
import { startService, type TestService } from '../support/service.ts';
import { TcpProxy } from '../support/tcp-proxy.ts';
import { waitUntil } from '../support/wait-until.ts';
import { S3Proxy } from './s3-proxy.ts';

const MiB = 1024 * 1024;
const env = { REQUESTS_PER_MINUTE: '0', UPLOADS_PER_HOUR: '0' };
const policies = { plain: { mediaTypes: ['image/png'], maxBytes: 100_000, metadata: 'keep', derivatives: {} } };
const makesRoomLess = new Set(['PutObject', 'CreateMultipartUpload', 'UploadPart', 'CompleteMultipartUpload']);

describe('a mirror that does not work', { skip: s3Skip() }, () => {
  let service: TestService;
  let far: TestBucket;
  let directory: string;
  let connections: TcpProxy;
  let server: S3Proxy;
  let client: Client;
  let seed = 1;

  before(async () => {
    far = await createTestBucket();
    directory = await mkdtemp(join(tmpdir(), 'stowage-mirror-'));
    server = await new S3Proxy(requireS3Settings().endpoint).listen();
    connections = await new TcpProxy(server.url).listen();
    const mirrors = { far: bucketAsMirror(far, { endpoint: connections.replaceIn(server.url) }), nas: { directory } };
    service = await startService({ store: 's3', policies, mirrors, env });
    client = new Client(service.url, 'admin');
  });
  afterEach(async () => {
    connections.fault = 'none';
    server.heal();
    for (const { id } of (await client.get('/v1/assets')).body.data)
      await client.request('DELETE', `/v1/assets/${id}?permanent=true`);
    await waitUntil(async () => (await service.query('select 1 from assets')).length === 0);
  });
  after(async () => {
    await service?.close();
    await connections?.close();
    await server?.close();
    await far?.drop();
    await rm(directory, { recursive: true, force: true });
  });

  async function stored(count: number): Promise<string[]> {
    const ids: string[] = [];
    while (ids.length < count) {
      const { status, body } = await client.raw(png(2000, seed++ % 200), { fields: { assetType: 'plain' } });
      assert.equal(status, 201, JSON.stringify(body));
      ids.push(body.id);
    }
    return ids;
  }
  const remove = async (id: string) =>
    assert.equal((await client.request('DELETE', `/v1/assets/${id}?permanent=true`)).status, 204);
  const recordOf = async (id: string) => (await service.query('select 1 from assets where id = $1', [id])).length;
  async function sameAsBucket(): Promise<void> {
    assert.ok(service.bucket);
    assert.deepEqual(await digestsIn(far), await digestsIn(service.bucket));
    assert.deepEqual((await contentsOf(far)).openUploads, []);
  }

  test('and stands still holds up neither uploads, nor other mirrors, nor deletions of what it has not begun', async () => {
    connections.fault = 'stall';
    const ids = await stored(12);
    await mirrored(service, 'nas');
    await waitUntil(async () => (await copyRows(service, 'far')).some(({ attempts }) => attempts > 0));
    const rows = await copyRows(service, 'far');
    assert.ok(rows.every(({ state }) => state === 'pending'));
    // Eight are under way; nobody has tried those that came last.
    const [last = '', ...others] = ids.toReversed();
    await service.query(`update copies set attempts = 0, claim = null where mirror = 'far' and asset_id = $1`, [last]);
    await remove(last);
    await waitUntil(async () => (await recordOf(last)) === 0);
    const begun = rows.find(({ attempts, asset_id }) => attempts > 0 && others.includes(asset_id))?.asset_id ?? '';
    await remove(begun);
    await waitUntil(async () => (await service.query(`select 1 from copies where mirror = 'nas'`)).length === 10);
    assert.equal(await recordOf(begun), 1, 'the record went before the copy that was under way');
    connections.fault = 'none';
    await mirrored(service);
    await waitUntil(async () => (await recordOf(begun)) === 0);
    assert.equal((await copyRows(service, 'far')).length, 10);
    await sameAsBucket();
  });

  test('and is dead is tried now and then, and gets all that it lacks when it is back; what it has keeps its record', async () => {
    const [copied = ''] = await stored(1);
    await mirrored(service);
    connections.fault = 'refuse';
    const [failing = ''] = await stored(1);
    await waitUntil(async () => (await copyRows(service, 'far')).some(({ state }) => state === 'failed'));
    const { body } = await client.get(`/v1/assets/${failing}`);
    const [told] = body['copies'] as Record<string, unknown>[];
    assert.deepEqual([told?.['mirror'], told?.['state'], told?.['reason']], ['far', 'failed', 'mirror-unavailable']);
    const others = await stored(16);
    await remove(copied);
    await mirrored(service, 'nas');
    await waitUntil(async () => (await service.query(`select 1 from copies where mirror = 'nas'`)).length === 17);
    assert.deepEqual(await service.query('select state from assets where id = $1', [copied]), [{ state: 'deleting' }]);
    // One tries; the others wait without being tried.
    const untried = (await copyRows(service, 'far')).filter(({ attempts }) => attempts === 0);
    assert.ok(untried.length >= others.length / 4, `${untried.length} of ${others.length} were not tried`);
    connections.fault = 'none';
    await mirrored(service);
    await waitUntil(async () => (await recordOf(copied)) === 0);
    assert.equal((await copyRows(service, 'far')).length, 17);
    await sameAsBucket();
  });

  test('and is full lets go of what it has, and goes on when there is room', async () => {
    const [first = ''] = await stored(1);
    await mirrored(service);
    server.faultFor = ({ operation }) => (makesRoomLess.has(operation) ? 'full' : undefined);
    await stored(3);
    await waitUntil(async () => (await copyRows(service, 'far')).some(({ reason }) => reason === 'mirror-full'));
    await mirrored(service, 'nas');
    await remove(first);
    await waitUntil(async () => (await recordOf(first)) === 0);
    assert.deepEqual(await digestsIn(far), {});
    server.heal();
    await mirrored(service);
    await sameAsBucket();
  });

  test('and changes bytes on their way is not believed', async () => {
    let damaged = 0;
    server.faultFor = ({ operation }) => {
      if (operation !== 'PutObject' || damaged > 2) return undefined;
      damaged += 1;
      return 'corrupt request';
    };
    await stored(1);
    await mirrored(service);
    assert.equal(damaged, 3);
    await sameAsBucket();
  });
});

describe('copies and deletions at the same time', { skip: s3Skip() }, () => {
  let service: TestService;
  let jobs: TestService;
  let database: Awaited<ReturnType<typeof createPreparedDatabase>>;
  let far: TestBucket;
  let server: S3Proxy;
  let client: Client;
  /** What the copiers read. */
  let source: ObjectStore;

  before(async () => {
    far = await createTestBucket();
    server = await new S3Proxy(requireS3Settings().endpoint).listen();
    const mirrors = { far: bucketAsMirror(far, { endpoint: server.url }) };
    // Copies are made by those of the tests.
    database = await createPreparedDatabase();
    const { url: databaseUrl } = database;
    service = await startService({
      store: 's3',
      mirrors,
      databaseUrl,
      env: { ...env, ROLE: 'api', DATABASE_URL: databaseUrl },
    });
    jobs = await startService({ beside: service, env });
    client = new Client(service.url, 'admin');
    source = service.store;
  });
  after(async () => {
    await jobs?.close();
    await service?.close();
    await server?.close();
    await far?.drop();
    await database?.drop();
  });

  function copier(options: { source?: ObjectStore; renewal?: number } = {}): Copier {
    const { core } = service.service;
    const [mirror] = core.mirrors;
    assert.ok(mirror);
    const made = new Copier({
      mirror,
      source,
      copies: new CopiesRepository(service.database, core.outbox),
      yielding: new Yielding({ idleFor: () => Number.POSITIVE_INFINITY, patience: 0 }),
      onError: () => {},
      ...options,
    });
    made.start();
    return made;
  }

  /** Deletes a file while a part of it is on its way to the mirror. @returns lets the part go on */
  async function deletedDuringCopy(): Promise<() => void> {
    const gate = Promise.withResolvers<void>();
    const reached = Promise.withResolvers<void>();
    server.before = async ({ operation }) => {
      if (operation !== 'UploadPart') return;
      reached.resolve();
      await gate.promise;
    };
    const { status, body } = await client.raw(glb(11 * MiB, 3), { name: 'm.glb' });
    assert.equal(status, 201);
    await reached.promise;
    assert.equal((await client.request('DELETE', `/v1/assets/${body.id}?permanent=true`)).status, 204);
    await waitUntil(async () => (await copyRows(service, 'far'))[0]?.state === 'deleting');
    return gate.resolve;
  }
  async function nothingIsLeft(): Promise<void> {
    await waitUntil(async () => (await service.query('select 1 from assets')).length === 0);
    assert.deepEqual(await service.query('select 1 from copies'), []);
    assert.deepEqual(await contentsOf(far), { keys: [], openUploads: [] });
  }

  test('a copy that ends after its asset was deleted is removed', async () => {
    const one = copier();
    try {
      const goOn = await deletedDuringCopy();
      goOn();
      await nothingIsLeft();
    } finally {
      server.heal();
      await one.close();
    }
  });

  test('a copy that is not wanted any more is given up', async () => {
    const one = copier({ renewal: 50 });
    try {
      const goOn = await deletedDuringCopy();
      // Given up before its part has arrived: the row is free, and waits for nobody.
      await waitUntil(async () => (await service.query('select 1 from copies where claim is not null')).length === 0);
      goOn();
      await nothingIsLeft();
    } finally {
      server.heal();
      await one.close();
    }
  });

  test('a copy that its dead copier has left half is removed when no request of his can arrive any more', async () => {
    const dead = copier();
    const goOn = await deletedDuringCopy();
    const [{ wait } = { wait: 0 }] = await service.query<{ wait: number }>(
      `select extract(epoch from due_at - now())::float8 as wait from copies`,
    );
    assert.ok(wait > 60, `${wait} seconds after the copier was heard of last`);
    // As if he had died, and the time had passed: what he says later changes nothing.
    await service.query(`update copies set claim = gen_random_uuid()`);
    goOn();
    await dead.close();
    server.heal();
    await service.query('update copies set due_at = now()');
    const other = copier();
    await nothingIsLeft();
    await other.close();
  });

  test('a copier that was taken for dead removes what nobody knows of any more', async () => {
    const frozen = copier();
    const goOn = await deletedDuringCopy();
    await service.query('delete from copies');
    goOn();
    await waitUntil(async () => (await contentsOf(far)).keys.length > 0);
    await waitUntil(async () => (await contentsOf(far)).keys.length === 0);
    server.heal();
    await frozen.close();
    await service.query(`delete from assets`);
  });

  test('thousands of objects that a mirror lacks are each copied once, by few statements', async () => {
    const count = 1000;
    const bytes = png(300, 1);
    const attributes = { contentType: 'image/png', contentDisposition: 'inline', cacheControl: '', metadata: {} };
    const sha256 = createHash('sha256').update(bytes).digest();
    // Of all of them the same: what is there to be copied is not what is tested.
    const verbs: Partial<ObjectStore> = {
      head: async () => ({ size: bytes.length, lastModified: new Date(), ...attributes }),
      get: async () => ({ stream: Readable.from([bytes]), length: bytes.length }),
    };
    const sameBytes = new Proxy(source, {
      get: (store, verb) => Reflect.get(verbs, verb) ?? Reflect.get(store, verb),
    });
    await service.query(
      `insert into copies (mirror, object_key, asset_id, size, sha256)
       select 'far', 'users/lag/assets/' || gen_random_uuid() || '/original', $1, $2, $3 from generate_series(1, $4)`,
      [randomUUID(), bytes.length, sha256, count],
    );
    const calls = new Map<string, number>();
    server.before = ({ operation }) => void calls.set(operation, (calls.get(operation) ?? 0) + 1);
    const [one, other] = [copier({ source: sameBytes }), copier({ source: sameBytes })];
    await mirrored(service);
    await one.close();
    await other.close();
    assert.deepEqual(Object.fromEntries(calls), { PutObject: count });
    assert.equal((await copyRows(service, 'far')).filter(({ attempts }) => attempts === 1).length, count);
    await service.query('delete from copies');
  });
});
