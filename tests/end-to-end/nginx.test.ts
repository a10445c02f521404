/** Behind a real nginx, configured as docs/proxies.md says. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import * as tus from 'tus-js-client';
import { Client, SECRET } from '../support/client.ts';
import { glb, png } from '../support/files.ts';
import { freePort, type Nginx, nginxIn, startNginx as startNginxAs } from '../support/nginx.ts';
import { createTestDatabase } from '../support/postgres.ts';
import { launch, type Running } from '../support/processes.ts';
import { programSkip } from '../support/programs.ts';
import { startService, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

const MiB = 1024 * 1024;
/** An asset that there is not. */
const NOBODYS = '019aa1b2-7c3d-7e4f-8a5b-6c7d8e9fa0b1';
const snippet = nginxIn('proxies.md');

/** As the document configures it, in front of these instances. */
const startNginx = (hosts: string[]): Promise<Nginx> => startNginxAs(snippet, hosts);

describe('behind nginx', { skip: programSkip('nginx') }, () => {
  let service: TestService;
  let nginx: Nginx;
  let url: string;
  let client: Client;
  before(async () => {
    service = await startService({
      env: { AUTH_JWT_SECRET: SECRET, TRUST_PROXY: 'loopback', DEFAULT_QUOTA: '2GiB', REQUESTS_PER_MINUTE: '0' },
    });
    nginx = await startNginx([new URL(service.url).host]);
    ({ url } = nginx);
    client = await Client.withToken(url);
  });
  after(async () => {
    await nginx.stop();
    await service.close();
  });

  test('links and Location lead back through it', async () => {
    const { body, headers } = await client.upload(png(3000));
    assert.equal(headers.get('location'), `/v1/assets/${body.id}`);
    const link = await client.get(`/v1/assets/${body.id}/download`);
    assert.ok(String(link.body['url']).startsWith(`${url}/v1/links/`), String(link.body['url']));
    assert.equal((await (await fetch(String(link.body['url']))).arrayBuffer()).byteLength, 3000);
    const offer = await client.send('POST', '/v1/uploads', { fileName: 'p.png', size: 3000, contentType: 'image/png' });
    const [part] = offer.body['parts'] as { url: string }[];
    assert.ok(part);
    assert.ok(part.url.startsWith(`${url}/v1/links/parts/`));
    assert.equal((await fetch(part.url, { method: 'PUT', body: png(3000) })).status, 204);
    assert.equal((await client.request('POST', `/v1/uploads/${offer.body['uploadId']}/complete`)).status, 201);
  });

  test('header fields of somebody who is no proxy are not believed', async () => {
    const stranger = await startService({ env: { AUTH_JWT_SECRET: SECRET, TRUST_PROXY: '192.0.2.1' } });
    try {
      const direct = await Client.withToken(stranger.url);
      const { body } = await direct.raw(png(300));
      const { body: link } = await direct.get(`/v1/assets/${body.id}/download`, { 'x-forwarded-host': 'evil.example' });
      assert.ok(String(link['url']).startsWith(stranger.url), String(link['url']));
    } finally {
      await stranger.close();
    }
  });

  test('a large body streams through: the service has bytes before the client has sent all', async () => {
    const bytes = glb(300 * MiB, 1);
    let seen = 0;
    const halfway = Promise.withResolvers<void>();
    const body = new ReadableStream<Uint8Array>({
      async pull(controller) {
        if (seen >= bytes.length) return controller.close();
        // Half of it is held back until parts are in the service's buffers.
        if (seen === bytes.length / 2)
          await waitUntil(async () => {
            const text = await service.service.metrics.registry.metrics();
            return /stowage_part_buffer_bytes [1-9]/.test(text);
          }).then(() => halfway.resolve(), halfway.reject);
        const end = seen + MiB;
        controller.enqueue(bytes.subarray(seen, end));
        seen = end;
      },
    });
    const answer = await fetch(`${url}/v1/assets/raw/m.glb`, {
      method: 'PUT',
      headers: client.headers,
      body,
      duplex: 'half',
    } as RequestInit);
    await halfway.promise;
    assert.equal(answer.status, 201);
    const { id } = (await answer.json()) as { id: string };
    assert.ok((await client.content(id)).body.equals(bytes));
  });

  test('a file that is too large is 413, and the client gets to read it', async () => {
    const { status, body } = await client.raw(Buffer.alloc(12 * MiB), { name: 'p.png', type: 'image/png' });
    assert.equal(status, 413);
    assert.equal(body.type, 'urn:stowage:problem:too-large');
  });

  test('tus goes through it', async () => {
    const bytes = glb(40 * MiB, 2);
    const id = await new Promise<string>((resolve, reject) => {
      new tus.Upload(bytes, {
        endpoint: `${url}/v1/resumable`,
        metadata: { filename: 'm.glb' },
        headers: client.headers,
        onError: reject,
        onSuccess: ({ lastResponse }) => resolve(lastResponse.getHeader('asset-id') ?? ''),
      }).start();
    });
    assert.ok((await client.content(id)).body.equals(bytes));
  });
});

describe('two instances behind nginx', { skip: programSkip('nginx') }, () => {
  test('are restarted one after the other while requests go on', async () => {
    const database = await createTestDatabase();
    const directory = mkdtempSync(join(tmpdir(), 'stowage-instances-'));
    const start = async (port: number): Promise<Running> =>
      launch({
        PORT: String(port),
        DATA_DIR: directory,
        DATABASE_URL: database.url,
        AUTH_JWT_SECRET: SECRET,
        TRUST_PROXY: 'loopback',
        REQUESTS_PER_MINUTE: '0',
        UPLOADS_PER_HOUR: '0',
        LOG_LEVEL: 'warn',
      });
    const ports = [await freePort(), await freePort()];
    const instances = new Map<number, Running>();
    for (const port of ports) instances.set(port, await start(port));
    const nginx = await startNginx(ports.map((port) => `127.0.0.1:${port}`));
    try {
      const client = await Client.withToken(nginx.url);
      let isOver = false;
      const outcomes = new Map<string, number>();
      /** POST is what nginx sends once, whatever happens to it. */
      const load = async (seed: number) => {
        for (let index = 0; !isOver; index++) {
          const outcome = await (index % 4 === 0
            ? client.upload(png(300, seed))
            : client.send('POST', '/v1/assets/bulk', { action: 'trash', ids: [NOBODYS] })
          ).then(
            ({ status }) => String(status),
            (error) => String(error.cause ?? error),
          );
          outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
          await pause(5);
        }
      };
      const loads = Promise.all(Array.from({ length: 8 }, (_, seed) => load(seed)));
      for (const port of ports) {
        const instance = instances.get(port);
        assert.ok(instance);
        instance.child.kill('SIGTERM');
        assert.equal(await instance.exit, 0);
        instances.set(port, await start(port));
      }
      isOver = true;
      await loads;
      // What is on its way over a connection at the moment it closes can be lost on a busy machine (RFC 9112 section 9.3.1).
      const [stored = 0, answered = 0] = [outcomes.get('201'), outcomes.get('200')];
      const failed = [...outcomes.values()].reduce((sum, each) => sum + each, 0) - stored - answered;
      assert.ok(stored > 0 && answered > 0);
      assert.ok(failed <= 0.01 * (stored + answered), `${JSON.stringify([...outcomes])} ${nginx.errors()}`);
    } finally {
      await nginx.stop();
      for (const { child, exit } of instances.values()) {
        child.kill('SIGKILL');
        await exit;
      }
      await database.drop();
      rmSync(directory, { recursive: true, force: true });
    }
  });
});
