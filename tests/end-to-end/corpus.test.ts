import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Client } from '../support/client.ts';
import { hostileFiles, validFiles } from '../support/corpus.ts';
import { startService, type TestService } from '../support/service.ts';

const statusOf = { undetected: [415], 'declared-mismatch': [415], 'extension-mismatch': [415], structure: [415, 422] };

describe('the corpus over HTTP', () => {
  let service: TestService;
  let client: Client;
  before(async () => {
    service = await startService({ env: { UPLOADS_PER_HOUR: '0', REQUESTS_PER_MINUTE: '0' } });
    client = new Client(service.url);
  });
  after(() => service.close());

  test('every valid file is stored, by form and raw, as what it is', async () => {
    for (const { title, fileName, declared, bytes, mediaType } of validFiles) {
      const options = { name: fileName, ...(declared !== undefined && { type: declared }) };
      for (const answer of [await client.upload(bytes, options), await client.raw(bytes, options)]) {
        assert.equal(answer.status, 201, `${title}: ${JSON.stringify(answer.body)}`);
        assert.equal(answer.body.mediaType, mediaType, title);
        // Pictures lose their metadata.
        const sent = answer.body.original ?? answer.body;
        assert.equal(sent.sha256, createHash('sha256').update(bytes).digest('hex'));
      }
    }
  });

  test('every hostile file is refused by a problem and leaves nothing, neither row nor bytes nor reservation', async () => {
    const hostile = new Client(service.url, 'mallory');
    const before = await readdir(join(service.config.DATA_DIR, 'objects', 'objects', 'users'));
    for (const { title, fileName, declared, bytes, refusedBy } of hostileFiles) {
      const options = { name: fileName, ...(declared !== undefined && { type: declared }) };
      for (const answer of [await hostile.upload(bytes, options), await hostile.raw(bytes, options)]) {
        assert.ok(
          (statusOf[refusedBy] as number[]).includes(answer.status),
          `${title}: ${answer.status} ${JSON.stringify(answer.body)}`,
        );
        assert.match(answer.headers.get('content-type') ?? '', /^application\/problem\+json/);
      }
    }
    assert.deepEqual(await service.query("select id from assets where owner_id = 'mallory'"), []);
    assert.deepEqual(
      await service.query("select * from quotas where owner_id = 'mallory' and reserved_bytes + used_bytes > 0"),
      [],
    );
    assert.deepEqual(await readdir(join(service.config.DATA_DIR, 'objects', 'objects', 'users')), before);
    for (const folder of ['multipart', 'tmp'])
      assert.deepEqual(await readdir(join(service.config.DATA_DIR, 'objects', folder)), []);
  });

  test('hostile names are refused, and good ones in any script come back as they were', async () => {
    const bytes = validFiles[3]?.bytes ?? Buffer.alloc(0);
    for (const name of [
      '.png',
      'a\u202Egnp.png',
      'a\u0000.png',
      'a\u2028b.png',
      ' a.png',
      'a.png ',
      'a\u200Bb.png',
      `${'ü'.repeat(126)}.png`,
    ]) {
      const answer = await client.raw(bytes, { name });
      assert.equal(answer.status, 400, JSON.stringify(name));
      assert.equal(answer.body.type, 'urn:stowage:problem:invalid-name');
    }
    // A URL cannot say these; a form can.
    for (const name of ['.', '..']) assert.equal((await client.upload(bytes, { name })).status, 400, name);
    for (const name of ['../a.png', 'a/b.png', 'a\\b.png'])
      assert.equal((await client.raw(bytes, { name })).status, 400, name);
    for (const name of ['日本語.png', 'фото.png', 'e\u0301.png', "it's (1) 100%.png", '😀.png', 'a;b="c".png']) {
      const answer = await client.raw(bytes, { name });
      assert.equal(answer.status, 201, name);
      assert.equal(answer.body.name, name.normalize('NFC'));
      const { headers } = await client.content(answer.body.id);
      const encoded = /filename\*=UTF-8''(\S+)$/.exec(headers.get('content-disposition') ?? '')?.[1] ?? '';
      assert.equal(decodeURIComponent(encoded), name.normalize('NFC'));
    }
  });

  test('sizes, digests and asset types that do not fit are refused', async () => {
    const bytes = validFiles[3]?.bytes ?? Buffer.alloc(0);
    const digest = createHash('sha256').update(bytes).digest();
    assert.equal((await client.raw(Buffer.alloc(0), { name: 'e.png' })).body.type, 'urn:stowage:problem:empty-file');
    assert.equal((await client.upload(Buffer.alloc(0), { name: 'e.png' })).body.type, 'urn:stowage:problem:empty-file');
    assert.equal(
      (await client.raw(bytes, { headers: { 'repr-digest': `sha-256=:${digest.toString('base64')}:` } })).status,
      201,
    );
    assert.equal((await client.upload(bytes, { fields: { sha256: digest.toString('hex') } })).status, 201);
    assert.equal(
      (await client.raw(bytes, { headers: { 'content-digest': `sha-256=:${Buffer.alloc(32).toString('base64')}:` } }))
        .status,
      422,
    );
    assert.equal(
      (await client.upload(bytes, { fields: { sha256: '0'.repeat(64) } })).body.type,
      'urn:stowage:problem:digest-mismatch',
    );
    assert.equal((await client.raw(bytes, { headers: { 'repr-digest': 'sha-256=abc' } })).status, 400);
    assert.equal((await client.raw(bytes, { fields: { assetType: 'video' } })).status, 415);
    assert.equal((await client.raw(bytes, { fields: { assetType: 'sculpture' } })).status, 400);
    assert.equal((await client.raw(bytes, { fields: { assetType: 'image' } })).status, 201);
  });
});

describe('upload policies of a file', () => {
  test('add and replace, set the limit and the cache control, and may allow what is not detected', async () => {
    const service = await startService({
      policies: {
        image: { mediaTypes: ['image/png'], maxBytes: 1000, cacheControl: 'no-store' },
        text: { mediaTypes: ['text/plain', 'text/csv'], maxBytes: 100, allowUndetected: true },
        video: null,
      },
    });
    try {
      const client = new Client(service.url);
      const text = await client.raw(Buffer.from('hello'), { name: 'a.txt', type: 'text/plain; charset=utf-8' });
      assert.equal(text.body.assetType, 'text');
      assert.equal((await client.raw(Buffer.from('<script>'), { name: 'a.html', type: 'text/html' })).status, 415);
      assert.equal((await client.raw(Buffer.alloc(101, 'a'), { name: 'a.txt', type: 'text/plain' })).status, 413);
      const image = validFiles.find(({ mediaType, bytes }) => mediaType === 'image/png' && bytes.length > 1000);
      assert.equal((await client.raw(image?.bytes ?? Buffer.alloc(0), { name: 'a.png' })).status, 413);
      assert.equal(
        (await client.raw(validFiles[0]?.bytes ?? Buffer.alloc(0), { name: 'a.jpg' })).body.type,
        'urn:stowage:problem:type-not-allowed',
      );
    } finally {
      await service.close();
    }
  });
});
