/** `Prefer: wait` (RFC 7240) on uploads whose file has to be processed before it is served. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import sharp from 'sharp';
import { type ObjectStore, ObjectStoreUnavailable } from '../../src/storage/object-store.ts';
import { preferredWait } from '../../src/uploads/routes/prefer-wait.ts';
import { Client } from '../support/client.ts';
import { startService, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

/** It tells something that has to be taken out first. */
const photo = await sharp(readFileSync(new URL('../fixtures/photo.jpg', import.meta.url)))
  .withExif({ IFD0: { Copyright: 'somebody' } })
  .jpeg()
  .toBuffer();

describe('an upload that prefers to wait', () => {
  let service: TestService;
  /** While set, no job gets at the bytes. */
  let stuck = false;
  before(async () => {
    const wrapStore = (inner: ObjectStore): ObjectStore =>
      new Proxy(inner, {
        get: (target, name) => {
          const value = Reflect.get(target, name);
          if (name === 'get' && stuck)
            return (key: string, options: { range?: object }) =>
              options.range ? inner.get(key, options as object) : Promise.reject(new ObjectStoreUnavailable('stuck'));
          return typeof value === 'function' ? value.bind(target) : value;
        },
      });
    service = await startService({ wrapStore, env: { REQUESTS_PER_MINUTE: '0', UPLOADS_PER_HOUR: '0' } });
  });
  after(() => service.close());

  /** By parts, so that a job has to strip it. */
  async function begun(client: Client): Promise<string> {
    const fields = { fileName: 'photo.jpg', size: photo.length, contentType: 'image/jpeg' };
    const { body } = await client.send('POST', '/v1/uploads', fields);
    for (const { url } of body['parts'] as { url: string }[])
      assert.ok((await fetch(url, { method: 'PUT', body: new Uint8Array(photo) })).ok);
    return `/v1/uploads/${body['uploadId']}/complete`;
  }

  test('is answered when its file is ready, with the record as it is then', async () => {
    const client = new Client(service.url);
    const path = await begun(client);
    const answer = await client.request('POST', path, { headers: { prefer: 'respond-async, wait=60' } });
    assert.deepEqual([answer.status, answer.body.state], [201, 'ready']);
    assert.equal(answer.headers.get('preference-applied'), 'wait=60');
    const now = await client.get(`/v1/assets/${answer.body.id}`);
    assert.equal(answer.headers.get('etag'), now.headers.get('etag'));
  });

  test('is answered in the end all the same, and without the preference at once', async () => {
    const client = new Client(service.url);
    stuck = true;
    try {
      const waited = await client.request('POST', await begun(client), { headers: { prefer: 'wait=1' } });
      assert.deepEqual([waited.status, waited.body.state], [201, 'processing']);
      assert.equal(waited.headers.get('preference-applied'), 'wait=1');
      const atOnce = await client.request('POST', await begun(client));
      assert.deepEqual([atOnce.body.state, atOnce.headers.get('preference-applied')], ['processing', null]);
      stuck = false;
      for (const { body } of [waited, atOnce])
        await waitUntil(async () => (await client.get(`/v1/assets/${body.id}`)).body.state === 'ready');
    } finally {
      stuck = false;
    }
  });

  test('a resumable upload waits with its last bytes', async () => {
    const client = new Client(service.url);
    const tus = { 'tus-resumable': '1.0.0' };
    const metadata = `filename ${Buffer.from('photo.jpg').toString('base64')}`;
    const headers = { ...tus, 'upload-length': String(photo.length), 'upload-metadata': metadata };
    const created = await client.request('POST', '/v1/resumable', { headers });
    const path = new URL(created.headers.get('location') ?? '', service.url).pathname;
    const patch = {
      ...tus,
      'upload-offset': '0',
      'content-type': 'application/offset+octet-stream',
      prefer: 'wait=60',
    };
    const answer = await client.request('PATCH', path, { headers: patch, body: new Uint8Array(photo) });
    assert.equal(answer.status, 204);
    const { body } = await client.get(`/v1/assets/${answer.headers.get('asset-id')}`);
    assert.equal(body.state, 'ready');
  });

  test('the field is read as RFC 7240 has it', () => {
    for (const [field, seconds] of [
      ['wait=10', 10],
      ['respond-async, wait=7; foo=1', 7],
      ['wait = "5"', 5],
      ['WAIT=100000', 60],
      ['wait=1, wait=2', 1],
      ['wait', undefined],
      ['wait=-1', undefined],
      ['await=3', undefined],
      ['', undefined],
    ] as const)
      assert.equal(preferredWait(field), seconds, field);
  });
});
