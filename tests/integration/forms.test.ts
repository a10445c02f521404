import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { startService, type TestService } from '../support/service.ts';
import { openSocket, sendRaw } from '../support/sockets.ts';
import { waitUntil } from '../support/wait-until.ts';

const LIMIT = 65_536;
const picture = png(500);
const bytes = (...parts: (Buffer | string)[]) =>
  Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part, 'latin1') : part)));
const part = (headers: string, content: Buffer | string) => bytes(`--XX\r\n${headers}\r\n\r\n`, content, '\r\n');
const field = (name: string, value: string) => part(`Content-Disposition: form-data; name="${name}"`, value);
const file = (name = 'a.png', content: Buffer = picture, fieldName = 'file') =>
  part(`Content-Disposition: form-data; name="${fieldName}"; filename="${name}"\r\nContent-Type: image/png`, content);
const end = '--XX--\r\n';

describe('forms', () => {
  let service: TestService;
  before(async () => {
    service = await startService({
      env: { MAX_FILE_SIZE: String(LIMIT), BODY_TIMEOUT: '2s', REQUESTS_PER_MINUTE: '0', UPLOADS_PER_HOUR: '0' },
    });
    // The directories are there from the first use on.
    await service.store.check({});
  });
  after(() => service.close());

  function form(
    body: Buffer,
    { type = 'multipart/form-data; boundary=XX', headers = '', path = '/v1/assets', user = 'forms' } = {},
  ): Buffer {
    return bytes(
      `POST ${path} HTTP/1.1\r\nHost: localhost\r\nX-User-Id: ${user}\r\nContent-Type: ${type}\r\n${headers}Content-Length: ${body.length}\r\n\r\n`,
      body,
    );
  }

  async function assertNothingLeft(user: string): Promise<void> {
    assert.deepEqual(await service.query('select state from assets where owner_id = $1', [user]), []);
    assert.deepEqual(
      await service.query('select 1 from quotas where owner_id = $1 and used_bytes + reserved_bytes + file_count > 0', [
        user,
      ]),
      [],
    );
    for (const folder of ['multipart', 'tmp'])
      assert.deepEqual(await readdir(join(service.config.DATA_DIR, 'objects', folder)), []);
  }

  const refusals: [string, Buffer, number, string, { type?: string; headers?: string }?][] = [
    ['without a boundary', bytes(file(), end), 400, 'malformed-multipart', { type: 'multipart/form-data' }],
    [
      'with an empty boundary',
      bytes(file(), end),
      400,
      'malformed-multipart',
      { type: 'multipart/form-data; boundary=""' },
    ],
    [
      'with a boundary of 252 bytes',
      bytes(file(), end),
      400,
      'malformed-multipart',
      { type: `multipart/form-data; boundary=${'x'.repeat(252)}` },
    ],
    [
      'with line feeds for line ends',
      Buffer.from(bytes(file(), end).toString('latin1').replaceAll('\r\n', '\n'), 'latin1'),
      400,
      'malformed-multipart',
    ],
    ['without its last boundary', file(), 400, 'malformed-multipart'],
    ['that is garbage', Buffer.from('hello world'), 400, 'malformed-multipart'],
    ['that is empty', Buffer.alloc(0), 400, 'unexpected-part'],
    ['without a part', Buffer.from(end), 400, 'unexpected-part'],
    ['without a file', bytes(field('projectId', 'p'), end), 400, 'unexpected-part'],
    [
      'with a part that has no disposition before a good file',
      bytes(part('X-Other: y', 'x'), file(), end),
      400,
      'malformed-multipart',
    ],
    [
      'with a line feed in the name of a field before a good file',
      bytes(field('a\nb', 'x'), file(), end),
      400,
      'malformed-multipart',
    ],
    ['with a carriage return in the name of a file', bytes(file('a\rb.png'), end), 400, 'malformed-multipart'],
    ['with NUL in the name of a field', bytes(field('a\0b', 'x'), file(), end), 400, 'invalid-parameter'],
    ['with NUL in the name of a file', bytes(file('a\0b.png'), end), 400, 'invalid-name'],
    ['with a file name in Latin-1', bytes(file('\xe9.png'), end), 400, 'invalid-name'],
    ['with a field after the file', bytes(file(), field('projectId', 'p'), end), 400, 'unexpected-part'],
    ['with a second file', bytes(file(), file('b.png'), end), 400, 'unexpected-part'],
    ['with an unknown field', bytes(field('colour', 'red'), file(), end), 400, 'invalid-parameter'],
    [
      'with a field that is there twice',
      bytes(field('projectId', 'a'), field('projectId', 'b'), file(), end),
      400,
      'unexpected-part',
    ],
    ['with a field named __proto__', bytes(field('__proto__', 'a'), file(), end), 400, 'unexpected-part'],
    ['with metadata that is no JSON', bytes(field('metadata', '{'), file(), end), 400, 'invalid-parameter'],
    [
      'with metadata that is no object of strings',
      bytes(field('metadata', '{"a":1}'), file(), end),
      400,
      'invalid-parameter',
    ],
    ['with a field of 100 KB', bytes(field('metadata', 'x'.repeat(100_000)), file(), end), 400, 'unexpected-part'],
    ['with the file in a part of another name', bytes(file('a.png', picture, 'upload'), end), 400, 'unexpected-part'],
    [
      'with a file part that has no file name',
      bytes(part('Content-Disposition: form-data; name="file"', 'text'), end),
      400,
      'unexpected-part',
    ],
    ['with a file one byte over the limit', bytes(file('a.png', png(LIMIT + 1)), end), 413, 'too-large'],
    ['with an empty file', bytes(file('a.png', Buffer.alloc(0)), end), 422, 'empty-file'],
    [
      'that is compressed',
      bytes(file(), end),
      415,
      'unsupported-media-type',
      { headers: 'Content-Encoding: gzip\r\n' },
    ],
    ['that is none', bytes(file(), end), 415, 'unsupported-media-type', { type: 'text/plain' }],
    [
      'with forty fields',
      bytes(...Array.from({ length: 40 }, (_, index) => field(`f${index}`, 'x')), file(), end),
      400,
      'unexpected-part',
    ],
  ];
  for (const [index, [title, body, status, type, options]] of refusals.entries()) {
    test(`a form ${title} is refused as ${type}, and nothing is left`, async () => {
      const user = `refused-${index}`;
      const answer = await sendRaw(service.url, form(body, { ...options, user }));
      assert.equal(answer.status, status, answer.body);
      assert.match(answer.headers, /content-type: application\/problem\+json/i);
      assert.equal(JSON.parse(answer.body).type, `urn:stowage:problem:${type}`);
      assert.equal(JSON.parse(answer.body).status, status);
      await assertNothingLeft(user);
    });
  }

  test('a file of exactly the limit is stored', async () => {
    const answer = await sendRaw(service.url, form(bytes(file('a.png', png(LIMIT)), end)));
    assert.equal(answer.status, 201, answer.body);
  });

  test('a form that says it is too large is refused before it is sent', async () => {
    const answer = await sendRaw(
      service.url,
      `POST /v1/assets HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=XX\r\nContent-Length: 99999999\r\n\r\n`,
    );
    assert.equal(answer.status, 413);
    const expecting = await sendRaw(
      service.url,
      `PUT /v1/assets/raw/a.png HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n\r\n`,
    );
    assert.equal(expecting.status, 413);
  });

  test('a client that expects 100 Continue gets it when its file is wanted', async () => {
    const socket = openSocket(service.url);
    let received = '';
    socket.on('data', (chunk) => {
      received += chunk;
    });
    socket.write(
      `PUT /v1/assets/raw/a.png HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: ${picture.length}\r\n\r\n`,
    );
    await waitUntil(() => received.startsWith('HTTP/1.1 100 Continue'));
    socket.write(picture);
    await waitUntil(() => received.includes('HTTP/1.1 201 Created'));
    socket.destroy();
  });

  for (const [title, how] of [
    ['is cut by a client that half-closes', 'end'],
    ['is cut by a client that resets', 'reset'],
    ['stalls', 'stall'],
  ] as const) {
    test(`a form that ${title} ends, and nothing is left`, async () => {
      const user = `cut-${how}`;
      const whole = form(bytes(file('a.png', png(60_000)), end), { user });
      const cut = whole.subarray(0, 40_000);
      if (how === 'reset') {
        const socket = openSocket(service.url);
        await new Promise((sent) => socket.write(cut, sent));
        socket.resetAndDestroy();
      } else {
        const answer = await sendRaw(service.url, cut, { end: how === 'end' });
        assert.equal(answer.status, how === 'end' ? 400 : 408);
        assert.match(answer.headers, /application\/problem\+json/);
      }
      await waitUntil(
        async () => (await service.query('select 1 from assets where owner_id = $1', [user])).length === 0,
      );
      await waitUntil(() =>
        service.service.metrics.registry.metrics().then((text) => text.includes('stowage_active_uploads 0')),
      );
      await assertNothingLeft(user);
    });
  }

  describe('of a batch', () => {
    const batch = (user: string, ...parts: (Buffer | string)[]) =>
      sendRaw(service.url, form(bytes(...parts), { path: '/v1/assets/batch', user }));
    const files = (count: number) =>
      Array.from({ length: count }, (_, index) => file(`${index}.png`, png(300, index), 'files'));

    test('ten files are stored, each with its outcome, in order', async () => {
      const answer = await batch('batch-10', field('projectId', 'p'), ...files(10), end);
      assert.equal(answer.status, 200);
      const { results } = JSON.parse(answer.body);
      assert.deepEqual(
        results.map((result: { status: number }) => result.status),
        Array(10).fill(201),
      );
      assert.deepEqual(
        results.map((result: { asset: { name: string } }) => result.asset.name),
        Array.from({ length: 10 }, (_, index) => `${index}.png`),
      );
      assert.ok(results.every((result: { asset: { projectId: string } }) => result.asset.projectId === 'p'));
    });

    test('a bad file among good ones is refused by itself', async () => {
      const [first, second] = files(2);
      const answer = await batch(
        'batch-mixed',
        first ?? '',
        file('bad.png', Buffer.from('not a picture'), 'files'),
        file('big.png', png(LIMIT + 500), 'files'),
        second ?? '',
        end,
      );
      const { results } = JSON.parse(answer.body);
      assert.deepEqual(
        results.map((result: { status: number }) => result.status),
        [201, 415, 413, 201],
      );
      assert.equal(results[1].problem.type, 'urn:stowage:problem:undetected-type');
      const rows = await service.query<{ used_bytes: string; reserved_bytes: string }>(
        "select used_bytes, reserved_bytes from quotas where owner_id = 'batch-mixed'",
      );
      assert.deepEqual(rows, [{ used_bytes: '600', reserved_bytes: '0' }]);
    });

    test('the eleventh file is refused, the ten before it stay', async () => {
      const answer = await batch('batch-11', ...files(11), end);
      const statuses = JSON.parse(answer.body).results.map((result: { status: number }) => result.status);
      assert.deepEqual(statuses, [...Array(10).fill(201), 400]);
    });

    test('a form that breaks off after two files tells of both', async () => {
      const answer = await batch(
        'batch-cut',
        ...files(2),
        '--XX\r\nContent-Disposition: form-data; name="files"; filename="3.png"\r\n\r\nabc',
      );
      assert.equal(answer.status, 200);
      const statuses = JSON.parse(answer.body).results.map((result: { status: number }) => result.status);
      assert.deepEqual(statuses.slice(0, 2), [201, 201]);
      assert.equal(statuses.at(-1), 400);
    });

    test('no file at all is 400', async () => {
      assert.equal((await batch('batch-0', end)).status, 400);
    });
  });

  test('a browser’s FormData with an empty optional field is taken', async () => {
    const answer = await new Client(service.url).upload(picture, { fields: { projectId: '' } });
    assert.equal(answer.status, 201);
    assert.equal(answer.body.projectId, undefined);
  });

  /** As if a version of the parser counted its parts under another name, or not at all. */
  async function withParserThat(changes: PropertyDescriptor, work: () => Promise<void>): Promise<void> {
    const require = createRequire(createRequire(import.meta.url).resolve('@fastify/multipart'));
    const { prototype } = require('@fastify/busboy/lib/types/multipart') as { prototype: object };
    Object.defineProperty(prototype, '_nparts', { configurable: true, ...changes });
    try {
      await work();
    } finally {
      Reflect.deleteProperty(prototype, '_nparts');
    }
  }

  for (const [what, changes] of [
    ['does not count its parts any more', { get: () => undefined, set: () => {} }],
    ['counts something else', { get: () => 0, set: () => {} }],
  ] as const) {
    for (const [path, name] of [
      ['/v1/assets', 'file'],
      ['/v1/assets/batch', 'files'],
    ] as const) {
      test(`to ${path} fail loudly with a parser that ${what}, and nothing is stored`, async () => {
        const user = `parser-${what.length}-${name}`;
        await withParserThat(changes, async () => {
          const before = service.log.length;
          const answer = await sendRaw(service.url, form(bytes(file('a.png', picture, name), end), { path, user }));
          assert.equal(answer.status, 500);
          assert.match(answer.body, /internal-error/);
          assert.match(service.log.slice(before).join('\n'), /"level":50.*@fastify\/busboy works in another way/);
        });
        await assertNothingLeft(user);
        const answer = await sendRaw(service.url, form(bytes(file('a.png', picture, name), end), { path, user }));
        assert.equal(answer.status, name === 'file' ? 201 : 200);
      });
    }
  }
});
