/** Places and memory that slow uploads hold while others wait for them. */
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { describe, test } from 'node:test';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { type ServiceOptions, startService, type TestService } from '../support/service.ts';
import { openSocket } from '../support/sockets.ts';
import { waitUntil } from '../support/wait-until.ts';

const MiB = 1024 * 1024;

/** A request whose body comes at 1.2 KB a second: above the lowest rate, below the contended one. */
class SlowUpload {
  readonly #socket: Socket;
  readonly #timer: NodeJS.Timeout;
  received = '';

  constructor(url: string, head: string) {
    this.#socket = openSocket(url);
    this.#socket.on('data', (chunk) => {
      this.received += chunk.toString('latin1');
    });
    this.#socket.write(`${head} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n`);
    this.#timer = setInterval(() => this.#socket.writable && this.#socket.write(Buffer.alloc(300)), 250);
    this.#socket.on('close', () => clearInterval(this.#timer));
  }

  headers(fields: string): this {
    this.#socket.write(`${fields}\r\n\r\n`);
    return this;
  }

  get status(): number {
    return Number(/^HTTP\/1\.1 (\d{3})/.exec(this.received)?.[1] ?? 0);
  }

  end(): void {
    clearInterval(this.#timer);
    this.#socket.destroy();
  }
}

const metric = async (service: TestService, name: string) =>
  Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(await service.service.metrics.registry.metrics())?.[1]);

async function under(
  options: ServiceOptions,
  work: (service: TestService, slow: SlowUpload[]) => Promise<void>,
): Promise<void> {
  const service = await startService(options);
  const slow: SlowUpload[] = [];
  try {
    await work(service, slow);
  } finally {
    for (const each of slow) each.end();
    await service.close();
  }
}

describe('uploads that dawdle', () => {
  const env = { UPLOADS_AT_ONCE: '64', UPLOADS_PER_CALLER: '16', REQUESTS_PER_MINUTE: '0', UPLOAD_WAIT: '1m' };
  const begin = (service: TestService, user: string, size: number) =>
    new SlowUpload(service.url, 'PUT /v1/assets/raw/a.png').headers(`X-User-Id: ${user}\r\nContent-Length: ${size}`);

  test('of a few callers leave places and memory for others, who need not wait for any to end', () =>
    under({ env: { ...env, PART_SIZE: '5MiB', UPLOAD_MEMORY: '80MiB' } }, async (service, slow) => {
      for (let caller = 0; caller < 4; caller++)
        for (let index = 0; index < 16; index++) slow.push(begin(service, `slow-${caller}`, 20 * MiB));
      // Each has the last place that leaves as many as it has.
      await waitUntil(async () => (await metric(service, 'stowage_active_uploads')) >= 48);
      for (let index = 0; index < 5; index++)
        assert.equal((await new Client(service.url, `bob-${index}`).raw(png(3000, index))).status, 201);
      assert.ok(slow.every(({ status }) => status === 0));
    }));

  test('lose places to those who wait, and most go on', () =>
    under({ env }, async (service, slow) => {
      for (let caller = 0; caller < 64; caller++) slow.push(begin(service, `slow-${caller}`, 900_000));
      await waitUntil(async () => (await metric(service, 'stowage_active_uploads')) === 64);
      // Nobody waits, so nobody is ended for being slow.
      assert.ok(slow.every(({ status }) => status === 0));

      const bob = new Client(service.url, 'bob');
      assert.equal((await bob.raw(png(3000))).status, 201);
      const created = await bob.request('POST', '/v1/resumable', {
        headers: { 'tus-resumable': '1.0.0', 'upload-length': '3000', 'upload-metadata': 'filename YS5wbmc=' },
      });
      const appended = await bob.request('PATCH', created.headers.get('location') ?? '', {
        headers: {
          'tus-resumable': '1.0.0',
          'upload-offset': '0',
          'content-type': 'application/offset+octet-stream',
        },
        body: png(3000),
      });
      assert.equal(appended.status, 204);
      const ended = slow.filter(({ status }) => status !== 0);
      assert.ok(ended.length >= 1 && ended.length <= slow.length / 2, `${ended.length} were ended`);
      for (const { received } of ended) assert.match(received, /^HTTP\/1\.1 408 .*request-timeout/s);
    }));
});

describe('parts that come to the disk store', () => {
  /** Links to parts of a direct upload, as paths. */
  async function partsOf(client: Client, size: number): Promise<string[]> {
    const { body } = await client.send('POST', '/v1/uploads', {
      fileName: 'm.glb',
      size,
      contentType: 'model/gltf-binary',
    });
    return (body['parts'] as { url: string }[]).map(({ url }) => new URL(url).pathname);
  }
  const begin = (service: TestService, path: string) =>
    new SlowUpload(service.url, `PUT ${path}`).headers(`Content-Length: ${5 * MiB}`);

  test('need places: beyond those of their caller they wait, and others do not', () =>
    under({ env: { PART_SIZE: '5MiB', UPLOADS_PER_CALLER: '2', UPLOAD_WAIT: '300ms' } }, async (service, slow) => {
      const paths = await partsOf(new Client(service.url, 'alice'), 30 * MiB);
      for (const path of paths.slice(0, 2)) slow.push(begin(service, path));
      await waitUntil(async () => (await metric(service, 'stowage_active_uploads')) === 2);
      const third = begin(service, paths[2] ?? '');
      slow.push(third);
      await waitUntil(() => third.status !== 0);
      assert.match(third.received, /^HTTP\/1\.1 429 .*retry-after: \d.*too-many-uploads/is);
      assert.equal((await new Client(service.url, 'bob').raw(png(3000))).status, 201);
      assert.ok(slow.slice(0, 2).every(({ status }) => status === 0));
    }));

  test('of one caller hold half of the memory at most', () =>
    under({ env: { PART_SIZE: '5MiB', UPLOAD_MEMORY: '20MiB', UPLOADS_PER_CALLER: '16' } }, async (service, slow) => {
      const paths = await partsOf(new Client(service.url, 'alice'), 40 * MiB);
      for (const path of paths) slow.push(begin(service, path));
      await waitUntil(async () => (await metric(service, 'stowage_active_uploads')) === 8);
      const held = await metric(service, 'stowage_part_buffer_bytes');
      assert.ok(held > 0 && held <= 10 * MiB, `${held} bytes`);
      for (let index = 0; index < 5; index++)
        assert.equal((await new Client(service.url, 'bob').raw(png(3000, index))).status, 201);
      // There was room for him, so nobody was ended for his sake.
      assert.ok(slow.every(({ status }) => status === 0));
    }));
});
