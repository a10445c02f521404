/** Against a store in memory, because no real one can be made to hold its answers back one by one. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { type ObjectStore, ObjectStoreUnavailable, type UploadedPart } from '../../src/storage/object-store.ts';
import { PartBuffers } from '../../src/storage/part-buffers.ts';
import { PartWriter } from '../../src/storage/part-writer.ts';
import { OutcomeUnknown } from '../../src/storage/whole-object.ts';

const PART = 64 * 1024;
const never = new AbortController().signal;
const attributes = () => ({
  contentType: 'a/b',
  contentDisposition: 'attachment',
  cacheControl: 'private',
  metadata: {},
});

class MemoryStore
  implements
    Pick<
      ObjectStore,
      | 'put'
      | 'createMultipartUpload'
      | 'uploadPart'
      | 'completeMultipartUpload'
      | 'abortMultipartUpload'
      | 'listMultipartUploads'
      | 'head'
      | 'delete'
    >
{
  readonly objects = new Map<string, Buffer>();
  readonly uploads = new Map<string, Map<number, Buffer>>();
  underWay = 0;
  mostUnderWay = 0;
  /** Throws or waits; called before each call takes effect. */
  before: (call: string) => Promise<void> | void = () => {};
  after: (call: string) => void = () => {};

  async put(key: string, body: Buffer): Promise<void> {
    await this.before('put');
    this.objects.set(key, Buffer.from(body));
    this.after('put');
  }
  async createMultipartUpload(key: string): Promise<string> {
    await this.before('create');
    this.uploads.set(key, new Map());
    this.after('create');
    return key;
  }
  async uploadPart({ key, partNumber }: { key: string; partNumber: number }, body: Buffer): Promise<UploadedPart> {
    this.underWay += 1;
    this.mostUnderWay = Math.max(this.mostUnderWay, this.underWay);
    try {
      await new Promise((later) => setImmediate(later));
      await this.before('part');
      // Read late, as a socket does: the buffer must still be the part's own.
      this.uploads.get(key)?.set(partNumber, Buffer.from(body));
      return { partNumber, etag: `${partNumber}`, size: body.length };
    } finally {
      this.underWay -= 1;
    }
  }
  async completeMultipartUpload(key: string, _uploadId: string, parts: UploadedPart[]): Promise<void> {
    await this.before('complete');
    const stored = this.uploads.get(key);
    this.uploads.delete(key);
    this.objects.set(key, Buffer.concat(parts.map(({ partNumber }) => stored?.get(partNumber) ?? Buffer.alloc(0))));
    this.after('complete');
  }
  async abortMultipartUpload(key: string): Promise<void> {
    await this.before('abort');
    this.uploads.delete(key);
  }
  async listMultipartUploads(key: string): Promise<string[]> {
    return this.uploads.has(key) ? [key] : [];
  }
  async head(key: string) {
    await this.before('head');
    const object = this.objects.get(key);
    return object && { size: object.length, lastModified: new Date(), ...attributes() };
  }
  async delete(key: string): Promise<void> {
    this.objects.delete(key);
  }
}

function writer(
  store: MemoryStore,
  buffers: PartBuffers,
  key = 'k',
  beforeSending: (bytes: number) => Promise<void> = async () => {},
  signal = never,
): PartWriter {
  return new PartWriter({
    store: store as unknown as ObjectStore,
    buffers,
    key,
    partsInFlight: 3,
    signal,
    attributes,
    beforeSending,
  });
}
const digest = (bytes: Buffer) => createHash('sha256').update(bytes).digest();

describe('the part writer', () => {
  test('gives the bytes back however they were cut, with parts of equal size and a bounded number under way', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: PART * 7 }),
        fc.integer({ min: 1000, max: PART * 2 }),
        fc.integer({ min: 1, max: 6 }),
        async (size, chunk, budget) => {
          const [store, buffers, bytes] = [new MemoryStore(), new PartBuffers(budget * PART, PART), randomBytes(size)];
          const sent: number[] = [];
          const subject = writer(store, buffers, 'k', async (total) => void sent.push(total));
          await subject.open(Number.POSITIVE_INFINITY, 0, never);
          for (let at = 0; at < size; at += chunk) await subject.write(bytes.subarray(at, at + chunk));
          const sizes = [...(store.uploads.get('k')?.values() ?? [])].map((part) => part.length);
          await subject.finish(digest(bytes));
          assert.ok(store.objects.get('k')?.equals(bytes));
          assert.ok(sizes.every((each) => each === PART));
          assert.ok(store.mostUnderWay <= 4, `${store.mostUnderWay}`);
          // What is reserved grows and ends with the size.
          assert.deepEqual(
            sent,
            [...sent].sort((a, b) => a - b),
          );
          assert.equal(sent.at(-1), size);
          assert.equal(buffers.inUse, 0);
        },
      ),
      { numRuns: 60 },
    );
  });

  test('many at once with a budget of few parts all come to an end', async () => {
    const [store, buffers] = [new MemoryStore(), new PartBuffers(3 * PART, PART)];
    await Promise.all(
      Array.from({ length: 20 }, async (_, index) => {
        const bytes = randomBytes(PART * 4 + index);
        const subject = writer(store, buffers, `k${index}`);
        await subject.open(Number.POSITIVE_INFINITY, 20_000, never);
        // Everybody has a buffer half full before anybody goes on.
        for (let at = 0; at < bytes.length; at += PART / 2) {
          await subject.write(bytes.subarray(at, at + PART / 2));
          await new Promise((later) => setImmediate(later));
        }
        await subject.finish(digest(bytes));
        assert.ok(store.objects.get(`k${index}`)?.equals(bytes));
      }),
    );
    assert.equal(buffers.inUse, 0);
  });

  test('abandoned before anything was sent it has touched nothing', async () => {
    const [store, buffers] = [new MemoryStore(), new PartBuffers(PART, PART)];
    const subject = writer(store, buffers);
    await subject.open(10, 0, never);
    await subject.write(Buffer.from('bytes'));
    store.before = () => assert.fail('the store was asked');
    assert.equal(await subject.abandon(), 'nothing-left');
    assert.equal(buffers.inUse, 0);
  });

  test('abandoned in the middle it leaves no upload and no buffer', async () => {
    const [store, buffers] = [new MemoryStore(), new PartBuffers(4 * PART, PART)];
    const subject = writer(store, buffers);
    await subject.open(Number.POSITIVE_INFINITY, 0, never);
    await subject.write(randomBytes(PART * 3 + 5));
    assert.equal(await subject.abandon(), 'nothing-left');
    assert.equal(store.uploads.size, 0);
    assert.equal(buffers.inUse, 0);
  });

  test('abandoned while the store is away it says that something may be left', async () => {
    const [store, buffers] = [new MemoryStore(), new PartBuffers(4 * PART, PART)];
    const subject = writer(store, buffers);
    await subject.open(Number.POSITIVE_INFINITY, 0, never);
    await subject.write(randomBytes(PART + 5));
    store.before = () => {
      throw new ObjectStoreUnavailable('away');
    };
    assert.equal(await subject.abandon(), 'unsure');
    assert.equal(buffers.inUse, 0);
  });

  for (const [call, size] of [
    ['put', 10],
    ['create', PART + 5],
  ] as const) {
    test(`abandoned after the answer to ${call} was lost it removes what is there, and says that something may be left`, async () => {
      const [store, buffers, bytes] = [new MemoryStore(), new PartBuffers(4 * PART, PART), randomBytes(size)];
      store.after = (done) => {
        if (done === call) throw new ObjectStoreUnavailable('lost');
      };
      store.before = (each) => {
        if (each === 'head') throw new ObjectStoreUnavailable('away');
      };
      const subject = writer(store, buffers);
      await subject.open(Number.POSITIVE_INFINITY, 0, never);
      await assert.rejects(async () => {
        await subject.write(bytes);
        await subject.finish(digest(bytes));
      }, ObjectStoreUnavailable);
      // What was sent without an answer may take effect after the look.
      assert.equal(await subject.abandon(), 'unsure');
      assert.equal(store.objects.size + store.uploads.size, 0);
      assert.equal(buffers.inUse, 0);
    });
  }

  for (const [call, size] of [
    ['put', 10],
    ['complete', PART * 2 + 1],
  ] as const) {
    test(`a lost answer to ${call} is settled by looking`, async () => {
      const [store, buffers, bytes] = [new MemoryStore(), new PartBuffers(4 * PART, PART), randomBytes(size)];
      store.after = (done) => {
        if (done === call) throw new ObjectStoreUnavailable('lost');
      };
      const subject = writer(store, buffers);
      await subject.open(Number.POSITIVE_INFINITY, 0, never);
      await subject.write(bytes);
      await subject.finish(digest(bytes));
      assert.ok(store.objects.get('k')?.equals(bytes));
    });

    test(`a ${call} that did not happen is told, and one that nobody knows of is told as that`, async () => {
      const [store, buffers, bytes] = [new MemoryStore(), new PartBuffers(4 * PART, PART), randomBytes(size)];
      for (const [fails, expected] of [
        [[call], ObjectStoreUnavailable],
        [[call, 'head'], OutcomeUnknown],
      ] as const) {
        store.before = (each) => {
          if ((fails as readonly string[]).includes(each)) throw new ObjectStoreUnavailable('away');
        };
        const subject = writer(store, buffers);
        await subject.open(Number.POSITIVE_INFINITY, 0, never);
        await subject.write(bytes);
        await assert.rejects(subject.finish(digest(bytes)), expected);
        store.before = () => {};
        await subject.abandon();
      }
    });
  }

  test('a part that fails ends the writing', async () => {
    const [store, buffers] = [new MemoryStore(), new PartBuffers(8 * PART, PART)];
    store.before = (call) => {
      if (call === 'part') throw new ObjectStoreUnavailable('away');
    };
    const subject = writer(store, buffers);
    await subject.open(Number.POSITIVE_INFINITY, 0, never);
    await assert.rejects(async () => {
      for (let index = 0; index < 20; index++) await subject.write(randomBytes(PART));
    }, ObjectStoreUnavailable);
    await subject.abandon();
    assert.equal(buffers.inUse, 0);
  });

  test('goes on where others have stopped, wherever that was, and reports each part once and in order', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: PART * 5 }),
        fc.array(fc.integer({ min: 0, max: PART * 3 }), { maxLength: 6 }),
        fc.integer({ min: 1, max: 5 }),
        async (size, requests, budget) => {
          const [store, buffers, bytes] = [new MemoryStore(), new PartBuffers(budget * PART, PART), randomBytes(size)];
          const noted: { part: UploadedPart; end: number }[] = [];
          let reads = 0;
          let [uploadId, tail, position]: [string | undefined, Buffer, number] = [undefined, Buffer.alloc(0), 0];
          const resumed = async () => {
            const subject = new PartWriter({
              store: store as unknown as ObjectStore,
              buffers,
              key: 'k',
              partsInFlight: 3,
              signal: never,
              attributes,
              beforeSending: async () => {},
              onBegun: async (id) => {
                uploadId = id;
              },
              onPart: async (part, end) => void noted.push({ part, end }),
            });
            const parts = noted.length;
            const kept = tail;
            subject.resume({
              ...{ uploadId, parts, bytes: position - tail.length },
              tail: {
                size: tail.length,
                read: async function* () {
                  reads += 1;
                  yield kept.subarray(0, 100);
                  yield kept.subarray(100);
                },
              },
            });
            await subject.open(size, 0, never);
            assert.equal(subject.length, position);
            return subject;
          };
          for (const length of requests) {
            const subject = await resumed();
            const [before, readsBefore] = [noted.length, reads];
            await subject.write(bytes.subarray(position, position + length));
            await subject.flush();
            // The tail is read for a part that is made of it, and for nothing else.
            assert.equal(reads - readsBefore, tail.length > 0 && noted.length > before ? 1 : 0);
            const kept = noted.length > before ? Buffer.alloc(0) : tail;
            tail = Buffer.concat([kept, subject.bytesFrom(Math.max(position, subject.inParts))]);
            position = subject.length;
            await subject.close();
            assert.equal(buffers.inUse, 0);
          }
          const last = await resumed();
          await last.write(bytes.subarray(position));
          await last.finish(digest(bytes), async (own) => [
            ...noted.map(({ part }) => part).filter(({ partNumber }) => partNumber < (own[0]?.partNumber ?? 1e9)),
            ...own,
          ]);
          assert.ok(store.objects.get('k')?.equals(bytes));
          assert.deepEqual(
            noted.map(({ part, end }) => [part.partNumber, end]),
            noted.map((_, index) => [index + 1, (index + 1) * PART]),
          );
          assert.equal(buffers.inUse, 0);
        },
      ),
      { numRuns: 60 },
    );
  });

  test('what ends within a part takes memory for itself alone, however long the tail is', async () => {
    const buffers = new PartBuffers(4 * PART, PART);
    const subject = new PartWriter({
      store: new MemoryStore() as unknown as ObjectStore,
      ...{ buffers, key: 'k', partsInFlight: 3, signal: never, attributes, beforeSending: async () => {} },
    });
    const read = () => assert.fail('the tail was read');
    subject.resume({ uploadId: 'k', parts: 2, bytes: 2 * PART, tail: { size: PART - 10, read } });
    await subject.open(3 * PART - 5, 0, never, { withoutTail: true });
    await subject.write(Buffer.from('12345'));
    assert.equal(subject.length, 3 * PART - 5);
    assert.equal(subject.bytesFrom(3 * PART - 9).toString(), '2345');
    assert.throws(() => subject.bytesFrom(3 * PART - 11), RangeError);
    assert.equal(buffers.inUse, 4096);
    await subject.close();
    assert.equal(buffers.inUse, 0);
  });

  test('what cannot be noted ends the writing, and is left to whoever was told of it', async () => {
    const [store, buffers] = [new MemoryStore(), new PartBuffers(8 * PART, PART)];
    const options = {
      store: store as unknown as ObjectStore,
      buffers,
      key: 'k',
      partsInFlight: 3,
      signal: never,
      attributes,
      beforeSending: async () => {},
    };
    const refuse = async () => {
      throw new Error('superseded');
    };
    for (const refusal of [{ onPart: refuse }, { onBegun: refuse }]) {
      const subject = new PartWriter({ ...options, ...refusal });
      await subject.open(Number.POSITIVE_INFINITY, 0, never);
      await assert.rejects(async () => {
        await subject.write(randomBytes(5 * PART));
        await subject.flush();
      }, /superseded/);
      await subject.close();
      assert.equal(buffers.inUse, 0);
      assert.ok(store.uploads.has('k'));
    }
  });

  test('large parts are sent in turns of the event loop of their own, whoever sends them; small ones wait for none', async () => {
    const MEBIBYTE = 1024 * 1024;
    const buffers = new PartBuffers(64 * MEBIBYTE, 2 * MEBIBYTE);
    const store = new MemoryStore();
    let turn = 0;
    const counting = () => {
      turn += 1;
      counter = setImmediate(counting);
    };
    let counter = setImmediate(counting);
    const sentIn: number[] = [];
    store.before = (call) => {
      if (call === 'put') sentIn.push(turn);
    };
    const send = async (sizes: number[]) => {
      const writers = sizes.map((size, index) => ({
        bytes: randomBytes(size),
        subject: writer(store, buffers, `${index}`),
      }));
      for (const { bytes, subject } of writers) {
        await subject.open(bytes.length, 0, never);
        await subject.write(bytes);
      }
      sentIn.length = 0;
      await Promise.all(writers.map(({ bytes, subject }) => subject.finish(digest(bytes))));
      return new Set(sentIn).size;
    };
    try {
      assert.equal(await send([MEBIBYTE, MEBIBYTE, MEBIBYTE, MEBIBYTE]), 4);
      assert.equal(await send([300, 300, 300, 300]), 1);
    } finally {
      clearImmediate(counter);
    }
  });
});
