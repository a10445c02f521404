/** Requests of one connection that come before the answers to those before them, and what comes behind a request. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { png } from '../support/files.ts';
import { startService, type TestService } from '../support/service.ts';
import { openSocket } from '../support/sockets.ts';
import { waitUntil } from '../support/wait-until.ts';

describe('answers of one connection', () => {
  let service: TestService;
  before(async () => {
    service = await startService({ env: { UPLOADS_PER_CALLER: '1' } });
  });
  after(() => service.close());

  /** Statuses in the order in which they come, until the service closes the connection. */
  function statuses(...pieces: (string | Buffer)[]): Promise<number[]> {
    return new Promise((resolve) => {
      const socket = openSocket(service.url);
      let received = '';
      socket.on('data', (chunk) => {
        received += chunk.toString('latin1');
      });
      socket.on('close', () =>
        resolve([...received.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map((found) => Number(found[1]))),
      );
      socket.write(Buffer.concat(pieces.map((piece) => Buffer.from(piece))));
    });
  }
  const picture = png(2000);
  const put = (length = picture.length) =>
    `PUT /v1/assets/raw/a.png HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${length}\r\n\r\n`;
  const get = (path: string, fields = '') => `GET ${path} HTTP/1.1\r\nHost: localhost\r\n${fields}\r\n`;
  const count = async () => Number((await service.query<{ n: string }>('select count(*) as n from assets'))[0]?.n);

  test('come in the order of requests, however long each takes', async () => {
    const before = await count();
    const last = get('/v2/nothing', 'Connection: close\r\n');
    assert.deepEqual(await statuses(put(), picture, get('/livez'), last), [201, 200, 404]);
    assert.deepEqual(await statuses(get('/v1/quota'), put(), picture, last), [200, 201, 404]);
    assert.equal(await count(), before + 2);
  });

  test('are worked on one at a time: who sends requests without waiting occupies one place of anything', async () => {
    const { admission } = service.service.core;
    const held = openSocket(service.url);
    held.write(put());
    await waitUntil(() => admission.active === 1);
    const closing = get('/v2/nothing', 'Connection: close\r\n');
    const answers = statuses(put(), picture, put(), picture, put(), picture, closing);
    await waitUntil(() => admission.waiting > 0);
    // Requests that came together would be begun together, long before these are answered.
    for (let index = 0; index < 3; index++) assert.equal((await fetch(`${service.url}/v1/quota`)).status, 200);
    assert.equal(admission.waiting, 1);
    held.destroy();
    assert.deepEqual(await answers, [201, 201, 201, 404]);
  });

  test('what is stored is answered first, whatever comes behind it', async () => {
    for (const [what, behind] of [
      ['the rest of a file whose length was told too small', Buffer.alloc(500, 1)],
      ['a line end and nonsense', '\r\n\0\0\0\r\n\r\n'],
      ['a request that cannot be read', 'GET / HTTP/9.9\r\n\r\n'],
      ['a request line without end', 'X'.repeat(70_000)],
    ] as const) {
      const before = await count();
      const [first, ...others] = await statuses(put(), picture, behind);
      assert.equal(first, 201, what);
      // Then the refusal, or nothing when the first has closed the connection.
      assert.ok(others.length <= 1 && others.every((status) => status >= 400 && status < 500), `${what}: ${others}`);
      assert.equal(await count(), before + 1, what);
    }
  });

  test('a request whose body cannot be read is refused, and one that waits behind it is not begun', async () => {
    const before = await count();
    const chunked = 'PUT /v1/assets/raw/a.png HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n';
    assert.deepEqual(await statuses(chunked, 'nonsense\r\n', put(), picture), [400]);
    assert.equal(await count(), before);
  });
});
