import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type Answer, type AnyBody, Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { startService, type TestService } from '../support/service.ts';

describe('requests on a record with conditions', () => {
  let service: TestService;
  let client: Client;
  before(async () => {
    service = await startService({ env: { UPLOADS_PER_HOUR: '0', REQUESTS_PER_MINUTE: '0' } });
    client = new Client(service.url, 'careful');
  });
  after(() => service.close());

  async function stored(): Promise<{ path: string; etag: string }> {
    const { body } = await client.raw(png());
    const path = `/v1/assets/${body.id}`;
    return { path, etag: (await client.get(path)).headers.get('etag') ?? '' };
  }

  test('a record the client has is not sent again', async () => {
    const { path, etag } = await stored();
    for (const tags of [etag, `W/${etag}`, `"x", ${etag}`, '*']) {
      const answer = await client.get(path, { 'if-none-match': tags });
      assert.equal(answer.status, 304, tags);
      assert.equal(answer.headers.get('etag'), etag);
      assert.equal(answer.headers.get('cache-control'), 'private, no-cache');
      assert.equal(String(answer.body), '');
      assert.equal((await client.request('HEAD', path, { headers: { 'if-none-match': tags } })).status, 304);
    }
    assert.equal((await client.get(path, { 'if-none-match': '"x"' })).status, 200);
    await client.send('PATCH', path, { name: 'changed.png' });
    assert.equal((await client.get(path, { 'if-none-match': etag })).status, 200);
  });

  test('a record that is another than the client wants is refused', async () => {
    const { path, etag } = await stored();
    assert.equal((await client.get(path, { 'if-match': etag })).status, 200);
    assert.equal((await client.get(path, { 'if-match': '*' })).status, 200);
    for (const tags of ['"x"', `W/${etag}`]) assert.equal((await client.get(path, { 'if-match': tags })).status, 412);
    // If-Match goes first.
    assert.equal((await client.get(path, { 'if-match': '"x"', 'if-none-match': etag })).status, 412);
  });

  type Headers = Record<string, string>;
  const changes: [string, (path: string, headers: Headers) => Promise<Answer<AnyBody>>][] = [
    ['PATCH', (path, headers) => client.send('PATCH', path, { metadata: { a: 'b' } }, headers)],
    ['PATCH of the name', (path, headers) => client.send('PATCH', path, { name: 'n.png' }, headers)],
    ['DELETE', (path, headers) => client.request('DELETE', path, { headers })],
    ['DELETE for good', (path, headers) => client.request('DELETE', `${path}?permanent=true`, { headers })],
    ['restore', (path, headers) => client.request('POST', `${path}/restore`, { headers })],
  ];
  for (const [name, change] of changes) {
    const ready = async () => {
      const { path } = await stored();
      if (name === 'restore') await client.request('DELETE', path);
      return { path, etag: (await client.get(path)).headers.get('etag') ?? '' };
    };

    test(`${name} is refused by a condition that does not hold, and changes nothing`, async () => {
      const { path, etag } = await ready();
      const conditions: Headers[] = [
        { 'if-match': '"x"' },
        { 'if-match': `W/${etag}` },
        { 'if-none-match': '*' },
        { 'if-none-match': etag },
        { 'if-none-match': `"y", W/${etag}` },
        { 'if-match': etag, 'if-none-match': '*' },
      ];
      for (const headers of conditions) {
        const answer = await change(path, headers);
        assert.equal(answer.status, 412, JSON.stringify(headers));
        assert.equal(answer.body.type, 'urn:stowage:problem:precondition-failed');
        assert.equal(answer.headers.get('etag'), etag);
      }
      for (const field of ['if-match', 'if-none-match'])
        for (const malformed of ['abc', '"a" "b"', '', '*, "a"'])
          assert.equal((await change(path, { [field]: malformed })).status, 400, `${field}: ${malformed}`);
      assert.equal((await client.get(path)).headers.get('etag'), etag);
    });

    test(`${name} goes on under conditions that hold`, async () => {
      for (const conditions of [
        (etag: string) => ({ 'if-match': etag }),
        (etag: string) => ({ 'if-match': `"x",${etag}` }),
        () => ({ 'if-match': '*' }),
        () => ({ 'if-none-match': '"x"' }),
        (etag: string) => ({ 'if-match': etag, 'if-none-match': '"x"' }),
      ]) {
        const { path, etag } = await ready();
        const { status } = await change(path, conditions(etag));
        assert.ok(status === 200 || status === 204, String(status));
      }
    });

    test(`${name} of what is not there is 404, whatever the condition`, async () => {
      const unknown = '/v1/assets/019aa1b2-7c3d-7e4f-8a5b-6c7d8e9fa0b1';
      const foreign = await new Client(service.url, 'stranger').raw(png());
      for (const path of [unknown, `/v1/assets/${foreign.body.id}`])
        for (const headers of [{ 'if-none-match': '*' }, { 'if-match': '*' }, { 'if-match': '"x"' }] as Headers[])
          assert.equal((await change(path, headers)).status, 404);
    });
  }

  test('what the state does not allow is refused for that, whatever the condition', async () => {
    const { path } = await stored();
    assert.equal((await client.request('POST', `${path}/restore`, { headers: { 'if-match': '"x"' } })).status, 409);
    await client.request('DELETE', path);
    assert.equal((await client.send('PATCH', path, { name: 'n.png' }, { 'if-none-match': '*' })).status, 409);
  });

  test('of many changes under the same If-Match one is made, and under * all are', async () => {
    const { path, etag } = await stored();
    const race = (headers: Headers) =>
      Promise.all(
        Array.from({ length: 12 }, (_, index) => client.send('PATCH', path, { metadata: { n: `${index}` } }, headers)),
      );
    const statuses = (answers: { status: number }[]) => answers.map(({ status }) => status).sort((a, b) => a - b);
    assert.deepEqual(statuses(await race({ 'if-match': etag })), [200, ...Array(11).fill(412)]);
    assert.deepEqual(statuses(await race({ 'if-match': '*' })), Array(12).fill(200));
    assert.deepEqual(statuses(await race({ 'if-none-match': '"x"' })), Array(12).fill(200));
  });
});
