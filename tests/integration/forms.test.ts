import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { AssetDocument } from '../../src/assets/asset.ts';
import { Client } from '../support/client.ts';
import { glb, png } from '../support/files.ts';
import { startService, type TestService } from '../support/service.ts';
import { openSocket, sendRaw } from '../support/sockets.ts';
import { waitUntil } from '../support/wait-until.ts';

const LIMIT = 65_536;
const MiB = 1024 * 1024;
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
    ['that is empty', Buffer.alloc(0), 400, 'malformed-multipart'],
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
    [
      'with a field before and after the file',
      bytes(field('projectId', 'p'), file(), field('projectId', 'p'), end),
      400,
      'unexpected-part',
    ],
    ['with an unknown field after the file', bytes(file(), field('colour', 'red'), end), 400, 'invalid-parameter'],
    ['with a bad project after the file', bytes(file(), field('projectId', '../p'), end), 400, 'invalid-parameter'],
    [
      'with an unknown asset type after the file',
      bytes(file(), field('assetType', 'x'), end),
      400,
      'invalid-parameter',
    ],
    ['with bad metadata after the file', bytes(file(), field('metadata', '{"a":1}'), end), 400, 'invalid-parameter'],
    [
      'with an asset type after the file that does not allow it',
      bytes(file(), field('assetType', 'audio'), end),
      415,
      'type-not-allowed',
    ],
    [
      'with a digest after the file that is of other bytes',
      bytes(file(), field('sha256', '0'.repeat(64)), end),
      422,
      'digest-mismatch',
    ],
    ['that is cut in a field after the file', bytes(file(), field('projectId', 'p')), 400, 'malformed-multipart'],
    [
      'with __proto__ in its metadata',
      bytes(field('metadata', '{"__proto__":"a"}'), file(), end),
      400,
      'invalid-parameter',
    ],
    ['with a quote in the name of a file', bytes(file('a"b.png'), end), 400, 'malformed-multipart'],
    ['with a line break in the name of a file', bytes(file('a\r\nb.png'), end), 400, 'malformed-multipart'],
    ['with a folded line in the name of a file', bytes(file('a\r\n b.png'), end), 400, 'malformed-multipart'],
    ['with a header field in the name of a file', bytes(file('a\r\nX-A: b.png'), end), 400, 'malformed-multipart'],
    ['with a line feed in the name of a file', bytes(file('a\nb.png'), end), 400, 'malformed-multipart'],
    ['with a file that has two names', bytes(file('a.png"; filename="b.png'), end), 400, 'malformed-multipart'],
    [
      'with a file in base64',
      bytes(
        part(
          'Content-Disposition: form-data; name="file"; filename="a.png"\r\nContent-Transfer-Encoding: base64',
          picture.toString('base64'),
        ),
        end,
      ),
      400,
      'malformed-multipart',
    ],
    ['with a field that is not UTF-8', bytes(field('metadata', '{"a":"\xe9"}'), file(), end), 400, 'unexpected-part'],
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
      const answer = await batch('batch-10', field('projectId', 'of-ten'), ...files(10), end);
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
      assert.ok(results.every((result: { asset: { projectId: string } }) => result.asset.projectId === 'of-ten'));
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

    test('fields between and after the files hold for all of them', async () => {
      const [first = '', second = '', third = ''] = files(3);
      const answer = await batch(
        'batch-late',
        first,
        field('metadata', '{"album":"summer"}'),
        second,
        file('bad.png', Buffer.from('not a picture'), 'files'),
        third,
        field('projectId', 'of-three'),
        field('assetType', 'image'),
        end,
      );
      assert.equal(answer.status, 200, answer.body);
      const { results } = JSON.parse(answer.body) as { results: { status: number; asset?: AssetDocument }[] };
      assert.deepEqual(
        results.map(({ status, asset }) => [status, asset?.projectId, asset?.metadata['album'], asset?.assetType]),
        [
          [201, 'of-three', 'summer', 'image'],
          [201, 'of-three', 'summer', 'image'],
          [415, undefined, undefined, undefined],
          [201, 'of-three', 'summer', 'image'],
        ],
      );
      const rows = await service.query<{ project_id: string; state: string }>(
        "select project_id, state from assets where owner_id = 'batch-late'",
      );
      assert.deepEqual(rows, Array(3).fill({ project_id: 'of-three', state: 'ready' }));
    });

    test('an asset type after the files refuses each that it does not allow', async () => {
      const answer = await batch('batch-type', ...files(2), field('assetType', 'audio'), end);
      const statuses = JSON.parse(answer.body).results.map((result: { status: number }) => result.status);
      assert.deepEqual(statuses, [415, 415]);
      await assertNothingLeft('batch-type');
    });

    const cut = '--XX\r\nContent-Disposition: form-data; name="files"; filename="3.png"\r\n\r\nabc';
    const faults: [string, (Buffer | string)[], number][] = [
      ['with eleven files', [...files(11), end], 400],
      ['that breaks off in its third file', [...files(2), cut], 400],
      ['with a field that is not known after its files', [...files(2), field('colour', 'red'), end], 400],
      ['with a bad project after its files', [...files(2), field('projectId', '../p'), end], 400],
      ['with an unknown asset type after its files', [...files(2), field('assetType', 'x'), end], 400],
      ['with a digest, which no two files share', [...files(2), field('sha256', '0'.repeat(64)), end], 400],
      [
        'with a field before and after a file',
        [field('projectId', 'p'), ...files(1), field('projectId', 'p'), end],
        400,
      ],
      ['with a file of another name after its files', [...files(2), file('a.png', picture, 'file'), end], 400],
      ['with a part header that cannot be read', [...files(2), file('a"b.png', picture, 'files'), end], 400],
    ];
    for (const [index, [title, parts, status]] of faults.entries()) {
      test(`a batch ${title} is refused as a whole, and nothing is left`, async () => {
        const answer = await batch(`batch-fault-${index}`, ...parts);
        assert.equal(answer.status, status, answer.body);
        assert.match(answer.headers, /application\/problem\+json/);
        await assertNothingLeft(`batch-fault-${index}`);
      });
    }

    test('no file at all is 400', async () => {
      assert.equal((await batch('batch-0', end)).status, 400);
    });
  });

  for (const [title, length] of [
    ['fits one part', 500],
    ['has several parts', 12 * MiB],
  ] as const) {
    test(`fields after a file that ${title} count`, async () => {
      const large = await startService({ env: { PART_SIZE: '5MiB', UPLOAD_LEASE: '30s' } });
      try {
        const user = 'late';
        const content = glb(length, 3);
        const digest = createHash('sha256').update(content).digest('hex');
        const body = bytes(
          file('m.glb', content).toString('latin1').replace('image/png', 'application/octet-stream'),
          field('projectId', 'late'),
          part('Content-Disposition: form-data; name="metadata"\r\nContent-Type: application/json', '{"a":"b"}'),
          field('assetType', 'model'),
          field('sha256', digest),
          end,
        );
        const answer = await sendRaw(large.url, form(body, { user }));
        assert.equal(answer.status, 201, answer.body);
        const asset = JSON.parse(answer.body);
        assert.deepEqual(
          [asset.projectId, asset.metadata, asset.assetType, asset.sha256],
          ['late', { a: 'b' }, 'model', digest],
        );
        const kept = await new Client(large.url, user).get(`/v1/assets/${asset.id}`);
        const { downloadCount, ...record } = kept.body;
        assert.deepEqual([record, downloadCount], [asset, 0]);
      } finally {
        await large.close();
      }
    });
  }

  for (const [title, method, path, headers] of [
    ['raw upload', 'PUT', '/v1/assets/raw/a.png', ''],
    ['form', 'POST', '/v1/assets', 'Content-Type: multipart/form-data; boundary=XX\r\n'],
    ['batch', 'POST', '/v1/assets/batch', 'Content-Type: multipart/form-data; boundary=XX\r\n'],
    ['part of a direct upload', 'PUT', '/v1/links/parts/x', ''],
  ] as const) {
    test(`a ${title} with Content-Range is refused, and nothing is left`, async () => {
      const user = `range-${title.length}`;
      const body =
        method === 'PUT' ? picture : bytes(file('a.png', picture, path.endsWith('batch') ? 'files' : 'file'), end);
      for (const range of ['bytes 100-499/500', 'bytes 0-499/500', 'bytes */500', 'x', '']) {
        const answer = await sendRaw(
          service.url,
          bytes(
            `${method} ${path} HTTP/1.1\r\nHost: localhost\r\nX-User-Id: ${user}\r\n${headers}Content-Range: ${range}\r\nContent-Length: ${body.length}\r\n\r\n`,
            body,
          ),
        );
        assert.equal(answer.status, 400, answer.body);
        assert.equal(JSON.parse(answer.body).errors[0].parameter, 'Content-Range');
      }
      await assertNothingLeft(user);
    });
  }

  test('the limit of an asset type that is named after the file holds, and no other', async () => {
    const policed = await startService({
      policies: {
        image: { mediaTypes: ['image/png'], maxBytes: 1000 },
        poster: { mediaTypes: ['image/png'], maxBytes: 3000 },
      },
    });
    try {
      const send = (size: number, ...parts: Buffer[]) =>
        sendRaw(policed.url, form(bytes(file('a.png', png(size)), ...parts, end)));
      assert.equal((await send(2000, field('assetType', 'poster'))).status, 201);
      assert.equal((await send(2000)).status, 413);
      assert.equal((await send(2000, field('assetType', 'image'))).status, 413);
      assert.equal((await send(4000, field('assetType', 'poster'))).status, 413);
      assert.deepEqual(await policed.query('select state from assets'), [{ state: 'ready' }]);
    } finally {
      await policed.close();
    }
  });

  test('names that clients write in their ways are read', async () => {
    for (const [disposition, name] of [
      ['filename="C:\\fakepath\\a.png"', 'a.png'],
      ['filename=a.png', 'a.png'],
      ["filename*=UTF-8''%e2%82%ac.png", '€.png'],
      ['filename="x.png"; filename*=utf-8\'en\'%e2%82%ac.png', '€.png'],
      ['filename="\\"quoted\\".png"', '"quoted".png'],
      ['filename="a;b.png"; size=500', 'a;b.png'],
      [Buffer.from('filename="é.png"').toString('latin1'), 'é.png'],
    ] as const) {
      const body = bytes(
        part(`Content-Type: image/png\r\ncontent-disposition:form-data ;name="file";${disposition}`, picture),
        end,
      );
      const answer = await sendRaw(service.url, form(body));
      assert.equal(answer.status, 201, `${disposition}: ${answer.body}`);
      assert.equal(JSON.parse(Buffer.from(answer.body, 'latin1').toString()).name, name);
    }
  });

  test('metadata may have names that objects have anyway', async () => {
    const names = { constructor: 'a', toString: 'b', prototype: 'c', hasOwnProperty: 'd' };
    const answer = await sendRaw(service.url, form(bytes(file(), field('metadata', JSON.stringify(names)), end)));
    assert.equal(answer.status, 201, answer.body);
    const { id, metadata } = JSON.parse(answer.body);
    assert.deepEqual(Object.entries(metadata).sort(), Object.entries(names).sort());
    const kept = await new Client(service.url, 'forms').get(`/v1/assets/${id}`);
    assert.deepEqual(Object.entries(kept.body.metadata).sort(), Object.entries(names).sort());
  });

  test('text around the parts is ignored, as RFC 2046 has it, within bounds', async () => {
    const around = (before: string, after: string) =>
      sendRaw(service.url, form(bytes(before, file(), '--XX--', after)));
    assert.equal((await around('\r\n', '')).status, 201);
    assert.equal((await around('This is a form.\r\n', ' \r\nThis was a form.')).status, 201);
    assert.equal((await around(`${'x'.repeat(70_000)}\r\n`, '')).status, 400);
    assert.equal((await around('', 'x'.repeat(70_000))).status, 400);
  });

  test('a repeated form is the same only if its late fields are', async () => {
    const send = (project: string) =>
      sendRaw(
        service.url,
        form(bytes(file(), field('projectId', project), end), { user: 'again', headers: 'Idempotency-Key: k1\r\n' }),
      );
    const first = await send('again');
    assert.equal(first.status, 201);
    const again = await send('again');
    assert.equal(again.status, 201);
    assert.equal(JSON.parse(again.body).id, JSON.parse(first.body).id);
    assert.equal((await send('again-too')).status, 422);
  });

  test('a batch that was refused at its end is taken under the same key with another end', async () => {
    const send = (...late: Buffer[]) =>
      sendRaw(
        service.url,
        form(bytes(file('1.png', picture, 'files'), file('2.png', png(400), 'files'), ...late, end), {
          path: '/v1/assets/batch',
          user: 'batch-again',
          headers: 'Idempotency-Key: k2\r\n',
        }),
      );
    assert.equal((await send(field('colour', 'red'))).status, 400);
    const taken = JSON.parse((await send(field('projectId', 'batch-again'))).body).results;
    const again = JSON.parse((await send(field('projectId', 'batch-again'))).body).results;
    assert.deepEqual(again, taken);
    const other = JSON.parse((await send(field('projectId', 'batch-again-too'))).body).results;
    assert.deepEqual(
      other.map(({ status }: { status: number }) => status),
      [422, 422],
    );
    assert.equal((await service.query("select 1 from assets where owner_id = 'batch-again'")).length, 2);
  });

  test('a browser’s FormData with an empty optional field is taken', async () => {
    const answer = await new Client(service.url).upload(picture, { fields: { projectId: '' } });
    assert.equal(answer.status, 201);
    assert.equal(answer.body.projectId, undefined);
  });
});
