import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { on, once } from 'node:events';
import { chmod, mkdir, mkdtemp, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { DiskObjectStore } from '../../src/storage/disk/disk-object-store.ts';
import { NoSuchUpload, ObjectStoreUnavailable } from '../../src/storage/object-store.ts';
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
  const keyOfAsset = async () => {
    const id = randomUUID();
    const key = `users/u/assets/${id}/original`;
    await service.query(
      `insert into assets (id, owner_id, name, state, asset_type, media_type, size, object_key, created_at, updated_at)
       values ($1, 'u', 'a.txt', 'ready', 'text', 'text/plain', 1000, $2, now(), now())`,
      [id, key],
    );
    return key;
  };
  return { store: service.store, keyOfAsset, close: () => service.close() };
});

async function bytesOf(store: DiskObjectStore, key: string): Promise<Buffer> {
  const opened = await store.get(key, {});
  assert.ok(opened);
  return buffer(opened.stream);
}

/**
 * A process that writes objects, by put and in parts, until it is killed. Each is filled with the last number of its name.
 * It says how many it has written.
 */
function writeForEver(directory: string): ChildProcess {
  const module = new URL('../../src/storage/disk/disk-object-store.ts', import.meta.url).href;
  const script = `
    import { DiskObjectStore } from ${JSON.stringify(module)};
    const store = new DiskObjectStore({ directory: process.env.DIRECTORY, linkSecret: Buffer.alloc(32), publicUrl: () => '' });
    const attributes = ${JSON.stringify(attributes)};
    await store.check({});
    for (let count = 0; ; count++) {
      process.send(count);
      const fill = count % 256;
      const key = 'k/' + process.pid + '-' + count + '-' + fill;
      const body = Buffer.alloc(300_000, fill);
      if (count % 2) await store.put(key, body, attributes, {});
      else {
        const uploadId = await store.createMultipartUpload(key, attributes, { partSize: 200_000 });
        const parts = await Promise.all([body.subarray(0, 200_000), body.subarray(200_000)].map((bytes, index) =>
          store.uploadPart({ key, uploadId, partNumber: index + 1 }, bytes, {})));
        await store.completeMultipartUpload(key, uploadId, parts, {});
      }
    }`;
  return spawn(process.execPath, ['--input-type=module', '--eval', script], {
    env: { ...process.env, DIRECTORY: directory },
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
}

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

  test('other accounts of the machine see nothing, neither of what is new nor of what an earlier version left open', async () => {
    const root = join(directory, 'modes');
    const old = join(root, 'objects', 'users', 'a');
    await mkdir(old, { recursive: true, mode: 0o755 });
    await writeFile(join(old, 'original'), 'bytes', { mode: 0o644 });
    await writeFile(join(old, 'original.json'), JSON.stringify(attributes), { mode: 0o644 });
    await chmod(root, 0o755);
    const store = open({ directory: root });
    await store.put('users/b/original', body, attributes, { sha256 });
    const uploadId = await store.createMultipartUpload('users/c/original', attributes, { partSize: 5 });
    await store.uploadPart({ key: 'users/c/original', uploadId, partNumber: 1 }, body, {});
    assert.deepEqual(await bytesOf(store, 'users/a/original'), body);
    const entries = await readdir(root, { recursive: true, withFileTypes: true });
    assert.ok(entries.length > 10);
    for (const path of [root, ...entries.map((entry) => join(entry.parentPath, entry.name))]) {
      const { mode } = await stat(path);
      assert.equal(mode & 0o077, 0, path);
    }
  });

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
      'a/..',
      '...',
      'a\n',
      'a/',
      'a.json/b',
      `${'a/'.repeat(600)}b`,
      `${'a'.repeat(300)}/b`,
      'a.json',
    ]) {
      await assert.rejects(store.put(key, body, attributes, { sha256 }), /not an object key/, key);
      await assert.rejects(store.createMultipartUpload(key, attributes, { partSize: 5 }), /not an object key/, key);
      await assert.rejects(store.completeMultipartUpload(key, '', [], {}), /not an object key/, key);
      await assert.rejects(store.head(key, {}), /not an object key/, key);
      await assert.rejects(store.get(key, {}), /not an object key/, key);
      await assert.rejects(store.delete(key, {}), /not an object key/, key);
      await assert.rejects(store.presignGet(key, link), /not an object key/, key);
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
      `${token}.`,
      `${token}=`,
      ` ${token}`,
    ]) {
      assert.equal(store.readLink(each), 'invalid', each);
    }
    assert.equal(open({ linkSecret: Buffer.alloc(32, 2), now: () => now }).readLink(token), 'invalid');
    now = new Date('2026-01-01T00:01:00Z');
    assert.equal(store.readLink(token), 'expired');
  });

  test('no token whatever makes reading it throw', () => {
    const store = open();
    const texts = fc.string({ unit: 'binary' });
    const tokens = fc.oneof(
      texts,
      fc.tuple(fc.base64String(), texts).map((parts) => parts.join('.')),
    );
    fc.assert(fc.property(tokens, (token) => assert.equal(store.readLink(token), 'invalid')));
  });

  test('upload ids that could lead out of the directory are unknown', async () => {
    const store = open();
    for (const uploadId of ['', '.', '..', '../tmp', '../../etc', 'a\0b', 'x'.repeat(5000), '-'.repeat(36)]) {
      const address = { key: 'a/b', uploadId, partNumber: 1 };
      await assert.rejects(store.uploadPart(address, body, {}), NoSuchUpload, uploadId);
      await assert.rejects(store.listParts('a/b', uploadId, {}), NoSuchUpload, uploadId);
      await assert.rejects(store.completeMultipartUpload('a/b', uploadId, [], {}), NoSuchUpload, uploadId);
      await store.abortMultipartUpload('a/b', uploadId, {});
    }
  });

  test('an upload is known by its own key alone', async () => {
    const store = open();
    const uploadId = await store.createMultipartUpload('own/key', attributes, { partSize: 5 });
    await assert.rejects(store.uploadPart({ key: 'other', uploadId, partNumber: 1 }, body, {}), NoSuchUpload);
    await store.abortMultipartUpload('other', uploadId, {});
    assert.deepEqual(await store.listMultipartUploads('own/key', {}), [uploadId]);
    await store.abortMultipartUpload('own/key', uploadId, {});
  });

  test('parts that cannot be are refused', async () => {
    const store = open();
    const uploadId = await store.createMultipartUpload('p/n', attributes, { partSize: 5 });
    for (const partNumber of [0, -1, 1.5, Number.NaN, 10_001])
      await assert.rejects(store.uploadPart({ key: 'p/n', uploadId, partNumber }, body, {}), /not a part number/);
    await assert.rejects(
      store.uploadPart({ key: 'p/n', uploadId, partNumber: 1 }, Buffer.alloc(6), {}),
      /more than 5 bytes/,
    );
    await assert.rejects(store.completeMultipartUpload('p/n', uploadId, [], {}), /at least one part/);
    await store.abortMultipartUpload('p/n', uploadId, {});
  });

  test('the size of an object is that of the parts that arrived, whatever the caller believes', async () => {
    const store = open();
    const uploadId = await store.createMultipartUpload('s/z', attributes, { partSize: 5 });
    const part = await store.uploadPart({ key: 's/z', uploadId, partNumber: 1 }, body, {});
    await store.completeMultipartUpload('s/z', uploadId, [{ ...part, size: 3 }], {});
    assert.equal((await store.head('s/z', {}))?.size, 5);
    await store.delete('s/z', {});
  });

  test('parts that are not named are cut off, and are not found again by a completion that names them', async () => {
    const store = open();
    const uploadId = await store.createMultipartUpload('n/n', attributes, { partSize: 5 });
    const address = { key: 'n/n', uploadId };
    const first = await store.uploadPart({ ...address, partNumber: 1 }, body, {});
    const second = await store.uploadPart({ ...address, partNumber: 2 }, body, {});
    // A directory where the object belongs makes the first completion fail after the cut.
    await mkdir(join(directory, 'objects', 'n', 'n', 'x'), { recursive: true });
    await assert.rejects(store.completeMultipartUpload('n/n', uploadId, [first], {}));
    await rm(join(directory, 'objects', 'n', 'n'), { recursive: true });
    await assert.rejects(store.completeMultipartUpload('n/n', uploadId, [first, second], {}), /not the one/);
    const again = await store.uploadPart({ ...address, partNumber: 2 }, body, {});
    await store.completeMultipartUpload('n/n', uploadId, [first, again], {});
    assert.ok((await bytesOf(store, 'n/n')).equals(Buffer.concat([body, body])));
    await store.delete('n/n', {});
  });

  test('of two bodies sent as the same part at once, the listed one is there whole', async () => {
    const store = open();
    const size = 2 * 1024 * 1024;
    for (let round = 0; round < 5; round++) {
      const uploadId = await store.createMultipartUpload('t/w', attributes, { partSize: size });
      const sent = await Promise.all(
        [1, 2, 3].map(async (fill) => {
          const bytes = Buffer.alloc(size, fill);
          return { fill, part: await store.uploadPart({ key: 't/w', uploadId, partNumber: 1 }, bytes, {}) };
        }),
      );
      const listed = await store.listParts('t/w', uploadId, {});
      assert.equal(listed.length, 1);
      await store.completeMultipartUpload('t/w', uploadId, listed, {});
      const winner = sent.find(({ part }) => part.etag === listed[0]?.etag);
      assert.ok(winner);
      assert.ok((await bytesOf(store, 't/w')).equals(Buffer.alloc(size, winner.fill)));
      await store.delete('t/w', {});
    }
  });

  test('a part that is still on its way cannot change or lengthen a completed object', async () => {
    const size = 1024 * 1024;
    // The second store stands for another process in the same directory.
    const store = open();
    for (const late of [store, open()]) {
      await late.check({});
      for (let round = 0; round < 8; round++) {
        const uploadId = await store.createMultipartUpload('l/p', attributes, { partSize: size });
        const address = { key: 'l/p', uploadId };
        const first = await store.uploadPart({ ...address, partNumber: 1 }, Buffer.alloc(size, 1), {});
        const [completed] = await Promise.allSettled([
          sleep(round / 2).then(() => store.completeMultipartUpload('l/p', uploadId, [first], {})),
          late.uploadPart({ ...address, partNumber: 1 }, Buffer.alloc(size, 9), {}),
        ]);
        if (completed.status === 'fulfilled')
          assert.ok((await bytesOf(store, 'l/p')).equals(Buffer.alloc(size, 1)), 'the bytes were changed');
        else assert.equal(await store.head('l/p', {}), undefined);
        await store.abortMultipartUpload('l/p', uploadId, {});
        await store.delete('l/p', {});
      }
    }
  });

  test('a part that is not named and still on its way does not lengthen the object', async () => {
    const store = open();
    const size = 4 * 1024 * 1024;
    for (let round = 0; round < 8; round++) {
      const uploadId = await store.createMultipartUpload('u/p', attributes, { partSize: size });
      const first = await store.uploadPart({ key: 'u/p', uploadId, partNumber: 1 }, body, {});
      const late = store.uploadPart({ key: 'u/p', uploadId, partNumber: 2 }, Buffer.alloc(size, 9), {});
      await sleep(round / 2);
      await Promise.allSettled([late, store.completeMultipartUpload('u/p', uploadId, [first], {})]);
      assert.ok((await bytesOf(store, 'u/p')).equals(body));
      await store.delete('u/p', {});
    }
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

  test('temporary folders of a crash are removed too', async () => {
    await open().check({});
    const old = join(directory, 'tmp', 'folder');
    await mkdir(join(old, 'parts'), { recursive: true });
    await writeFile(join(old, 'data'), 'x');
    const inTwoDays = new Date(Date.now() + 48 * 3600 * 1000);
    await open({ now: () => inTwoDays }).check({});
    assert.deepEqual(await readdir(join(directory, 'tmp')), []);
  });

  test('a crash before the commit point leaves an upload that can be completed or aborted, and no object', async () => {
    for (const end of ['complete', 'abort'] as const) {
      const store = open();
      const uploadId = await store.createMultipartUpload('c/b', attributes, { partSize: 5 });
      const part = await store.uploadPart({ key: 'c/b', uploadId, partNumber: 1 }, body, {});
      await writeFile(join(directory, 'multipart', uploadId, 'completing'), '');
      await mkdir(join(directory, 'objects', 'c'), { recursive: true });
      await writeFile(join(directory, 'objects', 'c', 'b.json'), JSON.stringify(attributes));
      const next = open();
      assert.equal(await next.head('c/b', {}), undefined);
      assert.equal(await next.get('c/b', {}), undefined);
      assert.deepEqual(await next.listMultipartUploads('c/b', {}), [uploadId]);
      await assert.rejects(next.uploadPart({ key: 'c/b', uploadId, partNumber: 1 }, body, {}), ObjectStoreUnavailable);
      assert.deepEqual(await next.listParts('c/b', uploadId, {}), [part]);
      if (end === 'complete') {
        await next.completeMultipartUpload('c/b', uploadId, [part], {});
        assert.ok((await bytesOf(next, 'c/b')).equals(body));
      } else await next.abortMultipartUpload('c/b', uploadId, {});
      await next.delete('c/b', {});
      assert.deepEqual(await readdir(join(directory, 'objects')), []);
    }
  });

  test('a crash after the commit point leaves a whole object and no upload', async () => {
    const store = open();
    const uploadId = await store.createMultipartUpload('c/a', attributes, { partSize: 5 });
    const part = await store.uploadPart({ key: 'c/a', uploadId, partNumber: 1 }, body, {});
    await mkdir(join(directory, 'objects', 'c'), { recursive: true });
    await writeFile(join(directory, 'objects', 'c', 'a.json'), JSON.stringify(attributes));
    await rename(join(directory, 'multipart', uploadId, 'data'), join(directory, 'objects', 'c', 'a'));
    assert.deepEqual(await store.listMultipartUploads('c/a', {}), []);
    await assert.rejects(store.completeMultipartUpload('c/a', uploadId, [part], {}), NoSuchUpload);
    await assert.rejects(store.uploadPart({ key: 'c/a', uploadId, partNumber: 1 }, body, {}), NoSuchUpload);
    const next = open();
    assert.ok((await bytesOf(next, 'c/a')).equals(body));
    assert.deepEqual(await readdir(join(directory, 'multipart')), [], 'the rest is removed when the store is opened');
    await next.delete('c/a', {});
  });

  test('a process that is killed while it writes shows whole objects or none', async () => {
    const place = join(directory, 'killed');
    for (const written of [1, 4, 11]) {
      const child = writeForEver(place);
      for await (const [count] of on(child, 'message')) if (Number(count) >= written) break;
      // In the middle of the next one.
      await sleep(written % 4);
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
    const store = open({ directory: place });
    let found = 0;
    for (const name of await readdir(join(place, 'objects', 'k'))) {
      if (name.endsWith('.json')) continue;
      const bytes = await bytesOf(store, `k/${name}`);
      assert.ok(bytes.equals(Buffer.alloc(300_000, Number(name.split('-').at(-1)))), name);
      assert.ok(await store.head(`k/${name}`, {}), name);
      found += 1;
    }
    assert.ok(found >= 1 + 4 + 11);
  });

  test('a file that is shorter than it should be makes the stream fail', async () => {
    const store = open();
    await store.put('s/h', body, attributes, { sha256 });
    const opened = await store.get('s/h', { range: { first: 2, last: body.length } });
    assert.ok(opened);
    await assert.rejects(buffer(opened.stream), ObjectStoreUnavailable);
    await store.delete('s/h', {});
  });

  test('an abort that nobody listens for does not end the process', async () => {
    const store = open();
    await store.put('n/l', body, attributes, { sha256 });
    const stop = new AbortController();
    const opened = await store.get('n/l', { signal: stop.signal });
    assert.ok(opened);
    stop.abort(new Error('gone'));
    while (!opened.stream.closed) await sleep(1);
    assert.match(String(opened.stream.errored), /gone/);
    await store.delete('n/l', {});
  });

  test('when the disk is gone the store is away: nothing is made up, and nothing is called missing', async () => {
    const place = join(directory, 'mounted');
    const store = open({ directory: place });
    const uploadId = await store.createMultipartUpload('a/b', attributes, { partSize: 5 });
    const address = { key: 'a/b', uploadId, partNumber: 1 };
    await rm(place, { recursive: true });
    const calls: [string, () => Promise<unknown>][] = [
      ['check', () => store.check({})],
      ['put', () => store.put('a/b', body, attributes, { sha256 })],
      ['createMultipartUpload', () => store.createMultipartUpload('a/b', attributes, { partSize: 5 })],
      ['uploadPart', () => store.uploadPart(address, body, {})],
      ['listParts', () => store.listParts('a/b', uploadId, {})],
      ['completeMultipartUpload', () => store.completeMultipartUpload('a/b', uploadId, [], {})],
      ['abortMultipartUpload', () => store.abortMultipartUpload('a/b', uploadId, {})],
      ['listMultipartUploads', () => store.listMultipartUploads('a/b', {})],
      ['head', () => store.head('a/b', {})],
      ['get', () => store.get('a/b', {})],
      ['delete', () => store.delete('a/b', {})],
    ];
    for (const [verb, call] of calls) await assert.rejects(call, ObjectStoreUnavailable, verb);
    await assert.rejects(readdir(place), 'it must not come back by itself');
  });

  test('a directory that is no directory is a store that is away, until it is one', async () => {
    const place = join(directory, 'file');
    await writeFile(place, '');
    const store = open({ directory: place });
    await assert.rejects(store.check({}), ObjectStoreUnavailable);
    await rm(place);
    await store.check({});
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
      Array.from({ length: 20 }, async (_, index) => {
        const key = `crowd/${index % 10}/${index}`;
        for (let round = 0; round < 15; round++) {
          await store.put(key, body, attributes, { sha256 });
          assert.ok((await bytesOf(store, key)).equals(body));
          await store.delete(key, {});
        }
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
