/** Connections that clients and balancers keep open while the process stops. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { launch, type Running } from '../support/processes.ts';
import { openSocket } from '../support/sockets.ts';
import { waitUntil } from '../support/wait-until.ts';

const ask = 'GET /v1/quota HTTP/1.1\r\nHost: localhost\r\n\r\n';

/** A connection that is kept: what came over it, and whether the service has closed it. */
class Kept {
  readonly socket: Socket;
  received = '';
  isClosed = false;

  constructor(url: string) {
    this.socket = openSocket(url);
    this.socket.on('data', (chunk) => {
      this.received += chunk.toString('latin1');
    });
    this.socket.on('close', () => {
      this.isClosed = true;
    });
  }

  /** Resolves with the head of the answer; rejects when the connection ends without one. */
  async answer(): Promise<string> {
    await waitUntil(() => this.isClosed || /\r\n\r\n(?:\{.*\})$/s.test(this.received));
    const { received } = this;
    this.received = '';
    assert.notEqual(received, '', 'closed without an answer');
    return received.slice(0, received.indexOf('\r\n\r\n'));
  }

  ask(): Promise<string> {
    this.socket.write(ask);
    return this.answer();
  }
}

describe('draining', () => {
  let database: TestDatabase;
  let directory = '';
  let service: Running;
  before(async () => {
    database = await createTestDatabase();
    directory = await mkdtemp(join(tmpdir(), 'stowage-draining-'));
    service = await launch({ DATA_DIR: directory, DATABASE_URL: database.url, DRAIN_DELAY: '5s', DRAIN_TIMEOUT: '2m' });
  });
  after(async () => {
    service.child.kill('SIGKILL');
    await service.exit;
    await database.drop();
    await rm(directory, { recursive: true, force: true });
  });

  test('every answer says that its connection closes, and no request is lost', async () => {
    const kept = Array.from({ length: 8 }, () => new Kept(service.url));
    for (const each of kept) assert.match(await each.ask(), /^HTTP\/1\.1 200 .*connection: keep-alive/is);
    const [idle, ...busy] = kept;
    assert.ok(idle);

    // An upload that is under way when the signal comes.
    const upload = new Kept(service.url);
    const picture = png(3000);
    upload.socket.write(`PUT /v1/assets/raw/a.png HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3000\r\n\r\n`);
    upload.socket.write(picture.subarray(0, 100));
    await waitUntil(async () => (await (await fetch(`${service.url}/metrics`)).text()).includes('active_uploads 1'));

    service.child.kill('SIGTERM');
    await waitUntil(async () => (await new Client(service.url).get('/readyz')).status === 503);
    for (const each of busy) {
      assert.match(await each.ask(), /^HTTP\/1\.1 200 .*connection: close/is);
      await waitUntil(() => each.isClosed);
    }
    upload.socket.write(picture.subarray(100));
    assert.match(await upload.answer(), /^HTTP\/1\.1 201 .*connection: close/is);
    await waitUntil(() => upload.isClosed && idle.isClosed);
    assert.equal(idle.received, '');
    assert.equal(await service.exit, 0);
  });
});
