/**
 * What every object store promises: one suite of cases, run unchanged against the disk and against a real S3 server.
 */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import { contentDisposition } from '../../src/assets/content-disposition.ts';
import {
  ContentMismatch,
  NoSuchUpload,
  type ObjectAttributes,
  type ObjectStore,
  ObjectStoreUnavailable,
} from '../../src/storage/object-store.ts';
import { PartBuffers } from '../../src/storage/part-buffers.ts';

export interface OpenedStore {
  store: ObjectStore;
  /** Makes a key whose bytes are those of an asset, where only such are handed out by links. */
  keyOfAsset?: () => Promise<string>;
  close(): Promise<void>;
}

const PART = 5 * 1024 * 1024;
const attributes: ObjectAttributes = {
  contentType: 'image/png',
  contentDisposition: contentDisposition('inline', 'Übersicht "2026".png'),
  cacheControl: 'private, max-age=60',
  metadata: { 'uploaded-by': 'alice', sha256: 'abc' },
};
const link = {
  expiresIn: 60,
  contentType: 'image/png',
  contentDisposition: contentDisposition('attachment', 'ß.png'),
  cacheControl: 'no-store',
};

/** Ceph 16 answers InternalError to completing an upload that is gone; either way the caller has to look. */
const isNoUpload = (error: unknown) => error instanceof NoSuchUpload || error instanceof ObjectStoreUnavailable;

/** For a completion that was wrong, not late. */
const isNotNoUpload = (error: unknown) => error instanceof Error && !(error instanceof NoSuchUpload);

/**
 * Runs the contract against one store.
 * @param open gives an empty store; called once
 */
export function describeObjectStore(
  name: string,
  open: () => Promise<OpenedStore>,
  options: { skip?: string | false } = {},
): void {
  describe(`the object store on ${name}`, { skip: options.skip ?? false }, () => {
    let opened: OpenedStore;
    let store: ObjectStore;
    before(async () => {
      opened = await open();
      store = opened.store;
    });
    after(() => opened.close());

    const freshKey = () => `users/u/assets/${randomBytes(8).toString('hex')}/original`;
    const put = (key: string, body: Buffer) =>
      store.put(key, body, attributes, { sha256: createHash('sha256').update(body).digest() });
    const read = async (key: string, range?: { first: number; last: number }) => {
      const body = await store.get(key, range ? { range } : {});
      assert.ok(body);
      const bytes = await buffer(body.stream);
      assert.equal(bytes.length, body.length);
      return bytes;
    };
    const begin = (key: string) => store.createMultipartUpload(key, attributes, { partSize: PART });

    for (const size of [1, 1000, PART + 1]) {
      test(`an object of ${size} bytes comes back with its attributes`, async () => {
        const [key, body] = [freshKey(), randomBytes(size)];
        await put(key, body);
        const head = await store.head(key, {});
        assert.equal(head?.size, size);
        assert.equal(head.contentType, attributes.contentType);
        assert.equal(head.contentDisposition, attributes.contentDisposition);
        assert.equal(head.cacheControl, attributes.cacheControl);
        assert.deepEqual(head.metadata, attributes.metadata);
        assert.ok(Math.abs(head.lastModified.getTime() - Date.now()) < 60_000);
        assert.ok((await read(key)).equals(body));
      });
    }

    test('writing the same key again writes the same bytes', async () => {
      const [key, body] = [freshKey(), randomBytes(100)];
      await put(key, body);
      await put(key, body);
      assert.ok((await read(key)).equals(body));
    });

    test('a range gives exactly its bytes, the first and the last included', async () => {
      const [key, body] = [freshKey(), randomBytes(1000)];
      await put(key, body);
      for (const [first, last] of [
        [0, 0],
        [999, 999],
        [0, 999],
        [10, 19],
      ] as const) {
        assert.ok((await read(key, { first, last })).equals(body.subarray(first, last + 1)), `${first}-${last}`);
      }
    });

    test('what is not there is undefined, and deleting it is success', async () => {
      const key = freshKey();
      assert.equal(await store.head(key, {}), undefined);
      assert.equal(await store.get(key, {}), undefined);
      await store.delete(key, {});
      await put(key, randomBytes(10));
      await store.delete(key, {});
      await store.delete(key, {});
      assert.equal(await store.head(key, {}), undefined);
    });

    test('deleting one object leaves the ones beside it', async () => {
      const id = randomBytes(8).toString('hex');
      const [one, other] = [`users/${id}/assets/1/original`, `users/${id}/assets/2/original`];
      await put(one, randomBytes(10));
      await put(other, randomBytes(10));
      await store.delete(one, {});
      assert.ok(await store.head(other, {}));
    });

    test('parts in any order become one object, which is not visible before', async () => {
      const [key, body] = [freshKey(), randomBytes(2 * PART + 100)];
      const uploadId = await begin(key);
      const numbers = [3, 1, 2];
      const parts = await Promise.all(
        numbers.map((partNumber) =>
          store.uploadPart(
            { key, uploadId, partNumber },
            body.subarray((partNumber - 1) * PART, partNumber * PART),
            {},
          ),
        ),
      );
      assert.equal(await store.head(key, {}), undefined);
      const listed = await store.listParts(key, uploadId, {});
      assert.deepEqual(
        listed.map(({ partNumber, size }) => [partNumber, size]),
        [
          [1, PART],
          [2, PART],
          [3, 100],
        ],
      );
      parts.sort((a, b) => a.partNumber - b.partNumber);
      await store.completeMultipartUpload(key, uploadId, parts, {});
      const head = await store.head(key, {});
      assert.equal(head?.size, body.length);
      assert.equal(head.contentType, attributes.contentType);
      assert.deepEqual(head.metadata, attributes.metadata);
      assert.ok((await read(key)).equals(body));
    });

    test('a part that is sent again replaces the one before', async () => {
      const [key, first, second] = [freshKey(), randomBytes(200), randomBytes(100)];
      const uploadId = await begin(key);
      await store.uploadPart({ key, uploadId, partNumber: 1 }, first, {});
      const part = await store.uploadPart({ key, uploadId, partNumber: 1 }, second, {});
      await store.completeMultipartUpload(key, uploadId, [part], {});
      assert.ok((await read(key)).equals(second));
    });

    test('a range of an object in parts may cross their borders', async () => {
      const [key, body] = [freshKey(), randomBytes(PART + 100)];
      const uploadId = await begin(key);
      const parts = [
        await store.uploadPart({ key, uploadId, partNumber: 1 }, body.subarray(0, PART), {}),
        await store.uploadPart({ key, uploadId, partNumber: 2 }, body.subarray(PART), {}),
      ];
      await store.completeMultipartUpload(key, uploadId, parts, {});
      const range = { first: PART - 10, last: PART + 9 };
      assert.ok((await read(key, range)).equals(body.subarray(PART - 10, PART + 10)));
    });

    test('a refused completion makes no object and leaves the upload open, to be completed rightly', async () => {
      const [key, body] = [freshKey(), randomBytes(PART + 100)];
      const uploadId = await begin(key);
      const first = await store.uploadPart({ key, uploadId, partNumber: 1 }, body.subarray(0, PART), {});
      const second = await store.uploadPart({ key, uploadId, partNumber: 2 }, body.subarray(PART), {});
      const wrong = { ...second, etag: `"${'0'.repeat(32)}"` };
      await assert.rejects(store.completeMultipartUpload(key, uploadId, [first, wrong], {}), isNotNoUpload);
      assert.equal(await store.head(key, {}), undefined);
      assert.deepEqual(await store.listMultipartUploads(key, {}), [uploadId]);
      await store.completeMultipartUpload(key, uploadId, [first, second], {});
      assert.ok((await read(key)).equals(body));
    });

    test('a part that is short without being the last is refused', async () => {
      const key = freshKey();
      const uploadId = await begin(key);
      const parts = [
        await store.uploadPart({ key, uploadId, partNumber: 1 }, randomBytes(100), {}),
        await store.uploadPart({ key, uploadId, partNumber: 2 }, randomBytes(100), {}),
      ];
      await assert.rejects(store.completeMultipartUpload(key, uploadId, parts, {}), isNotNoUpload);
      assert.equal(await store.head(key, {}), undefined);
      await store.abortMultipartUpload(key, uploadId, {});
    });

    test('a completed upload is no upload any more, and its object stays whole', async () => {
      const [key, body] = [freshKey(), randomBytes(100)];
      const uploadId = await begin(key);
      const part = await store.uploadPart({ key, uploadId, partNumber: 1 }, body, {});
      await store.completeMultipartUpload(key, uploadId, [part], {});
      assert.deepEqual(await store.listMultipartUploads(key, {}), []);
      await store
        .completeMultipartUpload(key, uploadId, [part], {})
        .catch((error) => assert.ok(isNoUpload(error), String(error)));
      await store.abortMultipartUpload(key, uploadId, {});
      assert.ok((await read(key)).equals(body));
    });

    test('an aborted upload leaves nothing, and aborting it again is success', async () => {
      const key = freshKey();
      const uploadId = await begin(key);
      const part = await store.uploadPart({ key, uploadId, partNumber: 1 }, randomBytes(100), {});
      await store.abortMultipartUpload(key, uploadId, {});
      await store.abortMultipartUpload(key, uploadId, {});
      await assert.rejects(store.listParts(key, uploadId, {}), NoSuchUpload);
      await assert.rejects(store.completeMultipartUpload(key, uploadId, [part], {}), isNoUpload);
      await assert.rejects(store.uploadPart({ key, uploadId, partNumber: 2 }, randomBytes(100), {}), NoSuchUpload);
      assert.deepEqual(await store.listMultipartUploads(key, {}), []);
      assert.equal(await store.head(key, {}), undefined);
    });

    test('open uploads are listed by exactly their key', async () => {
      const key = freshKey();
      const uploadIds = [await begin(key), await begin(key)];
      const sibling = `${key}-2`;
      const siblingId = await begin(sibling);
      assert.deepEqual(new Set(await store.listMultipartUploads(key, {})), new Set(uploadIds));
      for (const uploadId of uploadIds) await store.abortMultipartUpload(key, uploadId, {});
      await store.abortMultipartUpload(sibling, siblingId, {});
    });

    test('a link hands the bytes out with the media type, disposition and cache control it was made for', async () => {
      const [key, body] = [(await opened.keyOfAsset?.()) ?? freshKey(), randomBytes(1000)];
      await put(key, body);
      const response = await fetch(await store.presignGet(key, link));
      assert.equal(response.status, 200);
      assert.equal(response.headers.get('content-type'), link.contentType);
      assert.equal(response.headers.get('content-disposition'), link.contentDisposition);
      assert.equal(response.headers.get('cache-control'), link.cacheControl);
      assert.ok(Buffer.from(await response.arrayBuffer()).equals(body));
    });

    test('a stream that is dropped half-way does no harm', async () => {
      const [key, body] = [freshKey(), randomBytes(PART)];
      await put(key, body);
      const opening = await store.get(key, {});
      assert.ok(opening);
      for await (const _chunk of opening.stream) break;
      assert.ok((await read(key)).equals(body));
    });

    test('every call on a key whose signal is aborted rejects with the reason, and does nothing', async () => {
      const [key, body] = [freshKey(), Buffer.from('x')];
      const sha256 = createHash('sha256').update(body).digest();
      const uploadId = await begin(key);
      const part = await store.uploadPart({ key, uploadId, partNumber: 1 }, body, {});
      const reason = new Error('gone');
      const options = { signal: AbortSignal.abort(reason) };
      const calls: Promise<unknown>[] = [
        store.put(key, body, attributes, { ...options, sha256 }),
        store.createMultipartUpload(key, attributes, { ...options, partSize: PART }),
        store.uploadPart({ key, uploadId, partNumber: 2 }, body, options),
        store.listParts(key, uploadId, options),
        store.completeMultipartUpload(key, uploadId, [part], options),
        store.abortMultipartUpload(key, uploadId, options),
        store.listMultipartUploads(key, options),
        store.head(key, options),
        store.get(key, options),
        store.delete(key, options),
      ];
      for (const outcome of await Promise.allSettled(calls))
        assert.equal('reason' in outcome && outcome.reason, reason);
      assert.equal(await store.head(key, {}), undefined);
      assert.deepEqual(await store.listMultipartUploads(key, {}), [uploadId]);
      assert.deepEqual(await store.listParts(key, uploadId, {}), [part]);
      await store.abortMultipartUpload(key, uploadId, {});
    });

    test('a stream whose signal is aborted half-way errors, and never just ends', async () => {
      const key = freshKey();
      await put(key, randomBytes(PART));
      const stop = new AbortController();
      const opening = await store.get(key, { signal: stop.signal });
      assert.ok(opening);
      await assert.rejects(async () => {
        for await (const _chunk of opening.stream) stop.abort(new Error('gone'));
      });
    });

    test('a probe of a store that is there resolves', () => store.check({}));

    test('a probe whose signal is aborted rejects with the reason', async () => {
      const reason = new Error('gone');
      await assert.rejects(store.check({ signal: AbortSignal.abort(reason) }), (error) => error === reason);
    });

    test('objects are listed by prefix, all of them, with size and time', async () => {
      const folder = `users/${randomBytes(8).toString('hex')}/assets`;
      const keys = Array.from({ length: 12 }, (_, index) => `${folder}/${String(index).padStart(2, '0')}/original`);
      for (const [index, key] of keys.entries()) await put(key, randomBytes(index + 1));
      const found = [];
      for await (const page of store.list(`${folder}/`, {})) found.push(...page);
      assert.deepEqual(new Set(found.map(({ key }) => key)), new Set(keys));
      for (const { key, size, lastModified } of found) {
        assert.equal(size, keys.indexOf(key) + 1);
        assert.ok(Math.abs(Date.now() - lastModified.getTime()) < 60_000);
      }
      const part = [];
      for await (const page of store.list(`${folder}/0`, {})) part.push(...page);
      assert.equal(part.length, 10);
      for await (const page of store.list(`${folder}-other/`, {})) assert.deepEqual(page, []);
    });

    test('many objects are deleted at once; missing keys are success', async () => {
      const folder = `users/${randomBytes(8).toString('hex')}/assets`;
      const keys = Array.from({ length: 5 }, (_, index) => `${folder}/${index}/original`);
      for (const key of keys.slice(1)) await put(key, randomBytes(10));
      const kept = freshKey();
      await put(kept, randomBytes(10));
      assert.deepEqual(await store.deleteAll(keys, {}), []);
      assert.deepEqual(await store.deleteAll(keys, {}), []);
      assert.deepEqual(await store.deleteAll([], {}), []);
      for (const key of keys) assert.equal(await store.head(key, {}), undefined);
      assert.ok(await store.head(kept, {}));
    });

    test('all open uploads are listed by prefix', async () => {
      const folder = `users/${randomBytes(8).toString('hex')}/assets`;
      const open = new Map<string, string>();
      for (let index = 0; index < 3; index++) {
        const key = `${folder}/${index}/original`;
        open.set(await begin(key), key);
      }
      const other = await begin(freshKey());
      const found = [];
      for await (const page of store.allMultipartUploads(folder, {})) found.push(...page);
      assert.deepEqual(new Map(found.map(({ uploadId, key }) => [uploadId, key])), open);
      assert.ok(!found.some(({ uploadId }) => uploadId === other));
      for (const { initiated } of found) assert.ok(Math.abs(Date.now() - initiated.getTime()) < 60_000);
      for (const [uploadId, key] of open) await store.abortMultipartUpload(key, uploadId, {});
      for await (const page of store.allMultipartUploads(folder, {})) assert.deepEqual(page, []);
    });

    describe('a stream of the service itself', () => {
      const sha256Of = (bytes: Buffer) => createHash('sha256').update(bytes).digest();
      const memory = () => new PartBuffers(8 * PART, PART);
      const chunksOf = (bytes: Buffer, size = 100_003) =>
        Array.from({ length: Math.ceil(bytes.length / size) }, (_, index) =>
          bytes.subarray(index * size, (index + 1) * size),
        );
      const assertNothingIsLeft = async (key: string, buffers: PartBuffers) => {
        assert.equal(await store.head(key, {}), undefined);
        assert.deepEqual(await store.listMultipartUploads(key, {}), []);
        assert.equal(buffers.inUse, 0);
      };
      /** Gives these bytes and then nothing more, without an end. */
      const stalling = (bytes: Buffer) => {
        const chunks = chunksOf(bytes);
        return new Readable({
          read() {
            const chunk = chunks.shift();
            if (chunk) this.push(chunk);
          },
        });
      };

      for (const [size, announced] of [
        [1, false],
        [1000, true],
        [PART, true],
        [4 * PART + 100, false],
        [3 * PART, true],
      ] as const) {
        test(`of ${size} bytes${announced ? ', which were announced,' : ''} becomes an object`, async () => {
          const [key, bytes, buffers] = [freshKey(), randomBytes(size), memory()];
          const sha256 = sha256Of(bytes);
          const options = { buffers, wait: 0, ...(announced && { size, sha256 }) };
          const written = await store.putStream(key, () => Readable.from(chunksOf(bytes)), attributes, options);
          assert.deepEqual(written, { size, sha256 });
          const { size: length, lastModified: _, ...stored } = (await store.head(key, {})) ?? assert.fail('no object');
          assert.equal(length, size);
          assert.deepEqual(stored, attributes);
          assert.ok((await read(key)).equals(bytes));
          assert.deepEqual(await store.listMultipartUploads(key, {}), []);
          assert.equal(buffers.inUse, 0);
        });
      }

      test('that ends without a byte becomes an object without a byte', async () => {
        const [key, buffers] = [freshKey(), memory()];
        const written = await store.putStream(key, () => Readable.from([]), attributes, { buffers, wait: 0 });
        assert.deepEqual(written, { size: 0, sha256: sha256Of(Buffer.alloc(0)) });
        assert.equal((await store.head(key, {}))?.size, 0);
        assert.equal(buffers.inUse, 0);
      });

      test('may be sent again to the same key', async () => {
        const [key, bytes, buffers] = [freshKey(), randomBytes(PART + 5), memory()];
        for (let time = 0; time < 2; time++)
          await store.putStream(key, () => Readable.from(chunksOf(bytes)), attributes, { buffers, wait: 0 });
        assert.ok((await read(key)).equals(bytes));
      });

      for (const size of [10, 3 * PART]) {
        test(`that fails after ${size} bytes leaves nothing, and its failure is told`, async () => {
          const [key, buffers] = [freshKey(), memory()];
          // With a code that a disk could fail with too.
          const failure = Object.assign(new Error('the decoder crashed'), { code: 'EIO' });
          const source = Readable.from(
            (async function* () {
              yield* chunksOf(randomBytes(size));
              throw failure;
            })(),
          );
          await assert.rejects(
            store.putStream(key, () => source, attributes, { buffers, wait: 0 }),
            (error) => error === failure,
          );
          assert.ok(source.destroyed);
          await assertNothingIsLeft(key, buffers);
        });

        test(`that stalls after ${size} bytes ends by the signal, and leaves nothing`, async () => {
          const [key, buffers, stop] = [freshKey(), memory(), new AbortController()];
          const reason = new Error('gone');
          const source = stalling(randomBytes(size));
          const writing = store.putStream(key, () => source, attributes, { buffers, wait: 0, signal: stop.signal });
          const rejected = assert.rejects(writing, (error) => error === reason);
          while (source.readableLength > 0 || !source.readableDidRead) await new Promise(setImmediate);
          stop.abort(reason);
          await rejected;
          assert.ok(source.destroyed);
          await assertNothingIsLeft(key, buffers);
        });
      }

      for (const [what, announced] of [
        ['fewer', { size: 2 * PART + 1 }],
        ['more', { size: 2 * PART - 1 }],
        ['other', { sha256: sha256Of(Buffer.from('other')) }],
      ] as const) {
        test(`that gives ${what} bytes than announced is refused, and leaves nothing`, async () => {
          const [key, buffers] = [freshKey(), memory()];
          const source = () => Readable.from(chunksOf(randomBytes(2 * PART)));
          await assert.rejects(
            store.putStream(key, source, attributes, { buffers, wait: 0, ...announced }),
            ContentMismatch,
          );
          await assertNothingIsLeft(key, buffers);
        });
      }

      test('is not opened when the signal is aborted already', async () => {
        const [key, buffers, reason] = [freshKey(), memory(), new Error('gone')];
        const source = () => assert.fail('the source was opened');
        const options = { buffers, wait: 0, signal: AbortSignal.abort(reason) };
        await assert.rejects(store.putStream(key, source, attributes, options), (error) => error === reason);
        await assertNothingIsLeft(key, buffers);
      });
    });
  });
}
