import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { chmod, mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { DiskObjectStore } from '../../src/storage/disk/disk-object-store.ts';
import { ObjectStoreUnavailable } from '../../src/storage/object-store.ts';
import { startService, type TestService } from '../support/service.ts';
import { describeObjectStore } from './object-store-contract.ts';

const attributes = {
  contentType: 'text/plain',
  contentDisposition: 'attachment',
  cacheControl: 'private',
  metadata: {},
};
const body = Buffer.from('bytes');
const sha256 = createHash('sha256').update(body).digest();
const link = { expiresIn: 60, contentType: 'text/plain', contentDisposition: 'attachment', cacheControl: 'private' };

describeObjectStore('disk', async () => {
  const service: TestService = await startService();
  return { store: service.store, close: () => service.close() };
});

describe('the disk store', () => {
  let directory: string;
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'stowage-disk-'));
  });
  after(() => rm(directory, { recursive: true, force: true }));
  const open = (changes: Partial<ConstructorParameters<typeof DiskObjectStore>[0]> = {}) =>
    new DiskObjectStore({
      directory,
      linkSecret: Buffer.alloc(32, 1),
      publicUrl: () => 'http://127.0.0.1',
      ...changes,
    });
  const tokenOf = (url: string) => url.split('/').at(-1) ?? '';

  test('keys that could lead out of the directory are refused', async () => {
    const store = open();
    for (const key of [
      '../x',
      '/etc/passwd',
      'a/../../b',
      'a//b',
      '',
      '.',
      'a/./b',
      'a\\b',
      'a\0b',
      'ü',
      `${'a'.repeat(300)}/b`,
      'a.json',
    ]) {
      await assert.rejects(store.put(key, body, attributes, { sha256 }), /not an object key/, key);
      await assert.rejects(async () => store.head(key, {}), /not an object key/, key);
    }
  });

  test('a link is refused when it is forged, of another secret, or expired', async () => {
    let now = new Date('2026-01-01T00:00:00Z');
    const store = open({ now: () => now });
    const token = tokenOf(await store.presignGet('a/b', link));
    const permission = store.readLink(token);
    assert.ok(typeof permission === 'object');
    assert.equal(permission.key, 'a/b');
    assert.equal(permission.expiresAt.toISOString(), '2026-01-01T00:01:00.000Z');
    const [payload = '', signature = ''] = token.split('.');
    const forged = Buffer.from(JSON.stringify(['other', 9_999_999_999, 'a', 'b', 'c'])).toString('base64url');
    for (const each of [
      '',
      '.',
      payload,
      `${payload}.`,
      `${payload}.${signature.slice(1)}A`,
      `${forged}.${signature}`,
      `${token}.x${'y'.repeat(9000)}`,
    ]) {
      assert.equal(store.readLink(each), 'invalid', each);
    }
    assert.equal(open({ linkSecret: Buffer.alloc(32, 2), now: () => now }).readLink(token), 'invalid');
    now = new Date('2026-01-01T00:01:00Z');
    assert.equal(store.readLink(token), 'expired');
  });

  test('no token whatever makes reading it throw', () => {
    const store = open();
    fc.assert(fc.property(fc.string(), (token) => void store.readLink(token)));
  });

  test('temporary files of a crash are removed when they are old, and left when they may be somebody else’s', async () => {
    await open().check({});
    const [old, young] = [join(directory, 'tmp', 'old'), join(directory, 'tmp', 'young')];
    await writeFile(old, 'x');
    await writeFile(young, 'x');
    const yesterday = new Date(Date.now() - 25 * 3600 * 1000);
    await utimes(old, yesterday, yesterday);
    await open().check({});
    assert.deepEqual(await readdir(join(directory, 'tmp')), ['young']);
    await rm(young);
  });

  test('after writing and deleting nothing is left, not even empty folders', async () => {
    const store = open();
    await store.put('x/y/z', body, attributes, { sha256 });
    const uploadId = await store.createMultipartUpload('x/y/w', attributes, { partSize: 10 });
    await store.abortMultipartUpload('x/y/w', uploadId, {});
    await store.delete('x/y/z', {});
    for (const folder of ['objects', 'multipart', 'tmp'])
      assert.deepEqual(await readdir(join(directory, folder)), [], folder);
  });

  test('many objects may be written and deleted beside each other at once', async () => {
    const store = open();
    await Promise.all(
      Array.from({ length: 50 }, async (_, index) => {
        const key = `crowd/${index % 5}/${index}`;
        await store.put(key, body, attributes, { sha256 });
        await store.delete(key, {});
      }),
    );
    assert.deepEqual(await readdir(join(directory, 'objects')), []);
  });

  test('parts that leave a gap or are not the ones that arrived are not completed', async () => {
    const store = open();
    const uploadId = await store.createMultipartUpload('g/a/p', attributes, { partSize: 5 });
    const upload = { key: 'g/a/p', uploadId };
    const [first, third] = [
      await store.uploadPart({ ...upload, partNumber: 1 }, body, {}),
      await store.uploadPart({ ...upload, partNumber: 3 }, body, {}),
    ];
    await assert.rejects(store.completeMultipartUpload('g/a/p', uploadId, [first, third], {}), /gap/);
    await assert.rejects(
      store.completeMultipartUpload('g/a/p', uploadId, [{ ...first, etag: '"other"' }], {}),
      /not the one/,
    );
    assert.equal(await store.head('g/a/p', {}), undefined);
    await store.abortMultipartUpload('g/a/p', uploadId, {});
  });

  test('bytes without their sidecar, and a sidecar without bytes, are no object', async () => {
    const store = open();
    await store.put('s/i/d', body, attributes, { sha256 });
    assert.equal(await readFile(join(directory, 'objects/s/i/d'), 'utf8'), 'bytes');
    await rm(join(directory, 'objects/s/i/d'));
    assert.equal(await store.head('s/i/d', {}), undefined);
    await store.delete('s/i/d', {});
  });

  test('a directory that is gone or may not be written is a store that is away', {
    skip: process.getuid?.() === 0 && 'root may write everywhere',
  }, async () => {
    const store = open();
    await store.check({});
    await chmod(join(directory, 'objects'), 0o500);
    await assert.rejects(store.check({}), ObjectStoreUnavailable);
    await chmod(join(directory, 'objects'), 0o700);
  });
});
