/** Sockets that keep a request alive by bytes of framing, which are no bytes of a file. */
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { startService, type TestService } from '../support/service.ts';
import { openSocket } from '../support/sockets.ts';
import { waitUntil } from '../support/wait-until.ts';

const SOCKETS = 4;
const boundary = 'b';
const form = `--${boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n`;
const chunkOf = (text: string) => `${text.length.toString(16)}\r\n${text}\r\n`;

describe('sockets that dribble', () => {
  let service: TestService;
  let tus = '';
  before(async () => {
    service = await startService({
      env: {
        ...{ BODY_TIMEOUT: '1s', REQUESTS_PER_MINUTE: '0', UPLOADS_PER_HOUR: '0', UPLOAD_WAIT: '2s' },
        // Bytes per second. What frames a body comes faster here, and counts for nothing all the same.
        MIN_UPLOAD_RATE: '4',
      },
    });
    const { headers } = await new Client(service.url).request('POST', '/v1/resumable', {
      headers: { 'tus-resumable': '1.0.0', 'upload-length': '100000', 'upload-metadata': 'filename YS5wbmc=' },
    });
    tus = headers.get('location') ?? '';
    const stored = await new Client(service.url).raw(png(), { name: 'a.png', headers: { 'idempotency-key': 'again' } });
    assert.equal(stored.status, 201);
  });
  after(() => service.close());

  const head = (line: string, fields = '') =>
    `${line} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n${fields}\r\n`;
  const routes: [string, () => string][] = [
    ['a raw upload', () => head('PUT /v1/assets/raw/a.png')],
    [
      'a form',
      () => head('POST /v1/assets', `Content-Type: multipart/form-data; boundary=${boundary}\r\n`) + chunkOf(form),
    ],
    [
      'a form before its first part',
      () => head('POST /v1/assets', `Content-Type: multipart/form-data; boundary=${boundary}\r\n`),
    ],
    [
      'a batch',
      () =>
        head('POST /v1/assets/batch', `Content-Type: multipart/form-data; boundary=${boundary}\r\n`) +
        chunkOf(form.replace('"file"', '"files"')),
    ],
    [
      'a resumable upload',
      () =>
        head(
          `PATCH ${tus}`,
          'Tus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\nContent-Type: application/offset+octet-stream\r\n',
        ),
    ],
    [
      'an upload that is there already',
      () =>
        head(
          'PUT /v1/assets/raw/a.png',
          'X-User-Id: alice\r\nContent-Type: application/octet-stream\r\nIdempotency-Key: again\r\n',
        ),
    ],
    ['a JSON body', () => head('PUT /v1/admin/quotas/a', 'Content-Type: application/json\r\n')],
    ['a body that nobody asked for', () => head('GET /v1/quota')],
    ['a body of a deletion', () => head('DELETE /v1/assets/019aa1b2-7c3d-7e4f-8a5b-6c7d8e9fa0b1')],
    ['a body for nothing', () => head('POST /v2/nothing')],
    [
      'a body with a type for a deletion',
      () => head('DELETE /v1/assets/019aa1b2-7c3d-7e4f-8a5b-6c7d8e9fa0b1', 'Content-Type: application/json\r\n'),
    ],
  ];
  const dribbles: [string, string, string][] = [
    ['extensions of a chunk', '1;a=', 'x'],
    ['an extension after another', '1', ';a'],
    ['zeros before the size of a chunk', '', '0'],
    ['an extension of the last chunk', '0;a=', 'x'],
    ['a trailer', '0\r\nX-A: ', 'b'],
    ['trailers', '0\r\n', 'X-A: b\r\n'],
  ];

  for (const [what, begin] of routes)
    test(`${what} is ended, whatever frames it`, async () => {
      const open = new Map<Socket, string>();
      const timers: NodeJS.Timeout[] = [];
      for (const [how, first, more] of dribbles)
        for (let index = 0; index < SOCKETS; index++) {
          const socket = openSocket(service.url);
          open.set(socket, how);
          socket.on('close', () => open.delete(socket));
          socket.resume();
          socket.write(begin() + first);
          timers.push(setInterval(() => socket.write(more), 100));
        }
      try {
        await waitUntil(() => open.size === 0, { timeout: 60_000 });
      } catch {
        assert.fail(`open: ${[...new Set(open.values())].join(', ')}`);
      } finally {
        for (const timer of timers) clearInterval(timer);
        for (const socket of open.keys()) socket.destroy();
      }
      assert.equal((await new Client(service.url).get('/v1/quota')).status, 200);
    });
});
