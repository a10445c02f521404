/** Requests that are refused before anybody is known: they are counted by address. */
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';
import { Client, SECRET } from '../support/client.ts';
import { png } from '../support/files.ts';
import { startService, type TestService } from '../support/service.ts';
import { sendRaw } from '../support/sockets.ts';

const LIMIT = 20;

describe('refusals of strangers', () => {
  let service: TestService;
  let address = '';
  let next = 0;
  before(async () => {
    service = await startService({
      env: { AUTH_JWT_SECRET: SECRET, REFUSALS_PER_MINUTE: String(LIMIT), TRUST_PROXY: 'loopback' },
    });
  });
  // Each test is another address.
  beforeEach(() => {
    next += 1;
    address = `192.0.2.${next}`;
  });
  after(() => service.close());

  async function caller(user: string): Promise<Client> {
    const client = await Client.withToken(service.url, user);
    client.headers['x-forwarded-for'] = address;
    return client;
  }
  const stranger = async (method: string, path: string, fields = '') =>
    (
      await sendRaw(
        service.url,
        `${method} ${path} HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: ${address}\r\nContent-Length: 0\r\n${fields}\r\n`,
      )
    ).status;

  const cases: [string, number, () => Promise<number>][] = [
    ['no token', 401, () => stranger('GET', '/v1/assets')],
    ['a token of nobody', 401, () => stranger('GET', '/v1/quota', 'Authorization: Bearer aa.bb.cc\r\n')],
    ['a path that there is not', 404, () => stranger('GET', `/v2/${Math.random()}`)],
    ['a method that the resource has not', 405, () => stranger('DELETE', '/v1/quota')],
    ['a URL that cannot be read', 400, () => stranger('GET', '/v1/assets/%ff')],
  ];
  for (const [what, status, ask] of cases)
    test(`${what}: ${status} becomes 429, and who is known already goes on from the same address`, async () => {
      const honest = await caller('alice');
      assert.equal((await honest.get('/v1/quota')).status, 200);
      const answers: number[] = [];
      for (let index = 0; index < LIMIT * 2; index++) answers.push(await ask());
      assert.deepEqual(answers.slice(0, LIMIT), Array(LIMIT).fill(status));
      assert.equal(answers.at(-1), 429);
      assert.equal((await honest.get('/v1/quota')).status, 200);
      assert.equal((await honest.raw(png(300))).status, 201);
      assert.equal((await (await fetch(`${service.url}/livez`, { headers: honest.headers })).text()).length > 0, true);
    });

  test('what one address is refused for is not held against another', async () => {
    for (let index = 0; index < LIMIT * 2; index++) await stranger('GET', '/v1/assets');
    assert.equal(await stranger('GET', '/v1/assets'), 429);
    address = '198.51.100.1';
    assert.equal(await stranger('GET', '/v1/assets'), 401);
    assert.equal((await (await caller('new-here')).get('/v1/quota')).status, 200);
  });

  test('a refusal for too many tells when to come again', async () => {
    const client = await caller('alice');
    delete client.headers['authorization'];
    for (let index = 0; index < LIMIT * 2; index++) await client.get('/v1/assets');
    const { status, headers, body } = await client.get('/v1/assets');
    assert.equal(status, 429);
    assert.equal(body.type, 'urn:stowage:problem:too-many-requests');
    assert.ok(Number(headers.get('retry-after')) >= 1);
  });
});
