import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { describe, test } from 'node:test';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { type ServiceOptions, startService, type TestService } from '../support/service.ts';
import { openSocket, sendRaw } from '../support/sockets.ts';
import { waitUntil } from '../support/wait-until.ts';

async function withService(options: ServiceOptions, work: (service: TestService) => Promise<void>): Promise<void> {
  const service = await startService(options);
  try {
    await work(service);
  } finally {
    await service.close();
  }
}

/** An upload that has its place and waits for the rest of its body. */
function heldUpload(service: TestService, user: string): { socket: Socket; finish: () => Promise<string> } {
  const socket = openSocket(service.url);
  const picture = png(500);
  let answer = '';
  socket.on('data', (chunk) => {
    answer += chunk;
  });
  socket.write(
    `PUT /v1/assets/raw/a.png HTTP/1.1\r\nHost: localhost\r\nX-User-Id: ${user}\r\nContent-Length: ${picture.length}\r\n\r\n`,
  );
  socket.write(picture.subarray(0, 100));
  return {
    socket,
    finish: async () => {
      socket.write(picture.subarray(100));
      await waitUntil(() => answer.includes('\r\n\r\n'));
      socket.destroy();
      return answer;
    },
  };
}

const active = (service: TestService, count: number) =>
  waitUntil(async () =>
    (await service.service.metrics.registry.metrics()).includes(`stowage_active_uploads ${count}\n`),
  );

describe('slow clients', () => {
  test('a hundred sockets with slow headers or slow bodies are closed, and others are served meanwhile', () =>
    withService(
      { env: { BODY_TIMEOUT: '1s', REQUESTS_PER_MINUTE: '0', UPLOADS_PER_CALLER: '64' } },
      async (service) => {
        let open = 100;
        const timers: NodeJS.Timeout[] = [];
        for (let index = 0; index < 100; index++) {
          const socket = openSocket(service.url);
          socket.on('close', () => {
            open -= 1;
          });
          socket.write(
            index % 2
              ? `GET /v1/assets HTTP/1.1\r\nHost: localhost\r\n`
              : `PUT /v1/assets/raw/a.png HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n`,
          );
          timers.push(setInterval(() => socket.write(index % 2 ? 'X-A: b\r\n' : 'x'), 300));
        }
        // An honest request may be slow too, once, on a busy machine.
        await waitUntil(async () => (await new Client(service.url).get('/v1/quota')).status === 200);
        await waitUntil(() => open === 0);
        for (const timer of timers) clearInterval(timer);
        await active(service, 0);
        assert.deepEqual(await service.query('select 1 from assets'), []);
      },
    ));

  test('a JSON body that never ends is 408', () =>
    withService({ env: { BODY_TIMEOUT: '1s' } }, async (service) => {
      const answer = await sendRaw(
        service.url,
        'PUT /v1/admin/quotas/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{"limit"',
      );
      assert.equal(answer.status, 408);
      assert.match(answer.body, /urn:stowage:problem:request-timeout/);
    }));

  test('an honest upload above the minimum rate may take longer than any timeout', () =>
    withService({ env: { BODY_TIMEOUT: '1s', MIN_UPLOAD_RATE: '1KiB' } }, async (service) => {
      const picture = png(20_000);
      /** About 5 KiB a second for four seconds. On a busy machine this client may not be above the rate itself. */
      async function sendSlowly(): Promise<boolean> {
        const socket = openSocket(service.url);
        let answer = '';
        socket.on('data', (chunk) => {
          answer += chunk;
        });
        socket.write(
          `PUT /v1/assets/raw/a.png HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${picture.length}\r\n\r\n`,
        );
        for (let sent = 0; sent < picture.length; sent += 500) {
          socket.write(picture.subarray(sent, sent + 500));
          await new Promise((pause) => setTimeout(pause, 100));
        }
        await waitUntil(() => answer.includes('\r\n\r\n') || socket.destroyed);
        socket.destroy();
        return answer.startsWith('HTTP/1.1 201 ');
      }
      await waitUntil(sendSlowly, { timeout: 60_000 });
    }));
});

describe('bounded uploads', () => {
  test('an upload over the bound of its caller waits for a place and then gets it; other callers do not wait', () =>
    withService({ env: { UPLOADS_PER_CALLER: '1', UPLOADS_AT_ONCE: '4', UPLOAD_WAIT: '20s' } }, async (service) => {
      const held = heldUpload(service, 'alice');
      await active(service, 1);
      let settled = false;
      const waiting = new Client(service.url, 'alice').raw(png()).finally(() => {
        settled = true;
      });
      assert.equal((await new Client(service.url, 'bob').raw(png())).status, 201);
      assert.equal(settled, false);
      assert.match(await held.finish(), /^HTTP\/1\.1 201 /);
      assert.equal((await waiting).status, 201);
    }));

  test('after the wait the answer is 429 for the caller’s bound and 503 for that of all', () =>
    withService({ env: { UPLOADS_PER_CALLER: '1', UPLOADS_AT_ONCE: '1', UPLOAD_WAIT: '200ms' } }, async (service) => {
      const held = heldUpload(service, 'alice');
      await active(service, 1);
      const own = await new Client(service.url, 'alice').raw(png());
      assert.equal(own.status, 429);
      assert.equal(own.body.type, 'urn:stowage:problem:too-many-uploads');
      assert.match(own.headers.get('retry-after') ?? '', /^\d+$/);
      const other = await new Client(service.url, 'bob').raw(png());
      assert.equal(other.status, 503);
      assert.match(other.headers.get('retry-after') ?? '', /^\d+$/);
      held.socket.destroy();
      await active(service, 0);
      assert.equal((await new Client(service.url, 'bob').raw(png())).status, 201);
    }));

  test('when the memory for parts is taken, the next upload waits and is refused with 503', () =>
    withService({ env: { UPLOAD_MEMORY: '5MiB', PART_SIZE: '5MiB', UPLOAD_WAIT: '300ms' } }, async (service) => {
      const socket = openSocket(service.url);
      socket.write('PUT /v1/assets/raw/m.glb HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000000\r\n\r\n');
      await active(service, 1);
      const answer = await new Client(service.url, 'bob').raw(png());
      assert.equal(answer.status, 503);
      assert.equal(answer.body.type, 'urn:stowage:problem:overloaded');
      socket.destroy();
      await active(service, 0);
      assert.equal((await new Client(service.url, 'bob').raw(png())).status, 201);
    }));
});

describe('rates', () => {
  test('uploads are counted per caller over all instances, file by file, refused ones too', () =>
    withService({ env: { UPLOADS_PER_HOUR: '3' } }, async (service) => {
      const second = await startService({ beside: service, env: { UPLOADS_PER_HOUR: '3' } });
      try {
        assert.equal((await new Client(service.url).raw(png())).headers.get('ratelimit-remaining'), '2');
        assert.equal((await new Client(second.url).raw(Buffer.from('no picture'))).status, 415);
        assert.equal((await new Client(service.url).upload(png())).headers.get('ratelimit-remaining'), '0');
        const over = await new Client(second.url).upload(png());
        assert.equal(over.status, 429);
        assert.equal(over.body.type, 'urn:stowage:problem:too-many-requests');
        assert.ok(Number(over.headers.get('retry-after')) > 3000);
        assert.equal((await new Client(second.url, 'bob').upload(png())).status, 201);
      } finally {
        await second.close();
      }
    }));

  test('each file of a batch counts', () =>
    withService({ env: { UPLOADS_PER_HOUR: '2' } }, async (service) => {
      const form = new FormData();
      for (const name of ['1.png', '2.png', '3.png']) form.append('files', new Blob([png()]), name);
      const { body } = await new Client(service.url).request('POST', '/v1/assets/batch', { body: form });
      assert.deepEqual(
        (body['results'] as { status: number }[]).map(({ status }) => status),
        [201, 201, 429],
      );
    }));

  test('requests are counted per caller in a minute, but for probes; 0 turns the count off', async () => {
    await withService({ env: { REQUESTS_PER_MINUTE: '3' } }, async (service) => {
      const client = new Client(service.url);
      for (let index = 0; index < 3; index++) assert.equal((await client.get('/v1/quota')).status, 200);
      const over = await client.get('/v1/quota');
      assert.equal(over.status, 429);
      assert.equal(over.body.type, 'urn:stowage:problem:too-many-requests');
      assert.match(over.headers.get('retry-after') ?? '', /^\d+$/);
      assert.equal((await new Client(service.url, 'bob').get('/v1/quota')).status, 200);
      for (let index = 0; index < 10; index++) assert.equal((await client.get('/livez')).status, 200);
    });
    await withService({ env: { REQUESTS_PER_MINUTE: '0' } }, async (service) => {
      for (let index = 0; index < 20; index++)
        assert.equal((await new Client(service.url).get('/v1/quota')).status, 200);
    });
  });
});
