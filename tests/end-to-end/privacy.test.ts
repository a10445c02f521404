/**
 * What files tell beside what they show, sent in every way, and sought in everything that can be fetched or lies in the
 * store. On both object stores.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { type AnyBody, Client } from '../support/client.ts';
import { fixture } from '../support/corpus.ts';
import { markersIn, type PrivateFile, privateFiles } from '../support/private-files.ts';
import { startService, storeKinds, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const films = { mediaTypes: ['video/mp4', 'video/quicktime'], maxBytes: 10_000_000, metadata: 'strip' };
const keeping = { mediaTypes: ['image/jpeg'], maxBytes: 10_000_000, metadata: 'keep' };
const assetTypeOf = ({ mediaType }: PrivateFile) => (mediaType.startsWith('video/') ? 'film' : 'image');
const TUS = { 'tus-resumable': '1.0.0' };
const base64 = (text: string) => Buffer.from(text).toString('base64');

/** Sends a file. @returns the id of the asset, or a refusal */
type Send = (client: Client, file: PrivateFile, assetType: string) => Promise<string | AnyBody>;

const idOf = ({ body }: { body: AnyBody }) => body.id ?? body;
const ways: Record<string, Send> = {
  'a raw body': async (client, { bytes, fileName }, assetType) =>
    idOf(await client.raw(bytes, { name: fileName, fields: { assetType } })),
  'a form': async (client, { bytes, fileName }, assetType) =>
    idOf(await client.upload(bytes, { name: fileName, fields: { assetType } })),
  'a form that names its type behind the file': async (client, { bytes, fileName }, assetType) => {
    const form = new FormData();
    form.append('file', new Blob([bytes]), fileName);
    form.append('assetType', assetType);
    return idOf(await client.request('POST', '/v1/assets', { body: form }));
  },
  'a batch': async (client, { bytes, fileName }, assetType) => {
    const form = new FormData();
    form.append('files', new Blob([bytes]), fileName);
    form.append('assetType', assetType);
    const { body } = await client.request('POST', '/v1/assets/batch', { body: form });
    const [result] = body['results'] as { asset?: { id: string }; problem?: AnyBody }[];
    return result?.asset?.id ?? result?.problem ?? body;
  },
  'links to the store': async (client, { bytes, fileName, mediaType }, assetType) => {
    const fields = { fileName, size: bytes.length, contentType: mediaType, assetType };
    const { body } = await client.send('POST', '/v1/uploads', fields);
    const session = body as unknown as { uploadId: string; parts: { url: string; headers: Record<string, string> }[] };
    for (const { url, headers } of session.parts ?? [])
      assert.ok((await fetch(url, { method: 'PUT', headers, body: bytes })).ok);
    return idOf(await client.request('POST', `/v1/uploads/${session.uploadId}/complete`));
  },
  tus: async (client, file, assetType) => {
    const { bytes, fileName } = file;
    const created = await client.request('POST', '/v1/resumable', {
      headers: {
        ...TUS,
        'upload-length': String(bytes.length),
        'upload-metadata': `filename ${base64(fileName)},assetType ${base64(assetType)}`,
      },
    });
    const path = created.headers.get('location') ?? '';
    let answer = created;
    for (const [offset, end] of [
      [0, 100],
      [100, bytes.length],
    ])
      answer = await client.request('PATCH', path, {
        headers: { ...TUS, 'content-type': 'application/offset+octet-stream', 'upload-offset': String(offset) },
        body: bytes.subarray(offset, end),
      });
    assert.equal(
      answer.status === 204 ? answer.headers.get('upload-offset') : '-',
      answer.status === 204 ? String(bytes.length) : '-',
    );
    return answer.headers.get('asset-id') ?? answer.body;
  },
};

for (const { store, skip } of storeKinds) {
  describe(`metadata of files, on ${store}`, { skip }, () => {
    let service: TestService;
    let client: Client;
    before(async () => {
      service = await startService({
        store,
        env: { REQUESTS_PER_MINUTE: '0', UPLOADS_PER_HOUR: '0', PART_SIZE: '5MiB' },
        policies: { film: films, kept: keeping },
      });
      client = new Client(service.url);
    });
    after(() => service.close());

    /** The record when nothing is done to the file any more. */
    async function settled(who: Client, id: string): Promise<AnyBody> {
      const asset = await waitUntil(async () => {
        const { body } = await who.get(`/v1/assets/${id}`);
        return body.state === 'processing' ? undefined : body;
      });
      assert.ok(asset);
      return asset;
    }
    async function everythingIn(): Promise<{ key: string; bytes: Buffer }[]> {
      const found: { key: string; bytes: Buffer }[] = [];
      for await (const page of service.store.list('', {}))
        for (const { key } of page) {
          const object = await service.store.get(key, {});
          if (object) found.push({ key, bytes: Buffer.concat(await object.stream.toArray()) });
        }
      return found;
    }

    /** What was sent so far. */
    const stored: string[] = [];
    for (const [index, [way, send]] of Object.entries(ways).entries())
      test(`sent by ${way} can be fetched from nowhere`, async () => {
        // What happens to the bytes is the same on both stores; on the slower one each way takes some of the files.
        const files = (await privateFiles()).filter((_, at) => store === 'disk' || at % 3 === index % 3);
        const sent = await Promise.all(
          files.map(async (file) => ({ file, id: await send(client, file, assetTypeOf(file)) })),
        );
        for (const { file, id } of sent) {
          assert.equal(typeof id, 'string', `${file.title}: ${JSON.stringify(id)}`);
          const asset = await settled(client, String(id));
          assert.equal(asset.state, 'ready', `${file.title}: ${JSON.stringify(asset)}`);
          const content = await client.content(String(id));
          assert.deepEqual(markersIn(content.body), [], file.title);
          assert.equal(content.body.length, asset.size);
          assert.equal(sha256(content.body), asset.sha256);
          assert.equal(content.headers.get('content-type'), file.mediaType);
          assert.deepEqual(asset.original, { size: file.bytes.length, sha256: sha256(file.bytes) });
          const digest = Buffer.from(asset.sha256 ?? '', 'hex').toString('base64');
          assert.equal(content.headers.get('repr-digest'), `sha-256=:${digest}:`);
          const range = await client.content(String(id), { range: `bytes=0-${file.bytes.length}` });
          assert.ok(range.body.equals(content.body));
          const link = await client.get(`/v1/assets/${id}/download`);
          const linked = Buffer.from(await (await fetch(String(link.body['url']))).arrayBuffer());
          assert.ok(linked.equals(content.body));
        }
        stored.push(...sent.map(({ id }) => String(id)));
      });

    test('is not in the store, and each file is there once', async () => {
      await waitUntil(async () => (await everythingIn()).length === stored.length);
      const objects = await everythingIn();
      for (const { key, bytes } of objects) assert.deepEqual(markersIn(bytes), [], key);
      const ids = objects.map(({ key }) => /assets\/([^/]+)\//.exec(key)?.[1]);
      assert.equal(ids.length, stored.length);
      assert.deepEqual(new Set(ids), new Set(stored));
    });

    test('counts toward the quota no more, when it is gone', async () => {
      const { body } = await client.get('/v1/quota');
      const [row] = await service.query<{ sum: string }>('select sum(size)::text from assets where owner_id = $1', [
        'alice',
      ]);
      await waitUntil(async () => (await client.get('/v1/quota')).body['used'] === Number(row?.sum));
      assert.equal(body['reserved'], 0);
    });

    test('is kept where the policy says so', async () => {
      const file = (await privateFiles()).find(({ mediaType }) => mediaType === 'image/jpeg');
      assert.ok(file);
      const keeper = new Client(service.url, 'keeper');
      for (const [way, send] of Object.entries(ways)) {
        const id: string = String(await send(keeper, file, 'kept'));
        const asset = await settled(keeper, id);
        assert.equal(asset.original, undefined, way);
        assert.ok((await keeper.content(id)).body.equals(file.bytes), way);
        assert.equal((await keeper.request('DELETE', `/v1/assets/${id}?permanent=true`)).status, 204);
      }
    });

    test('that is not there leaves a file as it came, byte for byte', async () => {
      for (const [way, send] of Object.entries(ways)) {
        const file = { ...{ title: '', fileName: 'a.jpg', mediaType: 'image/jpeg' }, bytes: fixture('photo.jpg') };
        const asset = await settled(client, String(await send(client, file, 'image')));
        assert.equal(asset.sha256 ?? sha256(file.bytes), sha256(file.bytes), way);
        assert.equal(asset.original, undefined, way);
        assert.ok((await client.content(asset.id)).body.equals(file.bytes), way);
      }
    });

    test('a digest and an Idempotency-Key are those of what was sent', async () => {
      const [file] = await privateFiles();
      assert.ok(file);
      const headers = { 'idempotency-key': `key-${store}` };
      const wrong = await client.raw(file.bytes, { name: 'a.jpg', fields: { sha256: sha256(Buffer.alloc(1)) } });
      assert.equal(wrong.status, 422);
      assert.match(wrong.body.type, /digest-mismatch$/);
      const options = { name: 'a.jpg', fields: { sha256: sha256(file.bytes) }, headers };
      const first = await client.raw(file.bytes, options);
      assert.equal(first.status, 201);
      assert.equal(first.body.original?.sha256, sha256(file.bytes));
      const again = await client.raw(file.bytes, options);
      assert.deepEqual([again.status, again.body.id], [201, first.body.id]);
      const batch = { name: 'b.jpg', headers: { 'idempotency-key': `other-${store}` } };
      assert.equal((await client.upload(file.bytes, batch)).status, 201);
      assert.equal((await client.upload(Buffer.concat([file.bytes, Buffer.alloc(1)]), batch)).status, 422);
    });

    test('nothing of a file is served while a job takes it out, and the file is not there twice afterwards', async () => {
      const file = (await privateFiles()).find(({ mediaType }) => mediaType === 'image/jpeg');
      assert.ok(file);
      const id = String(await ways['links to the store']?.(client, file, 'image'));
      for (;;) {
        const content = await client.content(id);
        const link = await client.get(`/v1/assets/${id}/download`);
        if (content.status === 200) {
          assert.deepEqual(markersIn(content.body), []);
          break;
        }
        assert.equal(content.status, 409);
        if (link.status !== 200) assert.equal(link.status, 409);
      }
      await waitUntil(async () => {
        const objects = (await everythingIn()).filter(({ key }) => key.includes(id));
        return objects.length === 1;
      });
    });

    test('that cannot be taken out is refused in every way, and nothing of the file is stored', async () => {
      const bytes = unstrippable();
      const file = { title: '', fileName: 'a.png', mediaType: 'image/png', bytes };
      const hopeful = new Client(service.url, `hopeful`);
      for (const [way, send] of Object.entries(ways)) {
        const answer = await send(hopeful, file, 'image');
        if (typeof answer === 'string') {
          const body = await settled(hopeful, answer);
          assert.deepEqual([body.state, body['reason']], ['rejected', 'metadata-not-removable'], way);
          assert.equal((await hopeful.content(answer)).status, 409);
          continue;
        }
        assert.equal(answer.status, 422, `${way}: ${JSON.stringify(answer)}`);
        assert.match(answer.type, /metadata-not-removable$/);
      }
      assert.equal((await hopeful.get('/v1/quota')).body['used'], 0);
    });
  });
}

/** A PNG with a chunk that nobody knows, and without which it may not be shown. */
function unstrippable(): Buffer<ArrayBuffer> {
  const bytes = fixture('animation.png');
  const at = bytes.indexOf('IDAT') - 4;
  return Buffer.concat([bytes.subarray(0, at), Buffer.from('\0\0\0\0HIDD\0\0\0\0', 'latin1'), bytes.subarray(at)]);
}
