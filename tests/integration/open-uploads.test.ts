/** `GET /v1/uploads`: what an owner has begun and not finished, and how each is ended. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { request } from 'node:http';
import { after, before, beforeEach, describe, test } from 'node:test';
import { type AnyBody, Client } from '../support/client.ts';
import { glb, png } from '../support/files.ts';
import { startService, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

const MiB = 1024 * 1024;
const TUS = { 'tus-resumable': '1.0.0' };

interface Listed {
  uploadId: string;
  kind: string;
  name: string;
  projectId?: string;
  size?: number;
  offset?: number;
  reservedBytes: number;
  createdAt: string;
  expiresAt: string;
}
const listedIn = (body: AnyBody) => body.data as unknown as Listed[];

describe('uploads that are not finished', () => {
  let service: TestService;
  let client: Client;
  let project: string;
  before(async () => {
    service = await startService({
      env: {
        PART_SIZE: '5MiB',
        REQUESTS_PER_MINUTE: '0',
        UPLOADS_PER_HOUR: '0',
        DEFAULT_QUOTA: '100MiB',
        MIN_UPLOAD_RATE: '0',
      },
    });
  });
  after(() => service.close());
  beforeEach(() => {
    client = new Client(service.url, `owner-${randomUUID()}`);
    project = `project-${randomUUID()}`;
  });

  const list = async (where = client, query = '') => {
    const { status, body, headers } = await where.get(`/v1/uploads${query}`);
    assert.equal(status, 200, JSON.stringify(body));
    return { uploads: listedIn(body), page: body.page, link: headers.get('link') };
  };
  async function resumable(size: number | undefined, name = 'm.glb'): Promise<string> {
    const { status, headers } = await client.request('POST', '/v1/resumable', {
      headers: {
        ...TUS,
        ...(size === undefined ? { 'upload-defer-length': '1' } : { 'upload-length': String(size) }),
        'upload-metadata': `filename ${Buffer.from(name).toString('base64')}`,
      },
    });
    assert.equal(status, 201);
    return headers.get('location')?.split('/').at(-1) ?? '';
  }
  const patch = (id: string, offset: number, body: Buffer<ArrayBuffer>) =>
    client.request('PATCH', `/v1/resumable/${id}`, {
      headers: { ...TUS, 'content-type': 'application/offset+octet-stream', 'upload-offset': String(offset) },
      body,
    });
  async function direct(size: number): Promise<string> {
    const { status, body } = await client.send('POST', '/v1/uploads', {
      ...{ fileName: 'd.glb', size, contentType: 'model/gltf-binary', projectId: project },
    });
    assert.equal(status, 201);
    return String(body['uploadId']);
  }
  /** A raw body of which the last byte does not come. */
  async function raw(size: number) {
    const asked = request(`${service.url}/v1/assets/raw/r.glb`, {
      method: 'PUT',
      headers: { ...client.headers, 'content-length': size },
    });
    const ended = new Promise<number>((resolve) => {
      asked.on('response', (response) => resolve(response.statusCode ?? 0));
      asked.on('error', () => resolve(0));
    });
    asked.write(glb(size, 1).subarray(0, size - 1));
    const upload = await waitUntil(async () => (await list()).uploads.find(({ kind }) => kind === 'single'));
    return { id: upload?.uploadId ?? '', ended, destroy: () => asked.destroy() };
  }
  async function nothingHeld(): Promise<void> {
    await waitUntil(async () => {
      const { body } = await client.get('/v1/quota');
      return body['reserved'] === 0 && body['used'] === 0;
    });
    assert.deepEqual((await list()).uploads, []);
  }

  test('are listed, of all kinds, the latest first, with progress, expiry and what they hold', async () => {
    assert.deepEqual((await list()).uploads, []);
    const first = await direct(7 * MiB);
    const second = await resumable(12 * MiB, 'ä b.glb');
    assert.equal((await patch(second, 0, glb(12 * MiB, 1).subarray(0, 6 * MiB))).status, 204);
    const third = await resumable(undefined);
    const fourth = await raw(6 * MiB);
    const { uploads, page } = await list();
    assert.deepEqual(page, { hasMore: false });
    assert.deepEqual(
      uploads.map(({ createdAt, expiresAt, ...rest }) => {
        assert.ok(Date.parse(expiresAt) > Date.parse(createdAt));
        return rest;
      }),
      [
        { uploadId: fourth.id, kind: 'single', name: 'r.glb', reservedBytes: 6 * MiB },
        { uploadId: third, kind: 'resumable', name: 'm.glb', offset: 0, reservedBytes: 0 },
        {
          ...{ uploadId: second, kind: 'resumable', name: 'ä b.glb' },
          ...{ size: 12 * MiB, offset: 6 * MiB, reservedBytes: 12 * MiB },
        },
        { uploadId: first, kind: 'direct', name: 'd.glb', projectId: project, size: 7 * MiB, reservedBytes: 7 * MiB },
      ],
    );
    const { body } = await client.get('/v1/quota');
    assert.equal(
      uploads.reduce((sum, { reservedBytes }) => sum + reservedBytes, 0),
      body['reserved'],
    );
    fourth.destroy();
  });

  test('are cancelled one by one, whatever their kind, and nothing is left', async () => {
    const single = await raw(6 * MiB);
    const ids = [await direct(7 * MiB), await resumable(12 * MiB), single.id];
    for (const id of ids) {
      assert.equal((await client.request('DELETE', `/v1/uploads/${id}`)).status, 204);
      assert.equal((await client.request('DELETE', `/v1/uploads/${id}`)).status, 404);
    }
    single.destroy();
    await single.ended;
    await nothingHeld();
    for (const id of ids) {
      const rows = await service.query("select 1 from audit_events where asset_id = $1 and action = 'upload.aborted'", [
        id,
      ]);
      assert.equal(rows.length, 1);
    }
  });

  test('come page by page', async () => {
    const ids: string[] = [];
    for (let index = 0; index < 5; index++) ids.unshift(await resumable(1000));
    const found: string[] = [];
    let next = '?limit=2';
    for (;;) {
      const { uploads, page, link } = await list(client, next);
      found.push(...uploads.map(({ uploadId }) => uploadId));
      assert.equal(page.hasMore, link !== null);
      if (!page.hasMore) break;
      assert.equal(uploads.length, 2);
      assert.ok(link?.includes(encodeURIComponent(page.nextCursor ?? '')));
      next = `?limit=2&cursor=${encodeURIComponent(page.nextCursor ?? '')}`;
    }
    assert.deepEqual(found, ids);
    for (const query of ['limit=0', 'limit=201', 'limit=x', 'cursor=x', 'other=1'])
      assert.equal((await client.get(`/v1/uploads?${query}`)).status, 400, query);
  });

  test('are nobody else’s to see or to end', async () => {
    const id = await resumable(1000);
    const stranger = new Client(service.url, 'stranger');
    assert.deepEqual((await list(stranger)).uploads, []);
    assert.equal((await stranger.request('DELETE', `/v1/uploads/${id}`)).status, 404);
    assert.equal((await stranger.request('DELETE', `/v1/uploads/${randomUUID()}`)).status, 404);
    assert.equal((await list()).uploads.length, 1);
  });

  test('are not listed any more when they are assets, and cannot be cancelled then', async () => {
    const bytes = png(3000, 2);
    const id = await resumable(bytes.length, 'p.png');
    assert.equal((await patch(id, 0, bytes)).status, 204);
    const { body: stored } = await client.raw(bytes);
    assert.deepEqual((await list()).uploads, []);
    for (const each of [id, stored.id]) {
      const { status, body } = await client.request('DELETE', `/v1/uploads/${each}`);
      assert.equal(status, 409);
      assert.equal(body.type, 'urn:stowage:problem:wrong-state');
    }
  });

  test('that take the whole quota are named by the refusal, and their end makes room', async () => {
    for (let index = 0; index < 5; index++) await resumable(20 * MiB);
    const refused = await client.raw(png(3000, 3));
    assert.equal(refused.status, 403);
    assert.match(refused.body.detail ?? '', /hold 104857600 bytes: GET \/v1\/uploads lists them/);
    const [one] = (await list()).uploads;
    assert.equal((await client.request('DELETE', `/v1/uploads/${one?.uploadId}`)).status, 204);
    assert.equal((await client.raw(png(3000, 3))).status, 201);
  });

  test('that expired hold their bytes until they are reaped, and are listed until then', async () => {
    const id = await resumable(1000);
    await service.query("update upload_sessions set expires_at = now() - interval '1 s' where asset_id = $1", [id]);
    assert.equal((await list()).uploads.length, 1);
    assert.equal((await client.request('DELETE', `/v1/uploads/${id}`)).status, 204);
    await nothingHeld();
  });
});
