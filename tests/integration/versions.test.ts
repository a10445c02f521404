/** An asset is given other bytes under its id, by every way in; what it had before is kept, counted, and comes back. */
import assert from 'node:assert/strict';
import { createHash, randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { type Answer, type AnyBody, Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { startService, storeKinds, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const base64 = (text: string) => Buffer.from(text).toString('base64');
const TUS = { 'tus-resumable': '1.0.0' };
const pictures = { mediaTypes: ['image/png', 'image/gif'], maxBytes: 100_000, metadata: 'keep' };
const policies = {
  image: pictures,
  kept: { ...pictures, versions: 2 },
  encoded: { ...pictures, reencode: { maxWidth: 300 }, versions: 1 },
};
const env = { REQUESTS_PER_MINUTE: '0', UPLOADS_PER_HOUR: '0', REPLACED_GRACE: '0s', RECONCILE_GRACE: '0s' };
const gif = () => Buffer.from('R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7', 'base64');

type Replace = (
  client: Client,
  id: string,
  bytes: Buffer<ArrayBuffer>,
  headers?: Record<string, string>,
) => Promise<Answer<AnyBody>>;

const byPut: Replace = (client, id, body, headers = {}) =>
  client.request('PUT', `/v1/assets/${id}/content`, { body, headers });
const byForm: Replace = (client, replaces, bytes, headers = {}) =>
  client.upload(bytes, { name: 'photo.png', fields: { replaces }, headers });

async function begunDirectly(client: Client, replaces: string, bytes: Buffer<ArrayBuffer>, headers = {}) {
  const declared = { size: bytes.length, contentType: 'image/png', sha256: sha256(bytes) };
  const fields = { fileName: 'photo.png', ...declared, replaces };
  const begun = await client.send('POST', '/v1/uploads', fields, headers);
  if (begun.status !== 201) return { begun, complete: async () => begun };
  const [part] = begun.body['parts'] as { url: string }[];
  assert.ok((await fetch(part?.url ?? '', { method: 'PUT', body: bytes })).ok);
  return { begun, complete: () => client.request('POST', `/v1/uploads/${begun.body['uploadId']}/complete`) };
}
const byDirectUpload: Replace = async (...file) => (await begunDirectly(...file)).complete();

/** In two requests, so that it is read back before it takes the place of the others. */
const byResumableUpload: Replace = async (client, replaces, bytes, headers = {}) => {
  const metadata = `filename ${base64('photo.png')},replaces ${base64(replaces)}`;
  const created = await client.request('POST', '/v1/resumable', {
    headers: { ...TUS, 'upload-length': String(bytes.length), 'upload-metadata': metadata, ...headers },
  });
  if (created.status !== 201) return created;
  const path = created.headers.get('location') ?? '';
  const send = (offset: number, body: Uint8Array<ArrayBuffer>) =>
    client.request('PATCH', path, {
      headers: { ...TUS, 'content-type': 'application/offset+octet-stream', 'upload-offset': String(offset) },
      body,
    });
  assert.equal((await send(0, bytes.subarray(0, 100))).status, 204);
  const last = await send(100, bytes.subarray(100));
  if (last.status !== 204) return last;
  assert.equal(last.headers.get('asset-id'), replaces);
  return client.get(`/v1/assets/${replaces}`);
};
const ways: Record<string, Replace> = {
  'PUT of the content': byPut,
  'a form': byForm,
  'a direct upload': byDirectUpload,
  'a resumable upload': byResumableUpload,
};

for (const { store, skip } of storeKinds)
  describe(`the content of an asset, on ${store}`, { skip }, () => {
    let service: TestService;
    before(async () => {
      service = await startService({ store, policies, env });
    });
    after(() => service.close());

    const someone = () => new Client(service.url, `user-${randomUUID()}`);
    async function stored(client: Client, assetType = 'kept', bytes = png(300, 1)): Promise<AnyBody> {
      const { status, body } = await client.raw(bytes, { fields: { assetType, metadata: '{"album":"summer"}' } });
      assert.equal(status, 201, JSON.stringify(body));
      return body;
    }
    const used = async (client: Client) => {
      const { body } = await client.get('/v1/quota');
      return [body['used'], body['reserved'], body['fileCount']];
    };
    const numbers = async (client: Client, id: string) => {
      const { body } = await client.get(`/v1/assets/${id}/versions`);
      return (body.data as unknown as { number: number }[]).map(({ number }) => number);
    };
    async function withContent(client: Client, id: string, version: number): Promise<AnyBody> {
      const read = () => client.get(`/v1/assets/${id}`);
      await waitUntil(async () => (await read()).body['contentVersion'] === version);
      return (await read()).body;
    }
    const replaced = async (answer: Answer<AnyBody>, status = 200) => {
      assert.equal(answer.status, status, JSON.stringify(answer.body));
      return answer.body;
    };
    /** Jobs have removed what is not kept, and no promise is broken. */
    async function nothingIsLeft(): Promise<void> {
      await waitUntil(
        async () =>
          (await service.query("select from derivatives where state in ('making', 'discarded')")).length === 0,
      );
      const { report } = await service.service.reconcile({ dryRun: true });
      const { objects, bytes, foreignObjects, ...faults } = report;
      assert.equal(foreignObjects, 0);
      assert.deepEqual(
        Object.entries(faults).filter(([, count]) => count !== 0),
        [],
      );
      const [sum] = await service.query<{ objects: string }>(
        `select (select count(*) from assets) + (select count(*) from asset_versions)
          + (select count(*) from derivatives) as objects`,
      );
      assert.equal(objects, Number(sum?.objects), 'objects without a record, or records without one');
    }

    for (const [way, replace] of Object.entries(ways))
      test(`is replaced by ${way}: the id stays, the former bytes are a version`, async () => {
        const client = someone();
        const asset = await stored(client);
        const bytes = png(5000, 2);
        const answer = await replace(client, asset.id, bytes);
        assert.ok([200, 201].includes(answer.status), JSON.stringify(answer.body));
        const now = await withContent(client, asset.id, 2);
        assert.deepEqual(
          [now.size, now.sha256, now.state, now.metadata, now.createdAt],
          [5000, sha256(bytes), 'ready', { album: 'summer' }, asset.createdAt],
        );
        const content = await client.content(asset.id);
        assert.deepEqual(content.body, bytes);
        assert.notEqual(content.headers.get('etag'), `"${asset.sha256}"`);
        // Whoever keeps what this address shows asks again.
        assert.equal(content.headers.get('cache-control'), 'private, max-age=3600');
        const conditions = { 'if-modified-since': new Date(asset.createdAt).toUTCString(), 'if-none-match': '"x"' };
        assert.equal((await client.content(asset.id, conditions)).status, 200);
        assert.deepEqual(await used(client), [5300, 0, 1]);
        assert.deepEqual(await numbers(client, asset.id), [1]);
        const former = await fetch(`${service.url}/v1/assets/${asset.id}/versions/1/content`, {
          headers: client.headers,
        });
        assert.deepEqual(Buffer.from(await former.arrayBuffer()), png(300, 1));
        const history = await service.query<{ action: string }>(
          'select action from audit_events where asset_id = $1 order by id',
          [asset.id],
        );
        assert.deepEqual(
          history.map(({ action }) => action).filter((action) => action !== 'asset.downloaded'),
          ['asset.uploaded', 'asset.replaced'],
        );
        const { body: list } = await client.get('/v1/assets');
        assert.deepEqual([list.data.length, (await client.get('/v1/uploads')).body.data.length], [1, 0]);
      });

    test('comes back from a version without a change of the quota, under a new number', async () => {
      const client = someone();
      const { id } = await stored(client);
      for (const seed of [2, 3]) await replaced(await byPut(client, id, png(300 + seed, seed)));
      const before = await used(client);
      assert.deepEqual(before, [300 + 302 + 303, 0, 1]);
      const restored = await replaced(await client.request('POST', `/v1/assets/${id}/versions/1/restore`));
      assert.deepEqual([restored.sha256, restored['contentVersion']], [sha256(png(300, 1)), 4]);
      assert.deepEqual(await used(client), before);
      assert.deepEqual(await numbers(client, id), [3, 2]);
      assert.deepEqual((await client.content(id)).body, png(300, 1));
      assert.equal((await client.request('POST', `/v1/assets/${id}/versions/1/restore`)).status, 404);
      assert.equal((await client.request('DELETE', `/v1/assets/${id}/versions/3`)).status, 204);
      assert.deepEqual(await used(client), [602, 0, 1]);
      const page = await client.get(`/v1/assets/${id}/versions?limit=1`);
      assert.deepEqual(page.body.page, { hasMore: false });
    });

    test('keeps as many versions as its policy says, and none where that says nothing', async () => {
      const client = someone();
      const { id } = await stored(client);
      for (const seed of [2, 3, 4, 5]) await replaced(await byPut(client, id, png(300 + seed, seed)));
      assert.deepEqual(await numbers(client, id), [4, 3]);
      assert.deepEqual(await used(client), [303 + 304 + 305, 0, 1]);
      const first = await client.get(`/v1/assets/${id}/versions?limit=1`);
      const next = await client.get(`/v1/assets/${id}/versions?limit=1&cursor=${first.body.page.nextCursor}`);
      assert.deepEqual(
        [first, next].map(({ body }) => (body.data[0] as unknown as { number: number }).number),
        [4, 3],
      );
      const other = await stored(client, 'image');
      await replaced(await byPut(client, other.id, png(1000, 6)));
      assert.deepEqual(await numbers(client, other.id), []);
      assert.deepEqual(await used(client), [912 + 1000, 0, 2]);
      await nothingIsLeft();
    });

    test('is not replaced when If-Match names another record, before its bytes and after them', async () => {
      const client = someone();
      const { id } = await stored(client);
      const stale = { 'if-match': (await client.get(`/v1/assets/${id}`)).headers.get('etag') ?? '' };
      const { complete } = await begunDirectly(client, id, png(700, 9), stale);
      assert.equal((await client.send('PATCH', `/v1/assets/${id}`, { name: 'other.png' })).status, 200);
      for (const replace of Object.values(ways))
        assert.equal((await replace(client, id, png(700, 2), stale)).status, 412);
      // It began under the condition, and the record is another one now.
      const late = await complete();
      assert.deepEqual([late.status, late.body.type], [412, 'urn:stowage:problem:precondition-failed']);
      assert.deepEqual(await used(client), [300, 0, 1]);
      assert.deepEqual((await client.content(id)).body, png(300, 1));
      const tag = { 'if-match': (await client.get(`/v1/assets/${id}`)).headers.get('etag') ?? '' };
      await replaced(await byPut(client, id, png(700, 2), tag));
      assert.equal((await byPut(client, id, png(700, 2), tag)).status, 412);
      await nothingIsLeft();
    });

    test('may become another media type of its policy, and takes a name for it', async () => {
      const client = someone();
      const { id } = await stored(client);
      const wrong = await byPut(client, id, gif());
      assert.equal(wrong.body.type, 'urn:stowage:problem:extension-mismatch');
      const answer = await client.request('PUT', `/v1/assets/${id}/content?fileName=photo.gif`, { body: gif() });
      const { name, mediaType } = await replaced(answer);
      assert.deepEqual([name, mediaType], ['photo.gif', 'image/gif']);
      const text = Buffer.from('%PDF-1.4 is none of its types');
      const named = await client.request('PUT', `/v1/assets/${id}/content?fileName=a.pdf`, { body: text });
      assert.ok([415, 422].includes(named.status), JSON.stringify(named.body));
      assert.equal((await client.content(id)).headers.get('content-type'), 'image/gif');
      const restored = await replaced(await client.request('POST', `/v1/assets/${id}/versions/1/restore`));
      assert.equal(restored.name, 'photo.png');
    });

    test('is not replaced in the trash, after it, by who says what the asset is, or without room', async () => {
      const client = someone();
      const { id } = await stored(client);
      const said = await client.upload(png(400, 2), { fields: { replaces: id, metadata: '{"a":"b"}' } });
      assert.deepEqual([said.status, said.body.errors?.[0]?.parameter], [400, 'metadata']);
      const form = new FormData();
      form.append('file', new Blob([png(400, 2)]), 'photo.png');
      form.append('replaces', id);
      const late = await client.request('POST', '/v1/assets', { body: form });
      assert.deepEqual([late.status, late.body.errors?.[0]?.parameter], [400, 'replaces']);
      const { complete } = await begunDirectly(client, id, png(400, 3));
      assert.equal((await client.request('DELETE', `/v1/assets/${id}`)).status, 204);
      for (const replace of Object.values(ways)) assert.equal((await replace(client, id, png(400, 2))).status, 409);
      assert.equal((await complete()).status, 409);
      assert.equal((await client.request('POST', `/v1/assets/${id}/restore`)).status, 200);
      await service.query('update quotas set limit_bytes = 700 where owner_id = $1', [client.headers['x-user-id']]);
      for (const replace of Object.values(ways))
        assert.equal((await replace(client, id, png(401, 2))).body.type, 'urn:stowage:problem:quota-exceeded');
      await replaced(await byPut(client, id, png(400, 2)));
      const { complete: tooLate } = await begunDirectly(client, id, png(200, 3)).then((begun) => begun);
      assert.equal((await tooLate()).status, 403);
      assert.equal((await client.request('DELETE', `/v1/assets/${id}?permanent=true`)).status, 204);
      for (const replace of Object.values(ways)) assert.equal((await replace(client, id, png(200, 2))).status, 404);
      assert.deepEqual(await used(client), [0, 0, 0]);
      await waitUntil(async () => (await service.query("select from assets where state = 'deleting'")).length === 0);
      await nothingIsLeft();
    });

    test('that is deleted while its new bytes come takes versions along, and leaves nothing of those', async () => {
      const client = someone();
      const { id } = await stored(client);
      await replaced(await byPut(client, id, png(400, 2)));
      const { complete } = await begunDirectly(client, id, png(500, 3));
      assert.equal((await client.request('DELETE', `/v1/assets/${id}?permanent=true`)).status, 204);
      assert.equal((await complete()).status, 404);
      assert.deepEqual(await used(client), [0, 0, 0]);
      await waitUntil(async () => (await service.query("select from assets where state = 'deleting'")).length === 0);
      await nothingIsLeft();
    });

    /** While this runs, no upload gets through the steps of processing that it waits for. */
    async function withoutProcessing<Result>(work: () => Promise<Result>): Promise<Result> {
      const connection = await service.database.pool.connect();
      try {
        await connection.query('begin');
        // Whatever a step does in the end, it discards something, or claims a name for it.
        await connection.query('lock table derivatives in exclusive mode');
        return await work();
      } finally {
        await connection.query('commit');
        connection.release();
      }
    }
    async function encoded(client: Client): Promise<{ id: string; former: Buffer }> {
      const { id } = await stored(client, 'encoded', png(300, 1));
      await waitUntil(async () => (await client.get(`/v1/assets/${id}`)).body.state === 'ready');
      return { id, former: (await client.content(id)).body };
    }
    const noneIsOpen = (client: Client) =>
      waitUntil(async () => (await client.get('/v1/uploads')).body.data.length === 0);

    test('is served as it was until the new bytes are through what their policy makes necessary', async () => {
      const client = someone();
      const { id, former } = await encoded(client);
      await withoutProcessing(async () => {
        const answer = await replaced(await byPut(client, id, png(5000, 2)), 202);
        assert.deepEqual([answer['contentVersion'], answer.state, answer.size], [1, 'ready', former.length]);
        assert.deepEqual((await client.content(id)).body, former);
        assert.deepEqual(await used(client), [former.length, 5000, 1]);
      });
      const now = await withContent(client, id, 2);
      assert.deepEqual([now.processing?.reencode?.state, now.original?.size], ['done', 5000]);
      assert.equal(sha256((await client.content(id)).body), now.sha256);
      assert.deepEqual(await used(client), [former.length + now.size, 0, 1]);
      await nothingIsLeft();
    });

    test('of two that wait the later one stays', async () => {
      const client = someone();
      const { id } = await encoded(client);
      await withoutProcessing(async () => {
        for (const seed of [2, 3]) await replaced(await byPut(client, id, png(5000 + seed, seed)), 202);
      });
      await noneIsOpen(client);
      assert.equal((await client.get(`/v1/assets/${id}`)).body.original?.size, 5003);
      const { body: versions } = await client.get(`/v1/assets/${id}/versions`);
      const sum = (versions.data as unknown as { size: number }[]).reduce((total, { size }) => total + size, 0);
      const { size } = (await client.get(`/v1/assets/${id}`)).body;
      assert.deepEqual(await used(client), [sum + size, 0, 1]);
      await nothingIsLeft();
    });

    test('stays as it was when the new bytes are refused in the end, cancelled, or the asset is deleted', async () => {
      const client = someone();
      const { id } = await stored(client);
      // Its last chunk is missing, which is seen when it is read back.
      await byResumableUpload(client, id, png(5000, 2).subarray(0, -12));
      await noneIsOpen(client);
      assert.deepEqual((await client.content(id)).body, png(300, 1));
      const [refused] = await service.query<{ reason: string }>(
        "select detail ->> 'reason' as reason from audit_events where owner_id = $1 and action = 'upload.refused'",
        [client.headers['x-user-id']],
      );
      assert.match(refused?.reason ?? '', /damaged-file/);
      const other = await encoded(client);
      await withoutProcessing(async () => {
        await replaced(await byPut(client, other.id, png(5000, 2)), 202);
        const [open] = (await client.get('/v1/uploads')).body.data as unknown as { uploadId: string }[];
        assert.equal((await client.request('DELETE', `/v1/uploads/${open?.uploadId}`)).status, 204);
        await replaced(await byPut(client, other.id, png(5000, 3)), 202);
        assert.equal((await client.request('DELETE', `/v1/assets/${other.id}?permanent=true`)).status, 204);
      });
      await noneIsOpen(client);
      assert.deepEqual(await used(client), [300, 0, 1]);
      await waitUntil(async () => (await service.query("select from assets where state = 'deleting'")).length === 0);
      await nothingIsLeft();
    });

    test('keeps no version of what it still has when there is no room for the new bytes in the end', async () => {
      const client = someone();
      const owner = client.headers['x-user-id'];
      const { id, former } = await encoded(client);
      await withoutProcessing(async () => {
        await replaced(await byPut(client, id, png(5000, 2)), 202);
        // As if the asset had come to an account that has no room for more than was reserved.
        await service.query('update assets set reserved_bytes = 1 where owner_id = $1 and id <> $2', [owner, id]);
        await service.query('update quotas set limit_bytes = 0, reserved_bytes = 1 where owner_id = $1', [owner]);
      });
      await noneIsOpen(client);
      assert.deepEqual((await client.get(`/v1/assets/${id}/versions`)).body.data, []);
      assert.equal((await client.get(`/v1/assets/${id}`)).body['contentVersion'], 1);
      assert.deepEqual((await client.content(id)).body, former);
      assert.deepEqual(await used(client), [former.length, 0, 1]);
      await nothingIsLeft();
    });

    test('an Idempotency-Key replaces once, and tells the same again', async () => {
      const client = someone();
      const { id } = await stored(client);
      const other = await stored(client);
      const key = { 'idempotency-key': randomUUID() };
      const first = await byPut(client, id, png(400, 2), key);
      const again = await byPut(client, id, png(400, 2), key);
      assert.deepEqual([first.status, again.status, again.body], [200, 200, first.body]);
      assert.equal(again.headers.get('idempotency-replayed'), 'true');
      assert.equal((await client.get(`/v1/assets/${id}`)).body['contentVersion'], 2);
      assert.equal((await byPut(client, other.id, png(400, 2), key)).status, 422);
      assert.equal((await byPut(client, id, png(400, 3), key)).status, 422);
      const { begun, complete } = await begunDirectly(client, id, png(500, 4));
      assert.deepEqual((await complete()).body, (await complete()).body);
      const told = await client.get(`/v1/uploads/${begun.body['uploadId']}`);
      assert.deepEqual([told.body['state'], told.body['uploadId']], ['complete', id]);
      assert.equal((await someone().get(`/v1/uploads/${begun.body['uploadId']}`)).status, 404);
    });

    test('goes on to whoever reads the former bytes, and its links lead to the new ones', async () => {
      const client = someone();
      const former = png(90_000, 1);
      const { id } = await stored(client, 'image', former);
      const response = await fetch(`${service.url}/v1/assets/${id}/content`, { headers: client.headers });
      const reader = response.body?.getReader();
      assert.ok(reader);
      const chunks = [(await reader.read()).value ?? new Uint8Array()];
      const { body: link } = await client.get(`/v1/assets/${id}/download`);
      await replaced(await byPut(client, id, png(80_000, 2)));
      for (let next = await reader.read(); !next.done; next = await reader.read()) chunks.push(next.value);
      assert.deepEqual(Buffer.concat(chunks), former);
      const { body: newLink } = await client.get(`/v1/assets/${id}/download`);
      assert.notEqual(newLink['url'], link['url']);
      const followed = await fetch(String(newLink['url']));
      assert.deepEqual(Buffer.from(await followed.arrayBuffer()), png(80_000, 2));
      await nothingIsLeft();
    });

    test('moves with its versions to who pays for it there, or does not move', async () => {
      const client = someone();
      const { id } = await stored(client);
      await replaced(await byPut(client, id, png(400, 2)));
      const projectId = `p-${randomUUID()}`;
      assert.equal((await client.send('POST', '/v1/projects', { id: projectId, name: 'P' })).status, 201);
      await service.query('insert into quotas (owner_id, limit_bytes) values ($1, 699)', [`project:${projectId}`]);
      const { complete } = await begunDirectly(client, id, png(200, 3));
      const move = () => client.send('PATCH', `/v1/assets/${id}`, { projectId });
      assert.equal((await move()).status, 403);
      await service.query('update quotas set limit_bytes = 900 where owner_id = $1', [`project:${projectId}`]);
      assert.equal((await move()).status, 200);
      assert.deepEqual(await used(client), [0, 200, 0]);
      // What began at the former place is paid for where the asset is.
      await replaced(await complete(), 201);
      assert.deepEqual(await used(client), [0, 0, 0]);
      const of = 'select used_bytes, reserved_bytes, file_count from quotas where owner_id = $1';
      assert.deepEqual(await service.query(of, [`project:${projectId}`]), [
        { used_bytes: '900', reserved_bytes: '0', file_count: '1' },
      ]);
      await nothingIsLeft();
    });

    test('twenty at once: each is a version or gone, in order, and the quota is exact', async () => {
      const client = someone();
      const { id } = await stored(client);
      const sizes = Array.from({ length: 20 }, (_, index) => 1000 + index);
      const answers = await Promise.all(
        sizes.map((size, index) => (index % 2 === 0 ? byPut : byDirectUpload)(client, id, png(size, size))),
      );
      for (const { status, body } of answers) assert.ok([200, 201].includes(status), JSON.stringify(body));
      const told = answers.map(({ body }) => body['contentVersion']);
      assert.deepEqual(
        told.toSorted((a, b) => Number(a) - Number(b)),
        sizes.map((_, index) => index + 2),
      );
      const { body: now } = await client.get(`/v1/assets/${id}`);
      const last = answers.find(({ body }) => body['contentVersion'] === 21);
      assert.deepEqual([now.sha256, now.size], [last?.body.sha256, last?.body.size]);
      assert.equal(sha256((await client.content(id)).body), now.sha256);
      const { body: versions } = await client.get(`/v1/assets/${id}/versions`);
      const kept = versions.data as unknown as { number: number; size: number; sha256: string }[];
      for (const { number, sha256: digest } of kept)
        assert.equal(digest, answers.find(({ body }) => body['contentVersion'] === number)?.body.sha256);
      assert.deepEqual(
        kept.map(({ number }) => number),
        [20, 19],
      );
      assert.deepEqual(await used(client), [kept.reduce((sum, { size }) => sum + size, now.size), 0, 1]);
      await nothingIsLeft();
    });

    test('twenty at once under one If-Match: one of them', async () => {
      const client = someone();
      const { id } = await stored(client);
      const tag = { 'if-match': (await client.get(`/v1/assets/${id}`)).headers.get('etag') ?? '' };
      const answers = await Promise.all(
        Array.from({ length: 20 }, (_, index) => byPut(client, id, png(1000 + index, index), tag)),
      );
      assert.deepEqual(answers.map(({ status }) => status).toSorted(), [200, ...Array.from({ length: 19 }, () => 412)]);
      assert.equal((await client.get(`/v1/assets/${id}`)).body['contentVersion'], 2);
      await nothingIsLeft();
    });
  });
