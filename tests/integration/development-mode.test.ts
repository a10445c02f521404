/** What a page of another site, or a name that leads here, may make of a service in which everybody is trusted. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startService, type TestService } from '../support/service.ts';
import { sendRaw } from '../support/sockets.ts';

describe('development mode', () => {
  let service: TestService;
  let port = '';
  before(async () => {
    service = await startService({ env: { CORS_ORIGINS: 'http://localhost:5173' } });
    port = new URL(service.url).port;
  });
  after(() => service.close());

  const statusOf = async (host: string, fields: string, line = 'GET /v1/quota') =>
    (await sendRaw(service.url, `${line} HTTP/1.1\r\nHost: ${host}\r\nContent-Length: 0\r\n${fields}\r\n`)).status;

  test('answers loopback hosts only', async () => {
    for (const host of ['localhost', `localhost:${port}`, '127.0.0.1', '127.8.8.8:80', '[::1]', `[::1]:${port}`])
      assert.equal(await statusOf(host, ''), 200, host);
    for (const host of ['evil.example', `evil.example:${port}`, '127.0.0.1.evil.example', '0.0.0.0', '192.168.0.1'])
      assert.equal(await statusOf(host, ''), 403, host);
    for (const host of ['a b', 'localhost/', 'localhost@evil', 'user:localhost:1'])
      assert.equal(await statusOf(host, ''), 400, host);
  });

  test('answers no page of another origin, whatever it sends', async () => {
    const own = `localhost:${port}`;
    assert.equal(await statusOf(own, `Origin: http://${own}\r\n`), 200);
    assert.equal(await statusOf(own, 'Origin: http://localhost:5173\r\n'), 200);
    for (const fields of [
      'Origin: null\r\n',
      'Origin: http://evil.example\r\n',
      `Origin: http://127.0.0.1:${port}\r\n`,
      `Origin: https://${own}\r\n`,
      'Sec-Fetch-Site: cross-site\r\n',
    ])
      for (const line of ['GET /v1/quota', 'POST /v1/assets', 'DELETE /v1/assets/019aa1b2-7c3d-7e4f-8a5b-6c7d8e9fa0b1'])
        assert.equal(await statusOf(own, fields, line), 403, `${line} ${fields}`);
    assert.equal(await statusOf(own, 'Sec-Fetch-Site: same-site\r\n', 'POST /v1/assets'), 403);
    assert.equal(await statusOf(own, 'Sec-Fetch-Site: same-origin\r\n'), 200);
  });
});

describe('requests of other clients', () => {
  let service: TestService;
  before(async () => {
    service = await startService({ env: { CORS_ORIGINS: 'https://app.example', AUTH_JWT_SECRET: 'k'.repeat(32) } });
  });
  after(() => service.close());

  const cases: [string, string, number, RegExp?][] = [
    ['two hosts', 'GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n', 400],
    ['no host', 'GET /livez HTTP/1.1\r\n\r\n', 400],
    [
      'a transfer coding that is not known',
      'PUT /v1/assets/raw/a.png HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n',
      501,
    ],
    [
      'QUERY',
      'QUERY /v1/assets HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n',
      405,
      /allow: GET, HEAD, POST, OPTIONS/i,
    ],
    ['a method that nobody knows', 'FROB /v1/assets HTTP/1.1\r\nHost: a\r\n\r\n', 501],
    ['GET of a batch', 'GET /v1/assets/batch HTTP/1.1\r\nHost: a\r\n\r\n', 405, /allow: POST, OPTIONS/i],
    ['PUT of no name', 'PUT /v1/assets/raw HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n', 404],
    [
      'OPTIONS without an origin',
      'OPTIONS /v1/assets HTTP/1.1\r\nHost: a\r\n\r\n',
      204,
      /allow: GET, HEAD, POST, OPTIONS/i,
    ],
    ['a query that is no UTF-8', 'GET /openapi.json?a=%ff HTTP/1.1\r\nHost: a\r\n\r\n', 400],
    [
      '100 Continue before 404',
      'POST /v2/nothing HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n',
      404,
    ],
    [
      'a URL that is too long, from a page',
      `GET /${'a'.repeat(17_000)} HTTP/1.1\r\nHost: a\r\nOrigin: https://app.example\r\n\r\n`,
      414,
    ],
    [
      'a URL that cannot be read, from a page',
      'GET /v1/assets/%ff HTTP/1.1\r\nHost: a\r\nOrigin: https://app.example\r\n\r\n',
      400,
      /access-control-allow-origin: https:\/\/app\.example/i,
    ],
  ];
  for (const [what, request, status, fields] of cases)
    test(`${what} is ${status}`, async () => {
      const answer = await sendRaw(service.url, request, { end: status === 204, timeout: 10_000 });
      assert.equal(answer.status, status, answer.headers);
      if (fields) assert.match(answer.headers, fields);
    });
});
