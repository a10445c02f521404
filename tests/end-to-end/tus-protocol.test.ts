/** What tus 1.0 says a server must do, and what its clients rely on, on both object stores. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { request } from 'node:http';
import type { Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { Client } from '../support/client.ts';
import { glb, png } from '../support/files.ts';
import { startService, storeKinds, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

const MiB = 1024 * 1024;
const TUS = { 'tus-resumable': '1.0.0' };
const CHUNK = 'application/offset+octet-stream';
const base64 = (text: string | Buffer) => Buffer.from(text).toString('base64');
const environment = {
  PART_SIZE: '5MiB',
  REQUESTS_PER_MINUTE: '0',
  UPLOADS_PER_HOUR: '0',
  DEFAULT_QUOTA: '10GiB',
  MIN_UPLOAD_RATE: '0',
  CORS_ORIGINS: 'https://app.example.com',
};

function create(client: Client, size: number, uploadMetadata: string, headers: Record<string, string> = {}) {
  return client.request('POST', '/v1/resumable', {
    headers: { ...TUS, 'upload-length': String(size), 'upload-metadata': uploadMetadata, ...headers },
  });
}
async function begin(client: Client, size: number, name: string): Promise<string> {
  const { status, headers, body } = await create(client, size, `filename ${base64(name)}`);
  assert.equal(status, 201, JSON.stringify(body));
  return headers.get('location') ?? '';
}
const send = (
  client: Client,
  path: string,
  offset: number,
  body: Buffer<ArrayBuffer>,
  headers = {},
  method = 'PATCH',
) =>
  client.request(method, path, {
    headers: { ...TUS, 'content-type': CHUNK, 'upload-offset': String(offset), ...headers },
    body,
  });
const head = (client: Client, path: string) => client.request('HEAD', path, { headers: TUS });
const idOf = (path: string) => path.split('/').at(-1) ?? '';

describe('the protocol of tus', () => {
  let service: TestService;
  let client: Client;
  before(async () => {
    service = await startService({ env: environment });
    client = new Client(service.url);
  });
  after(() => service.close());

  test('OPTIONS of a client from an origin that is not allowed tells what there is, and lets no page read it', async () => {
    const signed = await startService({
      env: { ...environment, AUTH_JWT_SECRET: 'a secret that is long enough for tests' },
    });
    try {
      const headers = { origin: 'https://elsewhere.example.com' };
      const response = await fetch(`${signed.url}/v1/resumable`, { method: 'OPTIONS', headers });
      assert.equal(response.status, 204);
      assert.equal(response.headers.get('tus-version'), '1.0.0');
      assert.equal(response.headers.get('access-control-allow-origin'), null);
    } finally {
      await signed.close();
    }
  });

  for (const [title, headers] of [
    ['who is no browser', {}],
    ['from an origin', { origin: 'https://app.example.com' }],
    [
      'that asks for permission',
      {
        origin: 'https://app.example.com',
        'access-control-request-method': 'POST',
        'access-control-request-headers': 'x-http-method-override,tus-resumable',
      },
    ],
  ] as const) {
    test(`OPTIONS of a client ${title} tells what there is, with and without a slash at the end`, async () => {
      for (const path of ['/v1/resumable', '/v1/resumable/']) {
        const response = await fetch(service.url + path, { method: 'OPTIONS', headers });
        assert.equal(response.status, 204);
        assert.equal(response.headers.get('tus-version'), '1.0.0');
        assert.equal(response.headers.get('tus-resumable'), '1.0.0');
        assert.match(response.headers.get('tus-extension') ?? '', /creation-with-upload/);
        assert.match(response.headers.get('tus-max-size') ?? '', /^\d+$/);
        if ('access-control-request-headers' in headers) {
          assert.equal(response.headers.get('access-control-allow-origin'), 'https://app.example.com');
          assert.match(response.headers.get('access-control-allow-headers') ?? '', /x-http-method-override/);
          assert.match(response.headers.get('access-control-allow-methods') ?? '', /PATCH/);
        }
      }
    });
  }

  test('browsers of other origins may read the header fields of the protocol', async () => {
    const { headers } = await client.request('HEAD', await begin(client, 3000, 'p.png'), {
      headers: { ...TUS, origin: 'https://app.example.com' },
    });
    const exposed = (headers.get('access-control-expose-headers') ?? '').toLowerCase();
    for (const name of ['upload-offset', 'upload-length', 'upload-metadata', 'upload-defer-length', 'location'])
      assert.ok(exposed.includes(name), name);
  });

  test('the path of the creation may end in a slash', async () => {
    const { status, headers } = await client.request('POST', '/v1/resumable/', {
      headers: { ...TUS, 'upload-length': '3000', 'upload-metadata': `filename ${base64('p.png')}` },
    });
    assert.equal(status, 201);
    assert.match(headers.get('location') ?? '', /^\/v1\/resumable\/[0-9a-f-]{36}$/);
  });

  test('refusals carry the version too, whoever decided on them', async () => {
    const path = await begin(client, 3000, 'p.png');
    for (const answer of [
      await client.request('HEAD', path, { headers: { 'tus-resumable': '0.2.2' } }),
      await client.request('HEAD', `/v1/resumable/${randomUUID()}`, { headers: TUS }),
      await client.request('PATCH', '/v1/resumable/nonsense', { headers: TUS }),
      await fetch(service.url + path, { method: 'HEAD', headers: { ...TUS, authorization: 'Bearer nonsense' } }),
    ]) {
      assert.ok(answer.status >= 400 || answer.status === 200);
      assert.equal(answer.headers.get('tus-resumable'), '1.0.0', `${answer.status}`);
    }
  });

  test('HEAD tells the metadata exactly as it was sent, before and after the end, and is never kept', async () => {
    const sent = `relativePath bnVsbA==,filename ${base64('ä b.png')}, empty ,filetype ${base64('image/png')}`;
    const bytes = png(3000, 1);
    const { headers } = await create(client, bytes.length, sent);
    const path = headers.get('location') ?? '';
    for (const isComplete of [false, true]) {
      const answer = await head(client, path);
      assert.equal(answer.headers.get('upload-metadata'), sent);
      assert.equal(answer.headers.get('cache-control'), 'no-store');
      assert.equal(answer.headers.get('asset-id') !== null, isComplete);
      assert.equal(answer.headers.get('upload-length'), '3000');
      assert.equal(answer.headers.get('upload-defer-length'), null);
      if (!isComplete) assert.equal((await send(client, path, 0, bytes)).status, 204);
    }
  });

  test('X-HTTP-Method-Override on POST is PATCH, HEAD and DELETE', async () => {
    const bytes = png(3000, 2);
    const path = await begin(client, bytes.length, 'p.png');
    const as = (method: string, extra = {}) => ({ 'x-http-method-override': method, ...extra });
    const first = await send(client, path, 0, bytes.subarray(0, 1000), as('PATCH'), 'POST');
    assert.equal(first.status, 204);
    assert.equal(first.headers.get('upload-offset'), '1000');
    const found = await client.request('POST', path, { headers: { ...TUS, ...as('head') } });
    assert.equal(found.status, 200);
    assert.equal(found.headers.get('upload-offset'), '1000');
    assert.equal((await client.request('POST', path, { headers: { ...TUS, ...as('DELETE') } })).status, 204);
    assert.equal((await head(client, path)).status, 404);
    for (const headers of [{}, as('PUT'), as('__proto__')]) {
      const refused = await client.request('POST', path, { headers: { ...TUS, ...headers } });
      assert.equal(refused.status, 405);
      assert.equal(refused.headers.get('allow'), 'HEAD, PATCH, DELETE');
    }
    assert.equal((await create(client, 10, '', as('PATCH'))).status, 405);
    assert.equal((await create(client, 3000, `filename ${base64('p.png')}`, as('POST'))).status, 201);
  });

  test('bytes beyond the end are 413, before and after the end, with and without Content-Length; nothing changes', async () => {
    const bytes = png(3000, 3);
    const path = await begin(client, bytes.length, 'p.png');
    const chunked = (offset: number, body: Buffer<ArrayBuffer>) =>
      client.request('PATCH', path, {
        headers: { ...TUS, 'content-type': CHUNK, 'upload-offset': String(offset) },
        body: new Blob([body]).stream(),
        duplex: 'half',
      } as RequestInit & { headers: Record<string, string> });
    const more = Buffer.concat([bytes, Buffer.alloc(1)]);
    assert.equal((await send(client, path, 0, more)).status, 413);
    assert.equal((await chunked(0, more)).status, 413);
    assert.equal((await head(client, path)).headers.get('upload-offset'), '0');
    assert.equal((await send(client, path, 0, bytes)).status, 204);
    assert.equal((await send(client, path, 3000, Buffer.alloc(1))).status, 413);
    assert.equal((await chunked(3000, Buffer.alloc(1))).status, 413);
    assert.equal((await send(client, path, 4000, Buffer.alloc(1))).status, 409);
    assert.equal((await send(client, path, 3000, Buffer.alloc(0))).status, 204);
    assert.equal((await client.get(`/v1/assets/${idOf(path)}`)).body.size, 3000);
  });

  for (const [title, text, named] of [
    ['a type with NUL', `filename ${base64('a.png')},filetype ${base64('image/png\0')}`, 'filetype'],
    ['a type with a line break', `filename ${base64('a.png')},filetype ${base64('image/png\n')}`, 'filetype'],
    ['a name with NUL', `filename ${base64('a\0.png')}`, 'filename'],
    ['a name that is not UTF-8', `filename ${base64(Buffer.from([0x61, 0xff, 0x2e]))}`, 'filename'],
    ['a lone surrogate', `filename ${base64(Buffer.from([0xed, 0xa0, 0x80]))}`, 'filename'],
    ['a type that is not UTF-8', `filename ${base64('a.png')},filetype ${base64(Buffer.from([0xff]))}`, 'filetype'],
    ['a name that is not base64', 'filename a.png', 'filename'],
    ['base64 for URLs', `filename ${base64('a.png')},filetype _-8=`, 'filetype'],
    ['base64 without padding', 'filename YS5wbg', 'filename'],
    ['a foreign value that is not base64', `filename ${base64('a.png')},other ?`, 'other'],
    ['a name twice', `filename ${base64('a.png')},filename ${base64('b.png')}`, 'filename'],
    ['a foreign name twice', `filename ${base64('a.png')},x ,x `, 'x'],
    ['an empty name', `filename ${base64('a.png')},, `, 'empty'],
    ['a name in two pieces', `filename ${base64('a.png')} ${base64('b')}`, 'filename'],
    ['metadata with NUL', `filename ${base64('a.png')},metadata ${base64('{"a":"\\u0000"}')}`, 'metadata'],
    ['metadata with a lone surrogate', `filename ${base64('a.png')},metadata ${base64('{"a":"\\ud800"}')}`, 'metadata'],
    ['a project with NUL', `filename ${base64('a.png')},projectId ${base64('p\0')}`, 'projectId'],
  ] as const) {
    test(`metadata with ${title} are 400 that names it`, async () => {
      const { status, body } = await create(client, 3000, text);
      assert.equal(status, 400, JSON.stringify(body));
      assert.ok(['invalid-parameter', 'invalid-name'].some((type) => body.type === `urn:stowage:problem:${type}`));
      assert.ok(JSON.stringify(body.errors).includes(named), JSON.stringify(body.errors));
    });
  }

  test('hundreds of names are taken', async () => {
    const more = Array.from({ length: 400 }, (_, index) => `k${index} ${base64(`${index}`)}`).join(',');
    const { status, headers } = await create(client, 3000, `filename ${base64('a.png')},${more}`);
    assert.equal(status, 201);
    assert.match((await head(client, headers.get('location') ?? '')).headers.get('upload-metadata') ?? '', /k399/);
  });
});

for (const { store, skip } of storeKinds) {
  describe(`HEAD after a broken connection, on ${store}`, { skip }, () => {
    let one: TestService;
    let two: TestService;
    before(async () => {
      one = await startService({ store, env: environment });
      two = await startService({ store, env: environment, beside: one });
    });
    after(async () => {
      await two.close();
      await one.close();
    });

    /** A request for the whole file that brings as much of it as it is told to. */
    function hold(client: Client, path: string, bytes: Buffer) {
      const asked = request(client.url + path, {
        method: 'PATCH',
        headers: {
          ...client.headers,
          ...TUS,
          'content-type': CHUNK,
          'upload-offset': 0,
          'content-length': bytes.length,
        },
      });
      const status = new Promise<number>((resolve) => {
        asked.on('response', (response) => resolve(response.statusCode ?? 0));
        asked.on('error', () => resolve(0));
      });
      let sent = 0;
      const write = (end: number) => {
        asked.write(bytes.subarray(sent, end));
        sent = end;
      };
      return { write, destroy: () => asked.destroy(), status };
    }
    /** Sends what it can of a file, for as long as it is let, or until somebody ends it. */
    function flood(client: Client, path: string, bytes: Buffer): { destroy: () => void; status: Promise<number> } {
      const begun = hold(client, path, bytes);
      begun.write(bytes.length - 1);
      return begun;
    }
    const isHeld = async (path: string) =>
      (await one.query('select 1 from upload_sessions where asset_id = $1 and holder is not null', [idOf(path)]))
        .length === 1;

    for (const elsewhere of [false, true]) {
      for (const isBroken of [true, false]) {
        const [where, how] = [elsewhere ? 'another instance' : 'the same instance', isBroken ? 'broke' : 'hangs'];
        test(`on ${where}, tells an offset at which the next request goes on, while the connection ${how}`, async () => {
          // However far the request is by then: not there yet, in its first part, beyond it.
          for (const delay of elsewhere && !isBroken ? [0, 20] : [0, 5, 20, 60]) {
            const client = new Client(one.url, `owner-${randomUUID()}`);
            const other = new Client(elsewhere ? two.url : one.url, client.headers['x-user-id']);
            const bytes = glb(12 * MiB, 4);
            const path = await begin(client, bytes.length, 'm.glb');
            const flooding = flood(client, path, bytes);
            if (delay > 0) await waitUntil(() => isHeld(path));
            await new Promise((later) => setTimeout(later, delay));
            if (isBroken) flooding.destroy();
            const { status, headers } = await head(other, path);
            assert.equal(status, 200);
            const offset = Number(headers.get('upload-offset'));
            const next = await send(other, path, offset, bytes.subarray(offset));
            assert.equal(next.status, 204, JSON.stringify(next.body));
            assert.ok(
              await waitUntil(async () => (await client.get(`/v1/assets/${idOf(path)}`)).body.state === 'ready'),
            );
            assert.ok((await client.content(idOf(path))).body.equals(bytes));
            flooding.destroy();
            assert.ok([0, 409].includes(await flooding.status));
          }
        });
      }
    }

    test('takes the upload over: what the request of another instance brings afterwards counts for nothing', async () => {
      const client = new Client(one.url, `owner-${randomUUID()}`);
      const other = new Client(two.url, client.headers['x-user-id']);
      const bytes = glb(12 * MiB, 6);
      const path = await begin(client, bytes.length, 'm.glb');
      const begun = hold(client, path, bytes);
      begun.write(100_000);
      await waitUntil(() => isHeld(path));
      const told = (await head(other, path)).headers.get('upload-offset');
      begun.write(bytes.length);
      assert.ok([0, 409].includes(await begun.status));
      assert.equal((await head(other, path)).headers.get('upload-offset'), told);
    });

    test('counts what came over a connection of the same instance that hangs', async () => {
      const client = new Client(one.url, `owner-${randomUUID()}`);
      const bytes = glb(12 * MiB, 7);
      const received = new Set<Socket>();
      one.service.app.server.on('connection', (socket: Socket) => received.add(socket));
      const path = await begin(client, bytes.length, 'm.glb');
      const begun = hold(client, path, bytes);
      begun.write(MiB);
      await waitUntil(() => [...received].some(({ bytesRead }) => bytesRead > MiB));
      await waitUntil(() => isHeld(path));
      assert.ok(Number((await head(client, path)).headers.get('upload-offset')) > 0);
      begun.destroy();
      await begun.status;
    });

    test('a stranger who asks disturbs nothing', async () => {
      const client = new Client(one.url, `owner-${randomUUID()}`);
      const bytes = glb(12 * MiB, 5);
      const path = await begin(client, bytes.length, 'm.glb');
      const flooding = flood(client, path, bytes);
      await waitUntil(() => isHeld(path));
      assert.equal((await head(new Client(one.url, 'stranger'), path)).status, 404);
      assert.ok(await isHeld(path));
      flooding.destroy();
      await flooding.status;
    });
  });
}
