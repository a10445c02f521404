import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { knownFastifyCodes } from '../../src/http/error-handler.ts';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { startService, type TestService } from '../support/service.ts';
import { sendRaw } from '../support/sockets.ts';

const UNKNOWN = '019aa1b2-7c3d-7e4f-8a5b-6c7d8e9fa0b1';

describe('problems', () => {
  let service: TestService;
  let client: Client;
  before(async () => {
    service = await startService({ env: { CORS_ORIGINS: 'https://app.example', REQUESTS_PER_MINUTE: '0' } });
    client = new Client(service.url);
  });
  after(() => service.close());

  const json = { 'content-type': 'application/json' };
  const cases: [string, string, string, RequestInit & { headers?: Record<string, string> }, number, string][] = [
    [
      'a body that is no JSON',
      'PATCH',
      `/v1/assets/${UNKNOWN}`,
      { body: '{', headers: json },
      400,
      'malformed-request',
    ],
    ['an empty JSON body', 'PATCH', `/v1/assets/${UNKNOWN}`, { headers: json }, 400, 'malformed-request'],
    [
      '__proto__ in a body',
      'PATCH',
      `/v1/assets/${UNKNOWN}`,
      { body: '{"__proto__":{"a":1}}', headers: json },
      400,
      'malformed-request',
    ],
    ['an id that is no UUID', 'GET', '/v1/assets/1', {}, 400, 'invalid-parameter'],
    ['an unknown query parameter', 'GET', '/v1/assets?colour=red', {}, 400, 'invalid-parameter'],
    ['a bad percent-encoding', 'GET', '/v1/assets/%ff', {}, 400, 'malformed-request'],
    ['an unknown path', 'GET', '/v2/things', {}, 404, 'not-found'],
    ['an unknown id', 'GET', `/v1/assets/${UNKNOWN}`, {}, 404, 'not-found'],
    [
      'a method the resource does not have',
      'POST',
      `/v1/assets/${UNKNOWN}`,
      { body: '{}', headers: json },
      405,
      'method-not-allowed',
    ],
    [
      'a JSON body over 64 KiB',
      'PATCH',
      `/v1/assets/${UNKNOWN}`,
      { body: JSON.stringify({ name: 'x'.repeat(70_000) }), headers: json },
      413,
      'too-large',
    ],
    [
      'another content type than JSON',
      'PATCH',
      `/v1/assets/${UNKNOWN}`,
      { body: 'a', headers: { 'content-type': 'text/plain' } },
      415,
      'unsupported-media-type',
    ],
    [
      'a file name that is too long',
      'PUT',
      `/v1/assets/raw/${'x'.repeat(3000)}`,
      { body: 'x' },
      400,
      'invalid-parameter',
    ],
  ];
  for (const [title, method, path, init, status, type] of cases) {
    test(`${title} is ${status} ${type}`, async () => {
      const answer = await client.request(method, path, init);
      assert.equal(answer.status, status, JSON.stringify(answer.body));
      assert.equal(answer.headers.get('content-type'), 'application/problem+json');
      assert.equal(answer.body.type, `urn:stowage:problem:${type}`);
      assert.equal(answer.body.status, status);
      assert.equal(answer.body.requestId, answer.headers.get('x-request-id'));
      assert.equal(answer.headers.get('cache-control'), 'no-store');
      assert.doesNotMatch(JSON.stringify(answer.body), /node_modules|\.ts:|select |Error:/);
    });
  }

  test('a 405 names the methods there are', async () => {
    assert.equal(
      (await client.request('POST', `/v1/assets/${UNKNOWN}`)).headers.get('allow'),
      'GET, HEAD, PATCH, DELETE, OPTIONS',
    );
    assert.equal((await client.request('PUT', '/v1/assets')).headers.get('allow'), 'GET, HEAD, POST, OPTIONS');
  });

  test('what cannot even be parsed is answered by a problem', async () => {
    for (const [bytes, status] of [
      ['FOO\r\n\r\n', 400],
      ['GET / HTTP/1.1\r\n\r\n', 400],
      [`GET / HTTP/1.1\r\nHost: localhost\r\nX: ${'a'.repeat(20_000)}\r\n\r\n`, 431],
      ['PUT /v1/assets/raw/a.png HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n', 400],
      ['PUT /v1/assets/raw/a.png HTTP/1.1\r\nHost: localhost\r\nExpect: bananas\r\nContent-Length: 1\r\n\r\na', 417],
    ] as const) {
      const answer = await sendRaw(service.url, bytes);
      assert.equal(answer.status, status, bytes.slice(0, 40));
      assert.match(answer.headers, /application\/problem\+json/);
      assert.equal(JSON.parse(answer.body).status, status);
    }
  });

  test('a request id that is harmless is taken over, another is replaced', async () => {
    assert.equal((await client.get('/v1/quota', { 'x-request-id': 'my-id.1' })).headers.get('x-request-id'), 'my-id.1');
    assert.match(
      (await client.get('/v1/quota', { 'x-request-id': 'a b' })).headers.get('x-request-id') ?? '',
      /^[0-9a-f-]{36}$/,
    );
  });

  test('a foreign id answers like an unknown one, byte for byte, on every route', async () => {
    const { body } = await client.raw(png());
    const mallory = new Client(service.url, 'mallory');
    const routes: [string, string, unknown?][] = [
      ['GET', ''],
      ['HEAD', ''],
      ['PATCH', '', { name: 'x.png' }],
      ['DELETE', ''],
      ['DELETE', '?permanent=true'],
      ['POST', '/restore'],
      ['GET', '/download'],
      ['GET', '/download/redirect'],
      ['GET', '/content'],
      ['HEAD', '/content'],
    ];
    const same = { 'x-request-id': 'same', 'if-match': '*' };
    for (const [method, path, content] of routes) {
      const [foreign, unknown] = await Promise.all(
        [body.id, UNKNOWN].map((id) =>
          mallory.request(method, `/v1/assets/${id}${path}`, {
            headers: { ...same, ...(content ? json : {}) },
            ...(content ? { body: JSON.stringify(content) } : {}),
          }),
        ),
      );
      assert.equal(foreign?.status, 404, `${method} ${path}`);
      assert.deepEqual(foreign?.body, unknown?.body, `${method} ${path}`);
      const names = (answer: { headers: Headers } | undefined) =>
        new Set([...(answer?.headers.keys() ?? [])].filter((name) => name !== 'date'));
      assert.deepEqual(names(foreign), names(unknown));
    }
    assert.equal((await client.get(`/v1/assets/${body.id}`)).status, 200);
  });

  test('other origins are answered as configured, on errors too', async () => {
    const allowed = await client.get('/v1/assets/1', { origin: 'https://app.example' });
    assert.equal(allowed.status, 400);
    assert.equal(allowed.headers.get('access-control-allow-origin'), 'https://app.example');
    for (const name of [
      'ETag',
      'Location',
      'Link',
      'Retry-After',
      'Repr-Digest',
      'Upload-Offset',
      'RateLimit-Remaining',
    ]) {
      assert.ok(allowed.headers.get('access-control-expose-headers')?.includes(name), name);
    }
    assert.equal(
      (await client.get('/v1/quota', { origin: 'https://evil.example' })).headers.get('access-control-allow-origin'),
      null,
    );
    const preflight = await client.request('OPTIONS', '/v1/assets', {
      headers: {
        origin: 'https://app.example',
        'access-control-request-method': 'POST',
        'access-control-request-headers': 'authorization',
      },
    });
    assert.equal(preflight.status, 204);
    assert.match(preflight.headers.get('access-control-allow-methods') ?? '', /PATCH/);
  });

  test('the codes of Fastify that are told apart still exist', () => assert.deepEqual(knownFastifyCodes, []));
});
