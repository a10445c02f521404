/** Requests that are valid but rare, and requests that two readers would read in two ways. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { ProblemDocument } from '../../src/problems.ts';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { startService, type TestService } from '../support/service.ts';
import { sendRaw } from '../support/sockets.ts';

const picture = png(300);
const UNKNOWN = '019aa1b2-7c3d-7e4f-8a5b-6c7d8e9fa0b1';

describe('odd requests', () => {
  let service: TestService;
  let client: Client;
  let id: string;
  before(async () => {
    service = await startService({ env: { REQUESTS_PER_MINUTE: '0' } });
    client = new Client(service.url, 'local-user');
    ({ id } = (await client.raw(picture, { name: 'first.png' })).body);
  });
  after(() => service.close());

  const send = (head: string, body: Buffer | string = '') =>
    sendRaw(service.url, Buffer.concat([Buffer.from(`${head}\r\n`), Buffer.from(body)]));
  const put = (fields: string, target = '/v1/assets/raw/a.png') =>
    send(`PUT ${target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${picture.length}\r\n${fields}`, picture);
  const patch = (body: string) => client.request('PATCH', `/v1/assets/${id}`, { body, headers: json });
  const json = { 'content-type': 'application/json' };
  const count = async () => Number((await service.query<{ n: string }>('select count(*) as n from assets'))[0]?.n);

  test('in the absolute form are answered, and the host is the one of the URL', async () => {
    for (const [target, host, status] of [
      ['http://localhost/livez', 'localhost', 200],
      [`HTTP://127.0.0.1:80/v1/assets/${id}`, 'localhost', 200],
      ['https://localhost?limit=1', 'localhost', 404],
      // What the header field says counts for nothing, so nobody passes for local by it.
      ['http://evil.example/v1/assets', 'localhost', 403],
      ['http://me@localhost/v1/assets', 'localhost', 400],
      ['http:///v1/assets', 'localhost', 400],
      ['ftp://localhost/v1/assets', 'localhost', 404],
    ] as const) {
      const answer = await send(`GET ${target} HTTP/1.1\r\nHost: ${host}\r\n`);
      assert.equal(answer.status, status, target);
    }
    const stored = await put('', 'http://localhost/v1/assets/raw/absolute.png?projectId=p1');
    assert.equal(stored.status, 201, stored.body);
    assert.equal(JSON.parse(stored.body).projectId, 'p1');
  });

  test('of another version of HTTP, or framed as their version is not, are 400', async () => {
    const before = await count();
    for (const version of ['2.0', '0.9', '9.9']) {
      const answer = await send(`GET /v1/assets HTTP/${version}\r\nHost: localhost\r\n`);
      assert.equal(answer.status, 400, version);
    }
    const body = `${picture.length.toString(16)}\r\n${picture.toString('latin1')}\r\n0\r\n\r\n`;
    const answer = await send(
      'PUT /v1/assets/raw/a.png HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n',
      Buffer.from(body, 'latin1'),
    );
    assert.equal(answer.status, 400);
    assert.match(answer.body, /HTTP\/1\.0 has no Transfer-Encoding/);
    assert.match(answer.headers, /^connection: close/im);
    assert.equal(await count(), before);
  });

  test('that cannot be parsed are told why', async () => {
    for (const [head, detail] of [
      ['GET /v1/assets HTTP/1.1\r\nHost: localhost\r\nX-Folded: a\r\n b\r\n', /cannot be read: [A-Z]\w+ /],
      [`GET / HTTP/1.1\r\nHost: localhost\r\nX: ${'a'.repeat(20_000)}\r\n`, /header fields are too large/],
      [`GET /${'a'.repeat(20_000)} HTTP/1.1\r\nHost: localhost\r\n`, /URL is too long/],
      ['BREW /v1/assets HTTP/1.1\r\nHost: localhost\r\n', /no such method/],
    ] as const)
      assert.match(problem(await send(head)).detail ?? '', detail);
  });

  test('with a query parameter more than once are told which', async () => {
    for (const [method, path, names] of [
      ['GET', '/v1/assets?limit=1&limit=2', ['limit']],
      ['GET', '/v1/assets?sort=name&order=asc&order=asc&sort=size', ['sort', 'order']],
      ['DELETE', `/v1/assets/${id}?permanent=false&permanent=true`, ['permanent']],
      ['GET', `/v1/assets/${id}/download?expiresIn=60&expiresIn=70`, ['expiresIn']],
      ['GET', `/v1/assets/${id}/image?width=100&width=200`, ['width']],
      ['PUT', '/v1/assets/raw/a.png?projectId=a&projectId=b', ['projectId']],
    ] as const) {
      const { status, body } = await client.request(method, path, method === 'PUT' ? { body: picture } : {});
      assert.equal(status, 400, path);
      assert.equal(body.detail, `${names.join(', ')}: is there more than once; it may be there once`);
      assert.deepEqual(
        body.errors?.map(({ parameter }) => parameter),
        names,
      );
    }
  });

  test('with a header field twice of which one value counts are told which', async () => {
    const before = await count();
    for (const [name, first, second] of [
      ['Authorization', 'Bearer a', 'Bearer b'],
      ['Content-Type', 'image/png', 'image/gif'],
      ['Idempotency-Key', 'a', 'b'],
      ['X-User-Id', 'alice', 'bob'],
    ]) {
      const answer = await put(`${name}: ${first}\r\n${name}: ${second}\r\n`);
      assert.equal(answer.status, 400, name);
      assert.deepEqual(
        problem(answer).errors?.map(({ parameter }) => parameter),
        [name],
      );
    }
    for (const name of ['Upload-Length', 'Upload-Offset', 'Tus-Resumable', 'X-HTTP-Method-Override']) {
      const answer = await send(
        `POST /v1/resumable/${UNKNOWN} HTTP/1.1\r\nHost: localhost\r\n${name}: 1\r\n${name}: 1\r\nContent-Length: 0\r\n`,
      );
      assert.match(problem(answer).detail ?? '', new RegExp(`^${name}: is there more than once`), name);
    }
    // Lists may come in several fields (RFC 9110 section 5.3).
    assert.equal((await put('Expect: 100-continue\r\nX-Any: a\r\nX-Any: b\r\n')).status, 201);
    assert.equal(await count(), before + 1);
  });

  test('with a name twice in a JSON object are told where', async () => {
    const before = await count();
    for (const [body, pointer] of [
      ['{"name":"b.png","name":"c.png"}', '/name'],
      ['{"name":"b.png","n\\u0061me":"c.png"}', '/name'],
      ['{"metadata":{"a":"1","b":"{\\"b\\":1,\\"b\\":2}","a/~":"2","a\\/~":"3"}}', '/metadata/a~1~0'],
    ] as const) {
      const answer = await patch(body);
      assert.equal(answer.status, 400, body);
      assert.deepEqual(answer.body.errors, [{ pointer, detail: 'is there more than once; it may be there once' }]);
    }
    const metadata = '{"a":"1","a":"2"}';
    const upload = { name: 'twice.png', fields: { metadata } };
    const tus = {
      'tus-resumable': '1.0.0',
      'upload-length': '300',
      'upload-metadata': `filename ${btoa('a.png')},metadata ${btoa(metadata)}`,
    };
    for (const answer of [
      await client.raw(picture, upload),
      await client.upload(picture, upload),
      await client.request('POST', '/v1/resumable', { headers: tus }),
    ]) {
      assert.equal(answer.status, 400);
      assert.match(answer.body.detail ?? '', /metadata\.a:? is there more than once/);
    }
    assert.equal(await count(), before);
    const same = await patch('{"metadata":{"a":"1","b":"a","c":"{\\"a\\":[{},{}]}"},"name":"last.png"}');
    assert.deepEqual([same.status, same.body.name], [200, 'last.png']);
  });

  test('with a value of another kind are told in words which kind it has to be', async () => {
    for (const [body, says] of [
      ['[]', 'must be an object'],
      ['{"name":1}', '/name: must be a text'],
    ] as const)
      assert.equal((await patch(body)).body.detail, says);
    const { body } = await client.send('POST', '/v1/uploads', { fileName: 'a.png', size: 5 });
    assert.equal(body.detail, '/contentType: must be there');
    assert.equal((await client.get('/v1/assets?name=')).body.detail, 'name: must not be empty');
    assert.equal((await client.get('/v1/assets?order=up')).body.detail, 'order: must be asc or desc');
  });

  test('for what is not implemented are no fault of the service, and write no fault to the log', async () => {
    const answer = await send(
      'PUT /v1/assets/raw/a.png HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n',
      '0\r\n\r\n',
    );
    assert.equal(answer.status, 501);
    assert.deepEqual(
      service.log.filter((line) => /"level":50/.test(line)),
      [],
    );
  });
});

function problem({ body }: { body: string }): ProblemDocument {
  return JSON.parse(body);
}
