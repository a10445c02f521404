/** What becomes of connections when the listener closes. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { Connections } from '../../src/http/connections.ts';
import { openSocket } from '../support/sockets.ts';

const ask = 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n';

describe('the end of accepting', () => {
  let connections: Connections;
  let server: Server;
  let url: string;
  beforeEach(async () => {
    connections = new Connections({ onRequest: () => {}, onRefused: () => {} });
    server = connections.createServer((_request, response) => response.end('done'), {
      http: {},
      keepAliveTimeout: 60_000,
    });
    await once(server.listen(0, '127.0.0.1'), 'listening');
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterEach(() => {
    server.close();
    server.closeAllConnections();
  });

  /** What comes next over the connection; empty when it ends without anything. */
  async function answer(socket: Socket): Promise<string> {
    const [chunk] = await Promise.race([once(socket, 'data'), once(socket, 'close')]);
    return Buffer.isBuffer(chunk) ? chunk.toString('latin1') : '';
  }

  test('closes no connection, also none that carries nothing; whoever comes later is refused', async () => {
    const kept = openSocket(url);
    kept.write(ask);
    assert.match(await answer(kept), /^HTTP\/1\.1 200 /);
    await connections.stopAccepting();
    await assert.rejects(fetch(url), (error) => error instanceof Error && /ECONNREFUSED/.test(String(error.cause)));
    kept.write(ask);
    assert.match(await answer(kept), /^HTTP\/1\.1 200 /);
  });

  test('comes when the kernel holds no connection that was made: each of them is answered', async () => {
    // From here on each turn of the event loop looks for connections once before it comes back.
    await turn();
    const sockets = Array.from({ length: 60 }, () => openSocket(url));
    const answers = sockets.map((socket) => {
      socket.write(ask);
      return answer(socket);
    });
    // By then the kernel has connected them, and the process has taken none of them.
    await new Promise<void>((resolve) => process.nextTick(resolve));
    await connections.stopAccepting();
    for (const each of await Promise.all(answers)) assert.match(each, /^HTTP\/1\.1 200 /);
  });
});
