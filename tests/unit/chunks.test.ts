import assert from 'node:assert/strict';
import { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { describe, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { chunksOf, free, freeing } from '../../src/storage/chunks.ts';

describe('chunks', () => {
  test('one that is all of its memory is freed; one that shares it, or is small, is left as it is', () => {
    const alone = Buffer.allocUnsafeSlow(65_536).fill(1);
    free(alone);
    assert.equal(alone.length, 0);
    const whole = Buffer.allocUnsafeSlow(65_536).fill(2);
    for (const part of [whole.subarray(0, 10), whole.subarray(10), whole.subarray(1)]) {
      free(part);
      assert.ok(part.length > 0 && part.every((byte) => byte === 2));
    }
    // A parser may go on using what it handed out.
    const small = Buffer.allocUnsafeSlow(100).fill(3);
    free(small);
    assert.equal(small.length, 100);
  });

  test('what is piped arrives whole at a destination that is slow, and is freed behind it', async () => {
    const chunks = Array.from({ length: 50 }, (_, index) => Buffer.allocUnsafeSlow(10_000).fill(index));
    const arrived: number[] = [];
    const slow = new Writable({
      highWaterMark: 15_000,
      write(chunk: Buffer, _encoding, done) {
        arrived.push(chunk.length, chunk[0] ?? -1);
        setImmediate(done);
      },
    });
    freeing(Readable.from(chunks)).pipe(slow);
    await new Promise((finished) => slow.once('finish', finished));
    assert.deepEqual(
      arrived,
      chunks.flatMap((_, index) => [10_000, index]),
    );
    assert.ok(chunks.every((chunk) => chunk.length === 0));
  });

  test('a destination that does not take more is not read for', async () => {
    let read = 0;
    const source = new Readable({
      highWaterMark: 10_000,
      read() {
        read += 1;
        this.push(read < 200 ? Buffer.allocUnsafeSlow(10_000) : null);
      },
    });
    // Never says that it is done.
    freeing(source).pipe(new Writable({ highWaterMark: 30_000, write: () => {} }));
    for (let turn = 0; turn < 100; turn++) await new Promise((next) => setImmediate(next));
    assert.ok(read <= 8, `${read} chunks were read`);
    source.destroy();
  });

  test('a destination that is gone is written to no more, and the source comes to its end', async (context) => {
    const chunks = Array.from({ length: 3 }, () => Buffer.allocUnsafeSlow(10_000).fill(7));
    const source = freeing(Readable.from(chunks));
    const gone = new Writable({ write: (_chunk, _encoding, done) => done() });
    const write = context.mock.method(gone, 'write');
    gone.destroy();
    source.pipe(gone);
    await assert.rejects(pipeline(Readable.from(['x']), gone));
    for (let turn = 0; turn < 100 && !source.readableEnded; turn++) await new Promise((next) => setImmediate(next));
    assert.ok(source.readableEnded);
    assert.equal(write.mock.callCount(), 0);
    assert.ok(chunks.every((chunk) => chunk.length === 10_000 && chunk.every((byte) => byte === 7)));
  });

  test('those of a stream that waited are not copied into one, and the stream reads no more meanwhile', async () => {
    const chunks = Array.from({ length: 20 }, (_, index) => Buffer.allocUnsafeSlow(10_000).fill(index));
    let pushed = 0;
    const stream = new Readable({
      highWaterMark: 25_000,
      read() {
        const chunk = chunks[pushed];
        pushed += 1;
        // Others than the reader are at work when it comes.
        setImmediate(() => this.push(chunk ?? null));
      },
    });
    let received = 0;
    for await (const chunk of chunksOf(stream)) {
      assert.equal(chunk, chunks[received]);
      received += 1;
      for (let turn = 0; turn < 8; turn++) await nextTurn();
      assert.ok(pushed <= received + 4, `${pushed} were read, ${received} taken`);
    }
    assert.equal(received, chunks.length);
  });

  test('a stream that fails fails its reader, after what came before; one that is left stays paused', async () => {
    const fault = new Error('gone');
    const failing = Readable.from(
      (async function* () {
        yield Buffer.from('a');
        throw fault;
      })(),
    );
    const seen: string[] = [];
    await assert.rejects(
      async () => {
        for await (const chunk of chunksOf(failing)) seen.push(chunk.toString());
      },
      (error) => error === fault,
    );
    assert.deepEqual(seen, ['a']);
    const left = Readable.from([Buffer.from('b'), Buffer.from('c')]);
    for await (const chunk of chunksOf(left)) {
      assert.equal(chunk.toString(), 'b');
      break;
    }
    assert.ok(!left.destroyed && left.isPaused());
    const cut = new Readable({ read() {} });
    cut.push('d');
    setImmediate(() => cut.destroy());
    await assert.rejects(async () => {
      for await (const _chunk of chunksOf(cut));
    }, /Premature close/);
    const empty = Readable.from([]);
    for await (const _chunk of chunksOf(empty)) assert.fail();
  });
});
