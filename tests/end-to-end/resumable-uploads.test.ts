/** tus 1.0, request by request, and with tus-js-client. On both object stores, over two instances. */
import assert from 'node:assert/strict';
import { createHash, randomUUID } from 'node:crypto';
import { type IncomingMessage, request } from 'node:http';
import { after, before, beforeEach, describe, test } from 'node:test';
import * as tus from 'tus-js-client';
import { Client } from '../support/client.ts';
import { glb, pdf, png } from '../support/files.ts';
import { contentsOf } from '../support/s3.ts';
import { startService, storeKinds, type TestService } from '../support/service.ts';
import { TcpProxy } from '../support/tcp-proxy.ts';
import { waitUntil } from '../support/wait-until.ts';

const MiB = 1024 * 1024;
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const base64 = (text: string) => Buffer.from(text).toString('base64');
const TUS = { 'tus-resumable': '1.0.0' };
const CHUNK = 'application/offset+octet-stream';

const environment = {
  PART_SIZE: '5MiB',
  REQUESTS_PER_MINUTE: '0',
  UPLOADS_PER_HOUR: '0',
  DEFAULT_QUOTA: '300MiB',
  UPLOAD_LEASE: '2s',
  MIN_UPLOAD_RATE: '0',
};

for (const { store, skip } of storeKinds) {
  describe(`resumable uploads, on ${store}`, { skip }, () => {
    let one: TestService;
    let two: TestService;
    let client: Client;
    let elsewhere: Client;
    before(async () => {
      one = await startService({ store, env: environment });
      two = await startService({ store, env: environment, beside: one });
    });
    after(async () => {
      await two.close();
      await one.close();
    });
    beforeEach(() => {
      const owner = `owner-${randomUUID()}`;
      client = new Client(one.url, owner);
      elsewhere = new Client(two.url, owner);
    });

    const owner = () => client.headers['x-user-id'] ?? '';
    const metadata = (fields: Record<string, string>) =>
      Object.entries(fields)
        .map(([name, value]) => `${name} ${base64(value)}`)
        .join(',');
    const create = (
      size: number | undefined,
      fields: Record<string, string>,
      headers = {},
      body?: Buffer<ArrayBuffer>,
    ) =>
      client.request('POST', '/v1/resumable', {
        headers: {
          ...TUS,
          ...(size === undefined ? { 'upload-defer-length': '1' } : { 'upload-length': String(size) }),
          'upload-metadata': metadata(fields),
          ...(body && { 'content-type': CHUNK }),
          ...headers,
        },
        ...(body && { body }),
      });
    async function begin(size: number | undefined, fields: Record<string, string>): Promise<string> {
      const { status, headers, body } = await create(size, fields);
      assert.equal(status, 201, JSON.stringify(body));
      return headers.get('location') ?? '';
    }
    const send = (where: Client, path: string, offset: number, bytes: Uint8Array<ArrayBuffer>, headers = {}) =>
      where.request('PATCH', path, {
        headers: { ...TUS, 'content-type': CHUNK, 'upload-offset': String(offset), ...headers },
        body: bytes,
      });
    const progressOf = async (path: string) => {
      const { status, headers } = await client.request('HEAD', path, { headers: TUS });
      return { status, offset: Number(headers.get('upload-offset')), headers };
    };
    const idOf = (path: string) => path.split('/').at(-1) ?? '';
    /** Sends bytes and breaks the connection behind them, when all of them are in the service. */
    async function sendAndBreak(path: string, offset: number, bytes: Buffer, announced: number): Promise<void> {
      let incoming: IncomingMessage | undefined;
      const watch = (request: IncomingMessage) => {
        if (request.method === 'PATCH') incoming = request;
      };
      one.service.app.server.on('request', watch);
      const asked = request(`${one.url}${path}`, {
        method: 'PATCH',
        headers: {
          ...client.headers,
          ...TUS,
          'content-type': CHUNK,
          'upload-offset': offset,
          'content-length': announced,
        },
      });
      asked.on('error', () => {});
      await new Promise((written) => asked.write(bytes, written));
      await waitUntil(
        () => incoming?.socket.bytesRead === asked.socket?.bytesWritten && incoming?.readableLength === 0,
      );
      one.service.app.server.off('request', watch);
      asked.destroy();
    }
    async function ready(id: string) {
      return waitUntil(async () => {
        const { body } = await client.get(`/v1/assets/${id}`);
        return body.state === 'ready' ? body : undefined;
      });
    }
    async function nothingLeft(): Promise<void> {
      await waitUntil(async () => {
        await one.query("update pgboss.job set start_after = now() where name = 'delete-object'");
        return (await one.query('select 1 from assets where owner_id = $1', [owner()])).length === 0;
      });
      const { body } = await client.get('/v1/quota');
      assert.deepEqual([body['used'], body['reserved']], [0, 0]);
      if (!one.bucket) return;
      const { keys, openUploads } = await contentsOf(one.bucket);
      assert.ok(
        ![...keys, ...openUploads].some((key) => key.includes(`/${one.service.core.objectKeys.nameOf(owner())}/`)),
      );
    }

    test('OPTIONS tells version, extensions and the largest file', async () => {
      const { status, headers } = await client.request('OPTIONS', '/v1/resumable');
      assert.equal(status, 204);
      assert.equal(headers.get('tus-version'), '1.0.0');
      assert.equal(
        headers.get('tus-extension'),
        'creation,creation-with-upload,creation-defer-length,expiration,termination,checksum',
      );
      assert.equal(headers.get('tus-checksum-algorithm'), 'sha1,sha256');
      assert.match(headers.get('tus-max-size') ?? '', /^\d+$/);
    });

    for (const [title, bytes, fields] of [
      ['a small file', png(3000, 1), { filename: 'p.png', filetype: 'image/png' }],
      ['a file of parts', glb(12 * MiB, 2), { filename: 'm.glb' }],
      ['a file of exactly two parts', glb(10 * MiB, 3), { filename: 'm.glb' }],
    ] as const) {
      test(`${title} in one request is ready at once, with its digest`, async () => {
        const project = `project-${randomUUID()}`;
        const path = await begin(bytes.length, { ...fields, projectId: project });
        assert.equal((await progressOf(path)).offset, 0);
        const { status, headers } = await send(client, path, 0, bytes);
        assert.equal(status, 204);
        assert.equal(headers.get('upload-offset'), String(bytes.length));
        assert.equal(headers.get('tus-resumable'), '1.0.0');
        assert.equal(headers.get('asset-id'), idOf(path));
        const { body } = await client.get(`/v1/assets/${idOf(path)}`);
        assert.equal(body.state, 'ready');
        assert.equal(body.sha256, sha256(bytes));
        assert.equal(body.projectId, project);
        assert.ok((await client.content(idOf(path))).body.equals(bytes));
        const after = await progressOf(path);
        assert.equal(after.offset, bytes.length);
        assert.equal(after.headers.get('asset-id'), idOf(path));
        assert.equal((await client.get('/v1/quota')).body['used'], bytes.length);
      });
    }

    test('chunks of any size, to two instances in turn, become the same bytes', async () => {
      const bytes = glb(17 * MiB, 4);
      const path = await begin(bytes.length, { filename: 'm.glb' });
      const steps = [1, 1000, 70_000, 5 * MiB, 5 * MiB + 3, 12_345, Number.POSITIVE_INFINITY];
      let offset = 0;
      for (const [index, step] of steps.entries()) {
        const chunk = bytes.subarray(offset, Math.min(bytes.length, offset + step));
        const { status, headers, body } = await send(index % 2 ? elsewhere : client, path, offset, chunk);
        assert.equal(status, 204, JSON.stringify(body));
        offset += chunk.length;
        assert.equal(headers.get('upload-offset'), String(offset));
      }
      const asset = await ready(idOf(path));
      assert.equal(asset?.sha256, sha256(bytes));
      assert.ok((await client.content(idOf(path))).body.equals(bytes));
    });

    test('requests that end exactly where parts do, and one that breaks off behind it, become the same bytes', async () => {
      const bytes = glb(28 * MiB, 14);
      const path = await begin(bytes.length, { filename: 'm.glb' });
      let offset = 0;
      for (const length of [5 * MiB, 10 * MiB]) {
        const chunk = bytes.subarray(offset, offset + length);
        assert.equal((await send(client, path, offset, chunk)).status, 204);
        offset += length;
      }
      await sendAndBreak(path, offset, bytes.subarray(offset, offset + 5 * MiB + 1000), bytes.length - offset);
      offset += 5 * MiB + 1000;
      await waitUntil(async () => (await progressOf(path)).offset === offset);
      assert.equal((await send(elsewhere, path, offset, bytes.subarray(offset))).status, 204);
      assert.equal((await ready(idOf(path)))?.sha256, sha256(bytes));
      assert.ok((await client.content(idOf(path))).body.equals(bytes));
    });

    test('a request that breaks off loses nothing that came', async () => {
      const bytes = glb(14 * MiB, 5);
      const path = await begin(bytes.length, { filename: 'm.glb' });
      let offset = 0;
      for (const length of [300_000, 6 * MiB]) {
        await sendAndBreak(path, offset, bytes.subarray(offset, offset + length), bytes.length - offset);
        const expected = offset + length;
        await waitUntil(async () => (await progressOf(path)).offset === expected);
        offset = expected;
      }
      assert.equal((await send(elsewhere, path, offset, bytes.subarray(offset))).status, 204);
      assert.equal((await ready(idOf(path)))?.sha256, sha256(bytes));
    });

    test('a newer request takes over from one that hangs, here and on another instance; the older one ends', async () => {
      for (const newer of [client, elsewhere]) {
        const bytes = glb(8 * MiB, 6);
        const path = await begin(bytes.length, { filename: 'm.glb' });
        const hanging = request(`${one.url}${path}`, {
          method: 'PATCH',
          headers: {
            ...client.headers,
            ...TUS,
            'content-type': CHUNK,
            'upload-offset': 0,
            'content-length': bytes.length,
          },
        });
        const ended = new Promise<number>((resolve) => {
          hanging.on('error', () => resolve(0));
          hanging.on('response', (response) => resolve(response.statusCode ?? 0));
        });
        hanging.write(bytes.subarray(0, 100_000));
        await waitUntil(
          async () =>
            (await one.query('select 1 from upload_sessions where asset_id = $1 and holder is not null', [idOf(path)]))
              .length === 1,
        );
        const { status, body } = await send(newer, path, 0, bytes);
        assert.equal(status, 204, JSON.stringify(body));
        assert.ok([0, 409].includes(await ended));
        hanging.destroy();
        assert.ok((await client.content(idOf(path))).body.equals(bytes));
      }
    });

    test('the length may be told later', async () => {
      const bytes = glb(7 * MiB, 7);
      const path = await begin(undefined, { filename: 'm.glb' });
      assert.equal((await progressOf(path)).headers.get('upload-defer-length'), '1');
      assert.equal((await send(client, path, 0, bytes.subarray(0, 6 * MiB))).status, 204);
      assert.equal((await client.get('/v1/quota')).body['reserved'], 6 * MiB);
      const { status } = await send(client, path, 6 * MiB, bytes.subarray(6 * MiB), {
        'upload-length': String(bytes.length),
      });
      assert.equal(status, 204);
      assert.equal((await ready(idOf(path)))?.sha256, sha256(bytes));
      const quota = await client.get('/v1/quota');
      assert.deepEqual([quota.body['used'], quota.body['reserved']], [bytes.length, 0]);
    });

    test('a length that ends the upload may be told when all bytes are there', async () => {
      const bytes = glb(7 * MiB, 15);
      const path = await begin(undefined, { filename: 'm.glb' });
      assert.equal((await send(client, path, 0, bytes)).status, 204);
      assert.equal((await progressOf(path)).headers.get('asset-id'), null);
      const last = await send(elsewhere, path, bytes.length, Buffer.alloc(0), {
        'upload-length': String(bytes.length),
      });
      assert.equal(last.status, 204, JSON.stringify(last.body));
      assert.equal(last.headers.get('asset-id'), idOf(path));
      assert.equal((await ready(idOf(path)))?.sha256, sha256(bytes));
    });

    test('the first bytes may come with the creation', async () => {
      const bytes = png(3000, 8);
      const whole = await create(bytes.length, { filename: 'p.png' }, {}, bytes);
      assert.equal(whole.status, 201, JSON.stringify(whole.body));
      assert.equal(whole.headers.get('upload-offset'), '3000');
      assert.equal(whole.headers.get('asset-id'), idOf(whole.headers.get('location') ?? ''));
      const part = await create(bytes.length, { filename: 'p.png' }, {}, bytes.subarray(0, 1000));
      assert.equal(part.headers.get('upload-offset'), '1000');
      const path = part.headers.get('location') ?? '';
      assert.equal((await send(client, path, 1000, bytes.subarray(1000))).status, 204);
      assert.ok((await client.content(idOf(path))).body.equals(bytes));
    });

    test('a chunk whose checksum is another one is 460, and does not count', async () => {
      const bytes = glb(12 * MiB, 9);
      const path = await begin(bytes.length, { filename: 'm.glb' });
      const sum = (algorithm: string, of: Buffer) => ({
        'upload-checksum': `${algorithm} ${createHash(algorithm).update(of).digest('base64')}`,
      });
      const half = bytes.subarray(0, 6 * MiB);
      const { status, body } = await send(client, path, 0, half, sum('sha1', bytes));
      assert.equal(status, 460);
      assert.equal(body.type, 'urn:stowage:problem:checksum-mismatch');
      assert.equal((await progressOf(path)).offset, 0);
      assert.equal((await send(client, path, 0, half, sum('sha1', half))).status, 204);
      const rest = bytes.subarray(6 * MiB);
      assert.equal((await send(client, path, 6 * MiB, rest, sum('sha256', rest))).status, 204);
      assert.equal((await ready(idOf(path)))?.sha256, sha256(bytes));
      for (const header of ['md5 AAAA', 'sha1 AAAA', 'sha1']) {
        const answer = await send(client, path, 0, half, { 'upload-checksum': header });
        assert.equal(answer.status, 400, header);
      }
    });

    test('terminating leaves nothing', async () => {
      const bytes = glb(12 * MiB, 10);
      const path = await begin(bytes.length, { filename: 'm.glb' });
      await send(client, path, 0, bytes.subarray(0, 7 * MiB));
      const terminate = () => client.request('DELETE', path, { headers: TUS });
      assert.equal((await terminate()).status, 204);
      assert.equal((await terminate()).status, 404);
      assert.equal((await progressOf(path)).status, 404);
      await nothingLeft();
    });

    test('an expired upload is 410, then reaped with its reservation', async () => {
      const path = await begin(3000, { filename: 'p.png' });
      await send(client, path, 0, png(3000).subarray(0, 100));
      await one.query("update upload_sessions set expires_at = now() - interval '1 s' where asset_id = $1", [
        idOf(path),
      ]);
      assert.equal((await progressOf(path)).status, 410);
      assert.equal((await send(client, path, 100, png(3000).subarray(100))).status, 410);
      await one.query("update assets set lease_expires_at = now() - interval '1 s' where id = $1", [idOf(path)]);
      await one.service.reconcile({});
      await nothingLeft();
    });

    for (const [title, lose] of [
      [
        'the store has ended by itself',
        async (key: string, uploadId: string) => one.store.abortMultipartUpload(key, uploadId, {}),
      ],
      [
        'the store has another part of',
        async (key: string, uploadId: string) =>
          void (await one.store.uploadPart({ key, uploadId, partNumber: 1 }, Buffer.alloc(5 * MiB, 1), {})),
      ],
    ] as const)
      test(`an upload that ${title} is 410 and ends, so that its client can begin anew`, async () => {
        const bytes = glb(12 * MiB, 11);
        const path = await begin(bytes.length, { filename: 'm.glb' });
        await send(client, path, 0, bytes.subarray(0, 7 * MiB));
        const [row] = await one.query<{ key: string; upload: string }>(
          `select object_key as key, store_upload_id as upload from assets
           join upload_sessions on asset_id = assets.id where assets.id = $1`,
          [idOf(path)],
        );
        assert.ok(row);
        await lose(row.key, row.upload);
        const { status, body } = await send(client, path, 7 * MiB, bytes.subarray(7 * MiB));
        assert.deepEqual([status, body.type], [410, 'urn:stowage:problem:upload-expired']);
        assert.equal((await progressOf(path)).status, 404);
        const { body: quota } = await client.get('/v1/quota');
        assert.equal(quota['reserved'], 0);
        await nothingLeft();
      });

    for (const [title, bytes, fields, status, type] of [
      ['of another type', pdf(), { filename: 'p.png', filetype: 'image/png' }, 415, 'declared-mismatch'],
      ['of no known type', Buffer.alloc(6 * MiB, 'x'), { filename: 'm.glb' }, 415, 'undetected-type'],
      ['that are damaged', png(3000).subarray(0, 2990), { filename: 'p.png' }, 422, 'damaged-file'],
    ] as const) {
      test(`bytes ${title} are refused, and nothing is left`, async () => {
        const path = await begin(bytes.length, fields);
        const answer = await send(client, path, 0, Buffer.from(bytes));
        assert.equal(answer.status, status, JSON.stringify(answer.body));
        assert.equal(answer.body.type, `urn:stowage:problem:${type}`);
        assert.equal((await progressOf(path)).status, 404);
        await nothingLeft();
      });
    }

    test('damage that only the whole shows is found by the job: the asset is rejected, never served', async () => {
      const bytes = Buffer.concat([glb(6 * MiB, 11), Buffer.from('and then some')]);
      const path = await begin(bytes.length, { filename: 'm.glb' });
      // A part was sent before the last request, which so cannot see the whole.
      assert.equal((await send(client, path, 0, bytes.subarray(0, 5 * MiB + 1000))).status, 204);
      assert.equal((await send(client, path, 5 * MiB + 1000, bytes.subarray(5 * MiB + 1000))).status, 204);
      await waitUntil(async () => (await client.get(`/v1/assets/${idOf(path)}`)).body.state === 'rejected');
      assert.equal((await client.get(`/v1/assets/${idOf(path)}`)).body.reason, 'damaged-file');
      assert.equal((await client.content(idOf(path))).status, 409);
    });

    test('while no part was sent, the last request sees the whole, however many there were', async () => {
      const [sound, damaged] = [glb(7 * MiB, 16), Buffer.concat([glb(7 * MiB, 17), Buffer.from('and then some')])];
      for (const bytes of [sound, damaged]) {
        const path = await begin(bytes.length, { filename: 'm.glb' });
        assert.equal((await send(client, path, 0, bytes.subarray(0, 1000))).status, 204);
        const { status } = await send(client, path, 1000, bytes.subarray(1000));
        assert.equal(status, bytes === sound ? 204 : 422);
        if (bytes === sound) {
          const { body } = await client.get(`/v1/assets/${idOf(path)}`);
          assert.deepEqual([body.state, body.sha256], ['ready', sha256(sound)]);
        } else assert.equal((await progressOf(path)).status, 404);
      }
    });

    for (const [title, headers, status, type] of [
      ['no version', { 'tus-resumable': '' }, 412, 'tus-version'],
      ['another version', { 'tus-resumable': '0.2.2' }, 412, 'tus-version'],
      ['no length', { 'upload-length': '' }, 400, 'invalid-parameter'],
      ['a negative length', { 'upload-length': '-1' }, 400, 'invalid-parameter'],
      ['a length of 0', { 'upload-length': '0' }, 422, 'empty-file'],
      ['too much', { 'upload-length': String(2 ** 50) }, 413, 'too-large'],
      ['more than the quota', { 'upload-length': String(301 * MiB) }, 403, 'quota-exceeded'],
      ['both lengths', { 'upload-defer-length': '1' }, 400, 'invalid-parameter'],
      ['no name', { 'upload-metadata': '' }, 400, 'invalid-parameter'],
      ['a bad name', { 'upload-metadata': metadata({ filename: '../x.png' }) }, 400, 'invalid-name'],
      ['no base64', { 'upload-metadata': 'filename ???' }, 400, 'invalid-parameter'],
      [
        'an unknown type',
        { 'upload-metadata': metadata({ filename: 'a.gz', filetype: 'application/gzip' }) },
        415,
        'type-not-allowed',
      ],
    ] as const) {
      test(`creation with ${title} is ${status} ${type}, and nothing is kept`, async () => {
        const { status: found, body } = await create(3000, { filename: 'm.glb' }, headers);
        assert.equal(found, status, JSON.stringify(body));
        assert.equal(body.type, `urn:stowage:problem:${type}`);
        await nothingLeft();
      });
    }

    test('a wrong offset is 409, a wrong content type 415, more than announced 413; nothing changes', async () => {
      const bytes = png(3000, 12);
      const path = await begin(3000, { filename: 'p.png' });
      await send(client, path, 0, bytes.subarray(0, 1000));
      const wrong = await send(client, path, 999, bytes.subarray(999));
      assert.equal(wrong.status, 409);
      assert.equal(wrong.body.type, 'urn:stowage:problem:offset-mismatch');
      assert.equal(wrong.headers.get('upload-offset'), '1000');
      assert.equal(
        (await send(client, path, 1000, bytes.subarray(1000), { 'content-type': 'text/plain' })).status,
        415,
      );
      assert.equal((await send(client, path, 1000, Buffer.concat([bytes.subarray(1000), bytes]))).status, 413);
      assert.equal((await progressOf(path)).offset, 1000);
      assert.equal((await send(client, path, 1000, bytes.subarray(1000))).status, 204);
      assert.equal((await send(client, path, 3000, Buffer.alloc(0))).status, 204);
    });

    test('somebody else can neither see, continue nor end it', async () => {
      const path = await begin(3000, { filename: 'p.png' });
      const stranger = new Client(one.url, 'stranger');
      for (const where of [path, `/v1/resumable/${randomUUID()}`]) {
        assert.equal((await stranger.request('HEAD', where, { headers: TUS })).status, 404);
        assert.equal((await send(stranger, where, 0, png(3000))).status, 404);
        assert.equal((await stranger.request('DELETE', where, { headers: TUS })).status, 404);
      }
      assert.equal((await progressOf(path)).offset, 0);
    });

    test('tus-js-client uploads 200 MiB while its connection is cut five times and one instance restarts, to two in turn', async () => {
      const bytes = glb(200 * MiB, 13);
      const proxy = await new TcpProxy(one.url).listen();
      let cuts = 0;
      // When so much has been sent the connection is cut, and the other instance is there instead.
      const cutAt = [5, 44, 83, 128, 191].map((each) => each * MiB);
      async function cut(number: number): Promise<void> {
        proxy.fault = 'refuse';
        // The one that has the upload right now.
        if (number === 2) {
          await two.close();
          two = await startService({ store, env: environment, beside: one });
        }
        proxy.target = number % 2 === 0 ? one.url : two.url;
        proxy.fault = 'none';
      }
      const id = await new Promise<string>((resolve, reject) => {
        const upload = new tus.Upload(bytes, {
          endpoint: `${proxy.replaceIn(one.url)}/v1/resumable`,
          metadata: { filename: 'm.glb', filetype: 'model/gltf-binary' },
          headers: client.headers,
          // An instance takes its time to start on a busy machine.
          retryDelays: Array.from({ length: 60 }, (_, index) => Math.min(2000, 50 * 2 ** index)),
          onProgress: (sent) => {
            const next = cutAt[cuts];
            if (next === undefined || sent < next) return;
            cuts += 1;
            cut(cuts).catch(reject);
          },
          onError: reject,
          onSuccess: ({ lastResponse }) => resolve(lastResponse.getHeader('asset-id') ?? ''),
        });
        upload.start();
      });
      assert.equal(cuts, 5);
      const asset = await ready(id);
      assert.equal(asset?.sha256, sha256(bytes));
      assert.equal(sha256((await client.content(id)).body), sha256(bytes));
      await proxy.close();
    });
  });
}

test('an upload counts once, however many requests it takes', async (context) => {
  const service = await startService({ env: { UPLOADS_PER_HOUR: '1', REQUESTS_PER_MINUTE: '3' } });
  context.after(() => service.close());
  const client = new Client(service.url);
  const bytes = glb(MiB, 14);
  const create = () =>
    client.request('POST', '/v1/resumable', {
      headers: { ...TUS, 'upload-length': String(MiB), 'upload-metadata': `filename ${base64('m.glb')}` },
    });
  const { status, headers } = await create();
  assert.equal(status, 201);
  for (let offset = 0; offset < MiB; offset += 64 * 1024) {
    const answer = await client.request('PATCH', headers.get('location') ?? '', {
      headers: { ...TUS, 'content-type': CHUNK, 'upload-offset': String(offset) },
      body: bytes.subarray(offset, offset + 64 * 1024),
    });
    assert.equal(answer.status, 204, JSON.stringify(answer.body));
  }
  const second = await create();
  assert.equal(second.status, 429);
  assert.match(second.headers.get('retry-after') ?? '', /^\d+$/);
});

test('fifty slow requests on a pool of ten leave every other route fast', async (context) => {
  const service = await startService({
    env: {
      DATABASE_POOL: '10',
      PART_SIZE: '5MiB',
      UPLOADS_AT_ONCE: '128',
      UPLOADS_PER_CALLER: '64',
      MIN_UPLOAD_RATE: '0',
      REQUESTS_PER_MINUTE: '0',
    },
  });
  context.after(() => service.close());
  const client = new Client(service.url);
  const asked = await Promise.all(
    Array.from({ length: 50 }, async () => {
      const { headers } = await client.request('POST', '/v1/resumable', {
        headers: { ...TUS, 'upload-length': '100000', 'upload-metadata': `filename ${base64('p.png')}` },
      });
      const patch = request(`${service.url}${headers.get('location')}`, {
        method: 'PATCH',
        headers: { ...client.headers, ...TUS, 'content-type': CHUNK, 'upload-offset': 0, 'content-length': 100_000 },
      });
      patch.on('error', () => {});
      patch.write(png(100_000).subarray(0, 1000));
      return patch;
    }),
  );
  const held = 'select count(*) as held from upload_sessions where holder is not null';
  await waitUntil(async () => (await service.query<{ held: string }>(held))[0]?.held === '50');
  assert.equal(service.database.pool.totalCount - service.database.pool.idleCount, 0, 'connections are held');
  assert.equal(service.database.pool.waitingCount, 0);
  assert.equal((await client.raw(png(500))).status, 201);
  assert.equal((await client.get('/v1/assets')).status, 200);
  for (const patch of asked) patch.destroy();
  await waitUntil(async () => (await service.query<{ held: string }>(held))[0]?.held === '0');
});
