/** Clients that ask and do not read what they are answered. */
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { Client } from '../support/client.ts';
import { glb, png } from '../support/files.ts';
import { startService, type TestService } from '../support/service.ts';
import { openSocket } from '../support/sockets.ts';
import { waitUntil } from '../support/wait-until.ts';

/** Asks, and reads nothing of what comes. */
function askAndLeave(service: TestService, request: string): Socket {
  const socket = openSocket(service.url);
  socket.pause();
  socket.write(request);
  return socket;
}

/** Those connections of the service that it has not closed, by the port of the client. */
function openConnections(service: TestService): Set<number | undefined> {
  const open = new Set<number | undefined>();
  service.service.app.server.on('connection', (socket: Socket) => {
    const { remotePort } = socket;
    open.add(remotePort);
    socket.on('close', () => open.delete(remotePort));
  });
  return open;
}

const ask = (path: string, fields = '', method = 'GET') =>
  `${method} ${path} HTTP/1.1\r\nHost: localhost\r\n${fields}\r\n`;

describe('answers that nobody reads', () => {
  let service: TestService;
  let content = '';
  let open = new Set<number | undefined>();
  before(async () => {
    service = await startService({
      env: {
        ...{ READ_TIMEOUT: '1s', MIN_DOWNLOAD_RATE: '64KiB', REQUESTS_PER_MINUTE: '0', UPLOADS_PER_HOUR: '0' },
        // Beyond this limit refusals take their time, and nothing piles up: see refusals.test.ts.
        REFUSALS_PER_MINUTE: '0',
      },
    });
    open = openConnections(service);
    const client = new Client(service.url);
    await fetch(`${service.url}/docs/js/scalar.js`).then((answer) => answer.arrayBuffer());
    const { body } = await client.raw(glb(12_000_000), { name: 'model.glb' });
    content = `/v1/assets/${body.id}/content`;
    for (let index = 0; index < 20; index++) await client.raw(png(200, index), { fields: { projectId: 'list' } });
  });
  after(() => service.close());

  const cases: [string, () => string][] = [
    ['a page of the reference', () => ask('/docs/js/scalar.js')],
    ['a file', () => ask(content, 'X-User-Id: alice\r\n')],
    ['a range of a file', () => ask(content, 'X-User-Id: alice\r\nRange: bytes=1-11000000\r\n')],
    ['the contract, pipelined', () => ask('/openapi.json').repeat(90)],
    ['small answers, pipelined without end', () => ask('/livez').repeat(100)],
    ['refusals', () => ask('/v2/nothing').repeat(100)],
    ['answers without a body', () => ask('/v1/quota', '', 'HEAD').repeat(100)],
    ['a list', () => ask('/v1/assets?limit=200').repeat(100)],
  ];
  for (const [what, request] of cases)
    test(`${what}: the connections are closed, and hold little memory meanwhile`, async () => {
      const memory = () => process.memoryUsage().external + process.memoryUsage().arrayBuffers;
      const before = memory();
      const sockets = Array.from({ length: 30 }, () => askAndLeave(service, request()));
      const again = setInterval(() => {
        for (const socket of sockets) if (socket.writable) socket.write(request());
      }, 50);
      let most = Number.POSITIVE_INFINITY;
      try {
        await waitUntil(async () => (await new Client(service.url).get('/v1/quota')).status === 200);
        most = memory() - before;
        // A socket that does not read does not notice that it was closed.
        const ports = sockets.map(({ localPort }) => localPort);
        await waitUntil(() => ports.every((port) => !open.has(port)), { timeout: 60_000 });
      } finally {
        clearInterval(again);
        for (const socket of sockets) socket.destroy();
      }
      assert.ok(most < 64 * 1024 * 1024, `${Math.round(most / 1024)} KiB`);
    });

  test('a slow reader above the lowest rate gets all of it', async () => {
    const socket = openSocket(service.url);
    let received = 0;
    socket.write(ask('/docs/js/scalar.js', 'Connection: close\r\n'));
    const closed = new Promise((resolve) => socket.on('close', resolve));
    // A mebibyte at a time, as long as the service would wait at the lowest rate for a part of that.
    socket.on('data', (chunk) => {
      received += chunk.length;
      socket.pause();
      setTimeout(() => socket.resume(), 20);
    });
    await closed;
    assert.ok(received > 4_000_000, `${received} bytes`);
  });
});

describe('places for downloads', () => {
  test('slow readers of others lose their places to who waits, and readiness does not fall', async () => {
    const service = await startService({
      env: { DOWNLOADS_AT_ONCE: '4', DOWNLOADS_PER_CALLER: '2', REQUESTS_PER_MINUTE: '0' },
    });
    try {
      const paths: Record<string, string> = {};
      for (const user of ['mallory', 'eve', 'bob']) {
        const { body } = await new Client(service.url, user).raw(glb(12_000_000), { name: 'model.glb' });
        paths[user] = `/v1/assets/${body.id}/content`;
      }
      const active = async (count: number) =>
        waitUntil(async () =>
          (await service.service.metrics.registry.metrics()).includes(`stowage_active_downloads ${count}\n`),
        );
      const sockets = ['mallory', 'eve'].flatMap((user) =>
        Array.from({ length: 6 }, () => askAndLeave(service, ask(paths[user] ?? '', `X-User-Id: ${user}\r\n`))),
      );
      await active(4);
      assert.equal((await fetch(`${service.url}/readyz`)).status, 200);
      const bob = new Client(service.url, 'bob');
      // The second finds the places of those who have dawdled for longer than the first had to wait.
      for (let index = 0; index < 3; index++) {
        const answer = await fetch(service.url + paths['bob'], { headers: bob.headers });
        assert.equal(answer.status, 200);
        assert.equal((await answer.arrayBuffer()).byteLength, 12_000_000);
      }
      for (const socket of sockets) socket.destroy();
      await active(0);
    } finally {
      await service.close();
    }
  });

  test('beyond the places of its caller a download waits, and is refused with 429', async () => {
    const service = await startService({ env: { DOWNLOADS_PER_CALLER: '1', UPLOAD_WAIT: '300ms' } });
    try {
      const client = new Client(service.url);
      const { body } = await client.raw(glb(12_000_000), { name: 'model.glb' });
      const path = `/v1/assets/${body.id}/content`;
      const held = askAndLeave(service, ask(path, 'X-User-Id: alice\r\n'));
      await waitUntil(async () => (await client.get(path, { range: 'bytes=0-1' })).status === 429);
      const refused = await client.get(path);
      assert.equal(refused.body.type, 'urn:stowage:problem:too-many-downloads');
      assert.match(refused.headers.get('retry-after') ?? '', /^\d+$/);
      held.destroy();
      await waitUntil(async () => (await client.get(path, { range: 'bytes=0-1' })).status === 206);
    } finally {
      await service.close();
    }
  });
});
