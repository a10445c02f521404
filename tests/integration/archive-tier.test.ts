/** Bytes that go to the archive and come back: another bucket, a directory, another class; and what is told meanwhile. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { stepValues } from '../../src/assets/life-cycle-step.ts';
import { archiveAsset } from '../../src/retention/jobs/archive-asset.ts';
import { Client } from '../support/client.ts';
import { pdf } from '../support/files.ts';
import { age, rulesIn } from '../support/life-cycle.ts';
import { contentsOf, createTestBucket, requireS3Settings, s3Skip, type TestBucket } from '../support/s3.ts';
import { type StoreKind, startService, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

const DAY = 24 * 3600 * 1000;
const policies = {
  document: { mediaTypes: ['application/pdf'], maxBytes: 1_000_000, archiveAfterDays: 30, public: true },
};

interface Place {
  title: string;
  store: StoreKind;
  skip: string | false;
  open(): Promise<{ env: Record<string, string>; bucket?: TestBucket; close(): Promise<void> }>;
}

const inDirectory = async () => {
  const directory = await mkdtemp(join(tmpdir(), 'stowage-archive-'));
  return {
    env: { ARCHIVE_DIRECTORY: directory },
    close: () => rm(directory, { recursive: true, force: true }),
  };
};
const inBucket = async () => {
  const bucket = await createTestBucket();
  const { endpoint, region, accessKeyId, secretAccessKey } = requireS3Settings();
  return {
    bucket,
    env: {
      ARCHIVE_S3_BUCKET: bucket.bucket,
      ARCHIVE_S3_ENDPOINT: endpoint,
      ARCHIVE_S3_REGION: region,
      ARCHIVE_S3_ACCESS_KEY_ID: accessKeyId,
      ARCHIVE_S3_SECRET_ACCESS_KEY: secretAccessKey,
      ARCHIVE_S3_FORCE_PATH_STYLE: 'true',
    },
    close: () => bucket.drop(),
  };
};
const places: Place[] = [
  { title: 'a disk, with a directory as archive', store: 'disk', skip: false, open: inDirectory },
  { title: 'a disk, with a bucket as archive', store: 'disk', skip: s3Skip(), open: inBucket },
  { title: 'a bucket, with another as archive', store: 's3', skip: s3Skip(), open: inBucket },
];

for (const { title, store, skip, open } of places) {
  describe(`the archive of ${title}`, { skip }, () => {
    let place: Awaited<ReturnType<Place['open']>>;
    let service: TestService;
    before(async () => {
      place = await open();
      service = await startService({
        store,
        policies,
        env: { REQUESTS_PER_MINUTE: '0', REPLACED_GRACE: '0s', ...place.env },
      });
    });
    after(async () => {
      await service?.close();
      await place?.close();
    });

    const caller = () => new Client(service.url, `owner-${randomUUID()}`);
    const keyOf = async (id: string) =>
      (await service.query<{ object_key: string }>('select object_key from assets where id = $1', [id]))[0]
        ?.object_key ?? '';
    const read = async (client: Client, id: string) => (await client.get(`/v1/assets/${id}`)).body;
    const actions = async (id: string) =>
      (
        await service.query<{ action: string }>('select action from audit_events where asset_id = $1 order by id', [id])
      ).map(({ action }) => action);
    const bytesOf = async (key: string) => {
      const body = await service.store.get(key, {});
      const chunks: Buffer[] = [];
      for await (const chunk of body?.stream ?? []) chunks.push(chunk as Buffer);
      return Buffer.concat(chunks);
    };

    /** A document that was archived, and its owner. */
    async function archived(client = caller()) {
      const bytes = pdf();
      const { status, body } = await client.raw(bytes, { name: 'a.pdf' });
      assert.equal(status, 201);
      const { id } = body;
      const first = await keyOf(id);
      await age(service, id, 31);
      await rulesIn(service, 0);
      await waitUntil(async () => (await read(client, id))['tier'] === 'archive');
      return { client, bytes, id, first };
    }

    test('an asset is archived when its days are over, is listed, and comes back with the same bytes', async () => {
      const client = caller();
      const bytes = pdf();
      const { body } = await client.raw(bytes, { name: 'a.pdf' });
      const { id } = body;
      const first = await keyOf(id);
      const next = (await read(client, id))['next'];
      const at = new Date(Date.parse(body.createdAt) + 30 * DAY).toISOString();
      assert.deepEqual(next, { action: 'archive', at, rule: 'policy' });
      await age(service, id, 29);
      await rulesIn(service, 0);
      assert.equal((await read(client, id))['tier'], undefined);
      await age(service, id, 2);
      await rulesIn(service, 0);
      await waitUntil(async () => (await read(client, id))['tier'] === 'archive');
      const listed = (await client.get('/v1/assets')).body as unknown as { data: { id: string; tier?: string }[] };
      assert.deepEqual(
        listed.data.map((each) => [each.id, each.tier]),
        [[id, 'archive']],
      );
      const second = await keyOf(id);
      assert.notEqual(second, first);
      assert.ok((await bytesOf(second)).equals(bytes));
      await waitUntil(async () => (await service.store.head(first, {})) === undefined);
      if (place.bucket) assert.deepEqual((await contentsOf(place.bucket)).keys, [second]);
      assert.equal((await client.get('/v1/quota')).body['used'], bytes.length);

      const asked = await client.send('POST', `/v1/assets/${id}/restore-from-archive`, { speed: 'bulk', days: 5 });
      assert.equal(asked.status, 202);
      assert.partialDeepStrictEqual(asked.body, {
        tier: 'archive',
        restore: { state: 'requested', speed: 'bulk', days: 5 },
      });
      await waitUntil(async () => (await read(client, id))['tier'] === undefined);
      const back = await read(client, id);
      assert.equal(back['restore'], undefined);
      const until = Date.parse(String(back['restoredUntil']));
      assert.ok(until > Date.now() + 4.9 * DAY && until < Date.now() + 5.1 * DAY);
      // The rule waits until then.
      assert.deepEqual(back['next'], { action: 'archive', at: back['restoredUntil'], rule: 'policy' });
      const content = await client.content(id);
      assert.equal(content.status, 200);
      assert.ok(content.body.equals(bytes));
      await waitUntil(async () => (await service.store.head(second, {})) === undefined);
      assert.deepEqual(await actions(id), [
        ...['asset.uploaded', 'asset.archived', 'asset.restore-requested', 'asset.restored-from-archive'],
        'asset.downloaded',
      ]);
      await age(service, id, 6);
      await rulesIn(service, 0);
      await waitUntil(async () => (await read(client, id))['tier'] === 'archive');
    });

    test('every way to the bytes of an archived asset is 409 with the way out, and is good again afterwards', async () => {
      const { client, id } = await archived();
      await client.send('PATCH', `/v1/assets/${id}`, { visibility: 'public' });
      const share = await client.send('POST', '/v1/shares', { assetId: id });
      assert.equal(share.status, 201, JSON.stringify(share.body));
      const path = new URL(String(share.body['url'])).pathname;
      const ways: [what: string, ask: () => Promise<{ status: number; body: Record<string, unknown> }>][] = [
        ['content', () => client.get(`/v1/assets/${id}/content`)],
        ['a range', () => client.request('GET', `/v1/assets/${id}/content`, { headers: { range: 'bytes=0-3' } })],
        ['a link', () => client.get(`/v1/assets/${id}/download`)],
        ['a redirect', () => client.request('GET', `/v1/assets/${id}/download/redirect`)],
        ['a ZIP archive', () => client.send('POST', '/v1/archives', { ids: [id] })],
        ['a share', () => client.get(`${path}/content`)],
        ['a public address', () => client.get(`/p/${id}/a.pdf`)],
      ];
      for (const [what, ask] of ways) {
        const { status, body } = await ask();
        assert.equal(status, 409, `${what}: ${JSON.stringify(body)}`);
        assert.match(String(body['type']), /archived$/, what);
      }
      const links = await client.send('POST', '/v1/links', { ids: [id] });
      assert.match(JSON.stringify(links.body), /archived/);
      assert.equal((await read(client, id))['publicUrl'], undefined);
      assert.match(String((await ways[0]?.[1]())?.body['detail']), /restore-from-archive/);
      assert.equal((await client.get(path)).status, 200);

      await client.send('POST', `/v1/assets/${id}/restore-from-archive`, {});
      await waitUntil(async () => (await read(client, id))['tier'] === undefined);
      for (const [what, ask] of ways) assert.ok((await ask()).status < 400, what);
    });

    test('an archived asset is deleted with what is in the archive, and its quota is free', async () => {
      const { client, id } = await archived();
      const key = await keyOf(id);
      assert.equal((await client.request('DELETE', `/v1/assets/${id}?permanent=true`)).status, 204);
      await waitUntil(async () => (await service.store.head(key, {})) === undefined);
      await waitUntil(async () => (await service.query('select from assets where id = $1', [id])).length === 0);
      assert.equal((await client.get('/v1/quota')).body['used'], 0);
    });

    test('what is held stays where it is, and when it was archived before it comes back all the same', async () => {
      const { client, id, bytes } = await archived();
      const hold = `holds = '{"claim": {"reason": "a claim", "by": "somebody", "at": "2026-01-01T00:00:00Z"}}'`;
      await service.query(`update assets set ${hold} where id = $1`, [id]);
      await client.send('POST', `/v1/assets/${id}/restore-from-archive`, {});
      await waitUntil(async () => (await read(client, id))['tier'] === undefined);
      assert.ok((await client.content(id)).body.equals(bytes));
      await age(service, id, 30);
      await rulesIn(service, 0);
      assert.equal((await read(client, id))['next'], undefined);
      assert.equal((await read(client, id))['tier'], undefined);
      await service.query('update assets set holds = null where id = $1', [id]);
    });

    test('the reconciler finds what is archived where it is', async () => {
      const { client, id } = await archived();
      const { report } = await service.service.reconcile({});
      assert.equal(report.newlyLostAssets, 0);
      assert.equal(report.deletedObjects, 0);
      assert.equal((await read(client, id))['state'], 'ready');
    });

    test('a worker that dies between copy and switch, or after it, loses nothing and leaves nothing', async () => {
      const client = caller();
      const bytes = pdf();
      const { body } = await client.raw(bytes, { name: 'a.pdf' });
      const { id } = body;
      const first = await keyOf(id);
      await age(service, id, 31);
      const { core } = service.service;
      const rules = stepValues(core);
      const dies = () => Promise.reject(new Error('killed'));
      const signal = new AbortController().signal;
      const copies = async () =>
        (
          await service.query<{ object_key: string }>('select object_key from derivatives where asset_id = $1', [id])
        ).map(({ object_key: key }) => key);
      await assert.rejects(
        archiveAsset(core, rules, { assetId: id }, { id: randomUUID(), signal, fence: dies }),
        /killed/,
      );
      assert.equal(await keyOf(id), first);
      assert.ok((await client.content(id)).body.equals(bytes));
      const [left = ''] = await copies();
      assert.ok(await service.store.head(left, {}));
      // Its lease ends, and another worker begins anew, under a key of its own.
      await service.query("update derivatives set lease_expires_at = now() - interval '1 s' where asset_id = $1", [id]);
      const lives = { id: randomUUID(), signal, fence: async () => {} };
      assert.equal(await archiveAsset(core, rules, { assetId: id }, lives), true);
      assert.equal(await archiveAsset(core, rules, { assetId: id }, lives), false);
      await waitUntil(async () => (await copies()).length === 0);
      for (const key of [first, left]) assert.equal(await service.store.head(key, {}), undefined);
      assert.ok((await bytesOf(await keyOf(id))).equals(bytes));
    });

    test('an asset that is not archived is not brought back', async () => {
      const client = caller();
      const { body } = await client.raw(pdf(), { name: 'a.pdf' });
      const asked = await client.send('POST', `/v1/assets/${body.id}/restore-from-archive`, {});
      assert.equal(asked.status, 409);
      const foreign = await caller().send('POST', `/v1/assets/${body.id}/restore-from-archive`, {});
      assert.equal(foreign.status, 404);
    });

    test('new bytes take the place of archived ones, and are at hand', async () => {
      const { client, id } = await archived();
      const key = await keyOf(id);
      const other = Buffer.concat([pdf(), Buffer.from('\n% other\n')]);
      const given = await client.request('PUT', `/v1/assets/${id}/content?fileName=b.pdf`, { body: other });
      assert.equal(given.status, 200, JSON.stringify(given.body));
      assert.equal(given.body['tier'], undefined);
      assert.ok((await client.content(id)).body.equals(other));
      await waitUntil(async () => (await service.store.head(key, {})) === undefined);
      // The days of the new bytes begin anew.
      await rulesIn(service, 0);
      assert.equal((await read(client, id))['tier'], undefined);
      assert.equal((await read(client, id))['next'] !== undefined, true);
    });
  });
}
