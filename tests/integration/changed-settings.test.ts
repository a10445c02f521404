/** Uploads that go on under other settings than those they began with: what was agreed on then still holds. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Client } from '../support/client.ts';
import { glb } from '../support/files.ts';
import { startService, storeKinds, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

const MiB = 1024 * 1024;
const TUS = { 'tus-resumable': '1.0.0' };
const base64 = (text: string) => Buffer.from(text).toString('base64');
const environment = { REQUESTS_PER_MINUTE: '0', UPLOADS_PER_HOUR: '0', DEFAULT_QUOTA: '10GiB', UPLOAD_MEMORY: '64MiB' };
const small = (maxBytes: number) => ({ model: { mediaTypes: ['model/gltf-binary'], maxBytes } });

/** Settings before and after, and what else is changed. */
const changes: [string, Record<string, string>, Record<string, string>, { policies?: object }?][] = [
  ['parts become smaller', { PART_SIZE: '8MiB' }, { PART_SIZE: '5MiB' }],
  ['parts become larger', { PART_SIZE: '5MiB' }, { PART_SIZE: '8MiB' }],
  ['memory becomes scarce', { PART_SIZE: '8MiB' }, { PART_SIZE: '5MiB', UPLOAD_MEMORY: '8MiB', PARTS_IN_FLIGHT: '1' }],
  ['the lease becomes shorter', { UPLOAD_LEASE: '2m' }, { UPLOAD_LEASE: '2s' }],
  ['resumable uploads are kept for less long', { RESUMABLE_EXPIRY: '24h' }, { RESUMABLE_EXPIRY: '1m' }],
  ['keys get another prefix', { S3_KEY_PREFIX: 'a/' }, { S3_KEY_PREFIX: 'b/' }],
  ['files may be less large', {}, { MAX_FILE_SIZE: '10MiB' }],
  ['the policy allows less', {}, {}, { policies: small(10 * MiB) }],
  ['the policy goes', {}, {}, { policies: { model: null } }],
  ['the policy gets another name', {}, {}, { policies: { model: null, scene: small(10 * MiB).model } }],
  ['quotas become smaller', {}, { DEFAULT_QUOTA: '1MiB' }],
];

for (const { store, skip } of storeKinds) {
  describe(`uploads under way, on ${store}`, { skip }, () => {
    let place: TestService;
    before(async () => {
      place = await startService({ store, env: environment });
    });
    after(() => place.close());

    async function under(env: Record<string, string>, more: { policies?: object } = {}) {
      const service = await startService({ store, env: { ...environment, ...env }, beside: place, ...more });
      return { service, client: new Client(service.url) };
    }
    async function ready(client: Client, id: string, bytes: Buffer): Promise<void> {
      await waitUntil(async () => (await client.get(`/v1/assets/${id}`)).body.state === 'ready');
      assert.ok((await client.content(id)).body.equals(bytes));
    }

    // What the store knows of are parts.
    for (const [title, earlier, later, more] of store === 's3' ? changes.slice(0, 3) : changes) {
      test(`go on when ${title}`, async () => {
        const bytes = glb(17 * MiB, 1);
        const before = await under(earlier);
        const uploads: Record<string, { path: string; offset: number; expires: string }> = {};
        const patch = (client: Client, path: string, offset: number, end: number, headers = {}) =>
          client.request('PATCH', path, {
            headers: {
              ...TUS,
              'content-type': 'application/offset+octet-stream',
              'upload-offset': String(offset),
              ...headers,
            },
            body: bytes.subarray(offset, end),
          });
        const begin = async (headers: Record<string, string>, fields: string, offset: number) => {
          const created = await before.client.request('POST', '/v1/resumable', {
            headers: { ...TUS, ...headers, 'upload-metadata': `filename ${base64('m.glb')}${fields}` },
          });
          assert.equal(created.status, 201, JSON.stringify(created.body));
          const path = created.headers.get('location') ?? '';
          const { status, headers: answer } = await patch(before.client, path, 0, offset);
          assert.equal(status, 204);
          return { path, offset, expires: answer.get('upload-expires') ?? '' };
        };
        const length = { 'upload-length': String(bytes.length) };
        uploads['with parts and a tail'] = await begin(length, '', 9 * MiB);
        uploads['with a tail'] = await begin(length, `,filetype ${base64('model/gltf-binary')}`, MiB);
        uploads['of a named policy'] = await begin(length, `,assetType ${base64('model')}`, 100);
        if (later['DEFAULT_QUOTA'] === undefined)
          uploads['without a length'] = await begin({ 'upload-defer-length': '1' }, '', 9 * MiB);
        const created = await before.client.send('POST', '/v1/uploads', {
          ...{ fileName: 'm.glb', size: bytes.length, contentType: 'model/gltf-binary' },
        });
        assert.equal(created.status, 201);
        const direct = created.body as unknown as { uploadId: string; partSize: number; partCount: number };
        const putPart = async (client: Client, partNumber: number) => {
          const { body } = await client.send('POST', `/v1/uploads/${direct.uploadId}/parts`, {
            partNumbers: [partNumber],
          });
          const [link] = body['parts'] as { url: string; size: number }[];
          const start = (partNumber - 1) * direct.partSize;
          assert.ok(link);
          const { status } = await fetch(link.url, { method: 'PUT', body: bytes.subarray(start, start + link.size) });
          assert.ok(status < 300, `part ${partNumber}: ${status}`);
        };
        await putPart(before.client, 1);
        await before.service.close();

        const { service, client } = await under(later, more);
        for (const [name, { path, offset, expires }] of Object.entries(uploads)) {
          const middle = offset + 3 * MiB;
          const some = await patch(client, path, offset, middle);
          assert.equal(some.status, 204, `${name}: ${JSON.stringify(some.body)}`);
          assert.ok(
            Date.parse(some.headers.get('upload-expires') ?? '') >= Date.parse(expires),
            `${name} expires earlier`,
          );
          const { status, body } = await patch(client, path, middle, bytes.length, length);
          assert.equal(status, 204, `${name}: ${JSON.stringify(body)}`);
          await ready(client, path.split('/').at(-1) ?? '', bytes);
        }
        for (let partNumber = 2; partNumber <= direct.partCount; partNumber++) await putPart(client, partNumber);
        const { status, body } = await client.request('POST', `/v1/uploads/${direct.uploadId}/complete`);
        assert.equal(status, 201, JSON.stringify(body));
        await ready(client, direct.uploadId, bytes);
        await service.close();
      });
    }
  });
}
