/** Copies of stored objects in other buckets and on a disk: that nothing is forgotten, what is told of it, and what is mended. */
import assert from 'node:assert/strict';
import { createHash, randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { DeleteObjectCommand, PutObjectCommand } from '@aws-sdk/client-s3';
import { verificationOf } from '../../src/mirrors/copiers.ts';
import { Filling } from '../../src/mirrors/filling.ts';
import { hourly, verifyCopies } from '../../src/mirrors/verification.ts';
import type { Mirror } from '../../src/storage/mirror.ts';
import { Client } from '../support/client.ts';
import { glb, png } from '../support/files.ts';
import { bucketAsMirror, copyRows, digestsIn, mirrored } from '../support/mirrors.ts';
import { picture } from '../support/pictures.ts';
import { createTestBucket, s3Skip, type TestBucket } from '../support/s3.ts';
import { startService, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

const MiB = 1024 * 1024;
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const policies = {
  plain: { mediaTypes: ['image/png', 'model/gltf-binary'], maxBytes: 100_000, metadata: 'keep', derivatives: {} },
  kept: { mediaTypes: ['image/png'], maxBytes: 100_000, metadata: 'keep', versions: 2 },
  stripped: { mediaTypes: ['image/jpeg'], maxBytes: 10_000_000, metadata: 'strip' },
};
const env = { REQUESTS_PER_MINUTE: '0', UPLOADS_PER_HOUR: '0', REPLACED_GRACE: '0s', RECONCILE_GRACE: '0s' };

function mirrorOf({ service }: TestService, name: string): Mirror {
  const mirror = service.core.mirrors.find((each) => each.name === name);
  assert.ok(mirror);
  return mirror;
}

/** Digests of all objects of a disk store, by key. */
async function digestsOnDisk(directory: string): Promise<Record<string, string>> {
  const objects = join(directory, 'objects');
  const found: Record<string, string> = {};
  for (const entry of await readdir(objects, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isFile() && !path.endsWith('.json')) found[path.slice(objects.length + 1)] = sha256(await readFile(path));
  }
  return found;
}

async function uploadDirectly(client: Client, bytes: Buffer<ArrayBuffer>): Promise<string> {
  const fields = { fileName: 'm.glb', size: bytes.length, contentType: 'model/gltf-binary' };
  const begun = await client.send('POST', '/v1/uploads', fields);
  assert.equal(begun.status, 201, JSON.stringify(begun.body));
  const [part] = begun.body['parts'] as { url: string }[];
  assert.ok((await fetch(part?.url ?? '', { method: 'PUT', body: bytes })).ok);
  const { status, body } = await client.request('POST', `/v1/uploads/${begun.body['uploadId']}/complete`);
  assert.equal(status, 201, JSON.stringify(body));
  return body.id;
}

describe('mirrors of a bucket', { skip: s3Skip() }, () => {
  let service: TestService;
  /** Of the same server, and as if it were another one. */
  let near: TestBucket;
  let far: TestBucket;
  let directory: string;
  let client: Client;

  before(async () => {
    [near, far] = [await createTestBucket(), await createTestBucket()];
    directory = await mkdtemp(join(tmpdir(), 'stowage-mirror-'));
    const mirrors = {
      near: bucketAsMirror(near, { prefix: 'copies/of/' }),
      far: bucketAsMirror(far, { region: 'eu-central-1' }),
      nas: { directory },
    };
    service = await startService({ store: 's3', policies, mirrors, env: { ...env, DERIVATIVES: 'true' } });
    client = new Client(service.url, 'admin');
  });
  after(async () => {
    await service?.close();
    await near?.drop();
    await far?.drop();
    await rm(directory, { recursive: true, force: true });
  });

  async function stored(bytes: Buffer<ArrayBuffer>, name = 'photo.png', assetType = 'plain') {
    const { status, body } = await client.raw(bytes, { name, fields: { assetType } });
    assert.equal(status, 201, JSON.stringify(body));
    return body.id;
  }

  /** Nothing of an owner is left in the store, and then in no mirror either. */
  async function removeAll(): Promise<void> {
    for (const { id } of (await client.get('/v1/assets')).body.data)
      assert.equal((await client.request('DELETE', `/v1/assets/${id}?permanent=true`)).status, 204);
    await waitUntil(async () => (await service.query('select 1 from assets')).length === 0);
  }

  test('have each object that the bucket has, byte for byte, and lose it with its asset', async () => {
    const original = await picture({ width: 600, height: 400 });
    const shown = await stored(original, 'photo.jpg', 'image');
    await stored(original, 'stripped.jpg', 'stripped');
    await stored(glb(6 * MiB, 1), 'large.glb', 'model');
    await uploadDirectly(client, glb(300_000, 2));
    const kept = await stored(png(2000, 1), 'kept.png', 'kept');
    for (const seed of [2, 3, 4]) {
      const path = `/v1/assets/${kept}/content`;
      assert.equal((await client.request('PUT', path, { body: png(2000 + seed, seed) })).status, 200);
    }
    assert.equal((await client.request('POST', `/v1/assets/${kept}/versions/2/restore`)).status, 200);
    assert.equal((await client.get(`/v1/assets/${shown}/image?width=200&height=100`)).status, 200);
    await waitUntil(async () => (await client.get(`/v1/assets/${shown}/derivatives`)).body.data.length > 0);
    await waitUntil(async () => {
      const busy = await service.query(
        `select 1 from derivatives where state in ('making', 'discarded')
         union all select 1 from assets where state <> 'ready'`,
      );
      return busy.length === 0;
    });
    await mirrored(service);
    assert.ok(service.bucket);
    const there = await digestsIn(service.bucket);
    const kinds = await service.query<{ kind: string }>(`select distinct kind from derivatives where state = 'ready'`);
    assert.deepEqual(kinds.map(({ kind }) => kind).sort(), ['derivative', 'variant']);
    // Six originals and two versions, beside what was made of the pictures.
    assert.ok(Object.keys(there).length > 8, JSON.stringify(there));
    assert.deepEqual(await digestsIn(near, 'copies/of/'), there);
    assert.deepEqual(await digestsIn(far), there);
    assert.deepEqual(await digestsOnDisk(directory), there);
    await removeAll();
    assert.deepEqual([await digestsIn(near), await digestsIn(far), await digestsOnDisk(directory)], [{}, {}, {}]);
    assert.deepEqual(await service.query('select * from copies'), []);
  });

  test('are told by the record, whose entity tag changes with them', async () => {
    const id = await stored(png(3000, 1));
    await mirrored(service);
    const record = await client.get(`/v1/assets/${id}`);
    const copies = record.body['copies'] as Record<string, unknown>[];
    assert.deepEqual(
      copies.map(({ mirror, state, attempts }) => [mirror, state, attempts]),
      ['far', 'nas', 'near'].map((mirror) => [mirror, 'copied', 1]),
    );
    const tag = record.headers.get('etag') ?? '';
    assert.equal((await client.get(`/v1/assets/${id}`, { 'if-none-match': tag })).status, 304);
    await verifyCopies(
      verificationOf(service.service.core, mirrorOf(service, 'nas')),
      100,
      new AbortController().signal,
    );
    const later = await client.get(`/v1/assets/${id}`, { 'if-none-match': tag });
    assert.equal(later.status, 200);
    assert.deepEqual(
      (later.body['copies'] as Record<string, unknown>[]).map(({ state }) => state),
      ['copied', 'verified', 'copied'],
    );
    // Nothing that a condition on a change guards against.
    const change = await client.send('PATCH', `/v1/assets/${id}`, { name: 'b.png' }, { 'if-match': tag });
    assert.equal(change.status, 200, JSON.stringify(change.body));
    await removeAll();
  });

  test('are read again in turn, and what is missing or damaged is copied again', async () => {
    const [intact, missing, damaged] = [
      await stored(png(3000, 1)),
      await stored(png(3000, 2)),
      await stored(png(3000, 3)),
    ];
    await mirrored(service);
    const keyOf = async (id: string) =>
      (await copyRows(service, 'far')).find(({ asset_id }) => asset_id === id)?.object_key ?? '';
    const before = await digestsIn(far);
    const Bucket = far.bucket;
    await far.client.send(new DeleteObjectCommand({ Bucket, Key: await keyOf(missing) }));
    await far.client.send(new PutObjectCommand({ Bucket, Key: await keyOf(damaged), Body: png(3000, 9) }));
    const options = { ...verificationOf(service.service.core, mirrorOf(service, 'far')), onError: () => {} };
    const { signal } = new AbortController();
    assert.deepEqual(await verifyCopies(options, 100, signal), { read: 3, bad: 2 });
    await mirrored(service, 'far');
    assert.deepEqual(await digestsIn(far), before);
    const states = new Map((await copyRows(service, 'far')).map((row) => [row.asset_id, row]));
    assert.equal(states.get(intact)?.state, 'verified');
    assert.deepEqual([states.get(missing)?.state, states.get(missing)?.reason], ['copied', null]);
    assert.equal((await verifyCopies(options, 100, signal)).bad, 0);
    await removeAll();
  });

  test('never get an object that is not what its record says', async () => {
    const source = service.bucket;
    assert.ok(source);
    const id = await stored(png(3000, 5));
    await mirrored(service);
    const key = (await copyRows(service, 'far'))[0]?.object_key ?? '';
    await source.client.send(new PutObjectCommand({ Bucket: source.bucket, Key: key, Body: png(3000, 6) }));
    // As if it had not been copied yet.
    await far.client.send(new DeleteObjectCommand({ Bucket: far.bucket, Key: key }));
    await rm(join(directory, 'objects'), { recursive: true });
    await mkdir(join(directory, 'objects'));
    await service.query(`update copies set state = 'pending', due_at = now() where mirror <> 'near'`);
    await waitUntil(async () => (await copyRows(service, 'far'))[0]?.state === 'failed');
    await waitUntil(async () => (await copyRows(service, 'nas'))[0]?.state === 'failed');
    assert.equal((await copyRows(service, 'far'))[0]?.reason, 'source-damaged');
    assert.deepEqual([await digestsIn(far), await digestsOnDisk(directory)], [{}, {}]);
    const { body } = await client.get('/v1/admin/mirrors');
    const told = (body['mirrors'] as Record<string, unknown>[]).find(({ name }) => name === 'far');
    assert.equal(told?.['failed'], 1);
    assert.deepEqual(
      (told?.['failures'] as { assetId: string }[] | undefined)?.map(({ assetId }) => assetId),
      [id],
    );
    await removeAll();
  });

  test('that come later are filled up, without what they have', async () => {
    await stored(png(3000, 1));
    await mirrored(service);
    await service.query(`delete from copies where mirror = 'far'`);
    await stored(png(3000, 2));
    const filling = new Filling(service.database);
    assert.deepEqual(await filling.lacking('far'), { objects: 1, bytes: 3000 });
    assert.deepEqual(await filling.fillUp('far'), { objects: 1, bytes: 3000 });
    assert.deepEqual(await filling.lacking('far'), { objects: 0, bytes: 0 });
    await mirrored(service);
    assert.equal((await copyRows(service, 'far')).length, 2);
    const listed: string[] = [];
    for await (const page of filling.stored('far')) listed.push(...page.map(({ objectKey }) => objectKey));
    assert.equal(listed.length, 2);
    // Of an object that nothing names any more.
    await service.query(
      `insert into copies (mirror, object_key, asset_id, size, state, at, attempts)
       values ('far', 'users/x/assets/${randomUUID()}/original', gen_random_uuid(), 1, 'copied', now() - interval '2 days', 1)`,
    );
    const dropped = await filling.dropOfNobody('far', new Date(Date.now() - 3_600_000), new AbortController().signal);
    assert.equal(dropped, 1);
    await mirrored(service);
    assert.equal((await copyRows(service, 'far')).length, 2);
    await removeAll();
  });

  test('are told to administrators and to metrics', async () => {
    await stored(png(3000, 1));
    await mirrored(service);
    const { status, body } = await client.get('/v1/admin/mirrors');
    assert.equal(status, 200);
    const told = body['mirrors'] as Record<string, Record<string, number>>[];
    assert.deepEqual(
      told.map(({ name, state, kind, behind, failed, leaving }) => [name, state, kind, behind, failed, leaving]),
      [
        ['far', 's3'],
        ['nas', 'disk'],
        ['near', 's3'],
      ].map(([name, kind]) => [name, 'up-to-date', kind, { objects: 0, bytes: 0 }, 0, 0]),
    );
    for (const { rate } of told) assert.ok((rate?.['bytesPerSecond'] ?? 0) > 0);
    const metrics = await service.service.metrics.registry.metrics();
    assert.match(metrics, /^stowage_mirror_behind_objects\{mirror="far"\} 0$/m);
    assert.match(metrics, /^stowage_mirror_oldest_seconds\{mirror="far"\} 0$/m);
    assert.match(metrics, /^stowage_mirror_lag_limit_seconds 3600$/m);
    assert.match(metrics, /^stowage_mirror_copied_objects_total\{mirror="nas"\} [1-9]/m);
    assert.match(metrics, /^stowage_mirror_verified_total\{mirror="far",found="damaged"\} 1$/m);
    await removeAll();
  });

  test('that are not configured any more hold deletions up until they are forgotten', async () => {
    await service.query(`insert into mirrors (name, place) values ('former', 's3:gone/')`);
    const id = await stored(png(3000, 1));
    await mirrored(service, 'near');
    await service.query(`update copies set state = 'copied', attempts = 1 where mirror = 'former'`);
    assert.equal((await client.request('DELETE', `/v1/assets/${id}?permanent=true`)).status, 204);
    await waitUntil(async () => (await copyRows(service, 'near')).length === 0);
    assert.deepEqual(await service.query('select state from assets'), [{ state: 'deleting' }]);
    const { body } = await client.get('/v1/admin/mirrors');
    const former = (body['mirrors'] as Record<string, unknown>[]).find(({ name }) => name === 'former');
    assert.deepEqual([former?.['state'], former?.['leaving']], ['not-configured', 1]);
    const inUse = await client.request('DELETE', '/v1/admin/mirrors/near');
    assert.deepEqual([inUse.status, inUse.body.type], [409, 'urn:stowage:problem:mirror-in-use']);
    assert.equal((await client.request('DELETE', '/v1/admin/mirrors/nothing')).status, 404);
    assert.equal((await client.request('DELETE', '/v1/admin/mirrors/former?reason=sold')).status, 204);
    await waitUntil(async () => (await service.query('select 1 from assets')).length === 0);
    const events = await service.query<{ reason: string }>(
      `select reason from audit_events where action = 'mirror.forgotten'`,
    );
    assert.deepEqual(events, [{ reason: 'sold' }]);
  });

  test('at another place must have another name', async () => {
    const moved = { far: bucketAsMirror(near) };
    await assert.rejects(startService({ beside: service, mirrors: moved, env }), /the mirror far was at s3:/);
  });
});

test('without a mirror nothing is written', async () => {
  const service = await startService({ env });
  try {
    const { status, body } = await new Client(service.url).raw(png(2000, 1), { name: 'photo.png' });
    assert.equal(status, 201);
    assert.deepEqual(await service.query('select 1 from copies union all select 1 from mirrors'), []);
    assert.equal((await new Client(service.url).get(`/v1/assets/${body.id}`)).body['copies'], undefined);
  } finally {
    await service.close();
  }
});

test('a disk has a bucket as its mirror', { skip: s3Skip() }, async () => {
  const bucket = await createTestBucket();
  const service = await startService({ mirrors: { off: bucketAsMirror(bucket) }, env });
  try {
    const client = new Client(service.url);
    const [small, large] = [png(2000, 1), glb(11 * MiB, 1)];
    for (const [name, bytes] of [
      ['a.png', small],
      ['b.glb', large],
    ] as const)
      assert.equal((await client.raw(bytes, { name })).status, 201);
    await mirrored(service);
    assert.deepEqual(Object.values(await digestsIn(bucket)).sort(), [sha256(small), sha256(large)].sort());
  } finally {
    await service.close();
    await bucket.drop();
  }
});

test('a share of all copies is read in a day', () => {
  const read = (stored: number, share: number, chance: number) => hourly(stored, share, chance);
  assert.deepEqual([read(2400, 0.01, 0.99), read(2400, 1, 0.5), read(10, 0, 0)], [1, 100, 0]);
  // Less than one is left to chance: of ten copies, one in two and a half hours.
  assert.deepEqual([read(10, 1, 0.41), read(10, 1, 0.42)], [1, 0]);
});
