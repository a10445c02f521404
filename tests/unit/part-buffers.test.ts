import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { NoBufferFree, type PartBuffer, PartBuffers } from '../../src/storage/part-buffers.ts';

const PART = 64 * 1024;
const never = new AbortController().signal;

describe('part buffers', () => {
  test('never give out more than the budget, whatever is taken and given back', async () => {
    const step = fc.oneof(fc.record({ take: fc.integer({ min: 1, max: PART * 2 }) }), fc.record({ release: fc.nat() }));
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
        const buffers = new PartBuffers(4 * PART, PART);
        const out: PartBuffer[] = [];
        for (const each of steps) {
          if ('take' in each) {
            const buffer = buffers.tryAcquire(each.take);
            if (buffer) {
              assert.ok(buffer.memory.length >= Math.min(each.take, PART));
              out.push(buffer);
            }
          } else if (out.length > 0) out.splice(each.release % out.length, 1)[0]?.release();
          const sum = out.reduce((bytes, { memory }) => bytes + memory.length, 0);
          assert.ok(sum <= 4 * PART);
          assert.equal(buffers.inUse, sum);
          // But for one part that may be given back just now.
          assert.ok(buffers.allocated <= 5 * PART, `${buffers.allocated} bytes are taken`);
        }
        for (const buffer of out) buffer.release();
        assert.equal(buffers.inUse, 0);
      }),
    );
  });

  test('no two that are out share memory', async () => {
    const buffers = new PartBuffers(4 * PART, PART);
    for (let round = 0; round < 3; round++) {
      const out = await Promise.all(Array.from({ length: 4 }, () => buffers.acquire(PART, 0, never)));
      for (const [index, { memory }] of out.entries()) memory.fill(index);
      for (const [index, { memory }] of out.entries()) assert.ok(memory.every((byte) => byte === index));
      for (const buffer of out) buffer.release();
    }
  });

  test('who waits is served in order of arrival, and a small request does not overtake', async () => {
    const buffers = new PartBuffers(PART, PART);
    const first = await buffers.acquire(PART, 60_000, never);
    const order: string[] = [];
    const large = buffers.acquire(PART, 60_000, never).then((buffer) => {
      order.push('large');
      return buffer;
    });
    const small = buffers.acquire(1, 60_000, never).then((buffer) => {
      order.push('small');
      return buffer;
    });
    assert.equal(buffers.tryAcquire(1), undefined);
    first.release();
    (await large).release();
    (await small).release();
    assert.deepEqual(order, ['large', 'small']);
  });

  test('nobody overtakes who waits for more, though less is free', async () => {
    const buffers = new PartBuffers(2 * PART, PART);
    const held = [await buffers.acquire(PART, 0, never), await buffers.acquire(PART / 2, 0, never)];
    const large = buffers.acquire(PART, 60_000, never);
    assert.equal(buffers.inUse, 1.5 * PART, 'a half is free');
    assert.equal(buffers.tryAcquire(1), undefined);
    await assert.rejects(buffers.acquire(1, 0, never), NoBufferFree);
    held[1]?.release();
    (await large).release();
    const free = buffers.tryAcquire(1);
    assert.ok(free, 'nobody waits any more');
    free.release();
    held[0]?.release();
    assert.equal(buffers.inUse, 0);
  });

  test('what is kept is dropped when nothing was given back for ten seconds', async (context) => {
    context.mock.timers.enable({ apis: ['setTimeout'] });
    const buffers = new PartBuffers(4 * PART, PART);
    const use = async () => {
      const buffer = await buffers.acquire(PART, 0, never);
      buffer.release();
      return buffer.memory;
    };
    for (let round = 0; round < 2; round++) {
      await use();
      context.mock.timers.tick(9_999);
      assert.equal(buffers.allocated, PART);
      const memory = await use();
      context.mock.timers.tick(9_999);
      assert.equal(buffers.allocated, PART, 'giving back puts it off');
      context.mock.timers.tick(1);
      assert.equal(buffers.allocated, 0);
      assert.equal(memory.length, 0, 'and its memory is free at once: a process at rest collects no garbage');
    }
  });

  test('memory that others allocate counts like buffers, waits its turn, and makes no buffer of its own', async () => {
    const buffers = new PartBuffers(4 * PART, PART);
    const out = await Promise.all(Array.from({ length: 4 }, () => buffers.acquire(PART, 0, never)));
    await assert.rejects(buffers.reserve(PART, 1, never), NoBufferFree);
    await assert.rejects(buffers.reserve(PART, 60_000, AbortSignal.abort(new Error('gone'))), /gone/);
    const order: string[] = [];
    const large = buffers.reserve(3 * PART, 60_000, never).then((release) => {
      order.push('large');
      return release;
    });
    const small = buffers.acquire(1, 60_000, never).then((buffer) => {
      order.push('small');
      return buffer;
    });
    for (const buffer of out) buffer.release();
    const release = await large;
    assert.equal(buffers.inUse, 3 * PART + 4096);
    (await small).release();
    assert.deepEqual(order, ['large', 'small']);
    release();
    release();
    assert.equal(buffers.inUse, 0);
    const again = await Promise.all(Array.from({ length: 4 }, () => buffers.acquire(PART, 0, never)));
    for (const buffer of again) buffer.release();
    const all = await buffers.reserve(100 * PART, 0, never);
    assert.equal(buffers.inUse, 4 * PART, 'no more than there is');
    assert.ok(buffers.allocated <= 5 * PART, 'what is kept makes room');
    all();
  });

  test('waiting ends with the time, or with the signal, and what was waited for goes to the next', async () => {
    const buffers = new PartBuffers(PART, PART);
    const held = await buffers.acquire(PART / 2, 0, never);
    await assert.rejects(buffers.acquire(PART, 20, never), NoBufferFree);
    const gone = new AbortController();
    const waiting = buffers.acquire(PART, 10_000, gone.signal);
    const behind = buffers.acquire(1, 10_000, never);
    gone.abort(new Error('gone'));
    await assert.rejects(waiting, /gone/);
    (await behind).release();
    held.release();
    await assert.rejects(buffers.acquire(1, 10, AbortSignal.abort(new Error('too late'))), /too late/);
    assert.equal(buffers.inUse, 0);
  });

  test('of every size they are used again, and dropped where the budget wants it', async () => {
    const buffers = new PartBuffers(2 * PART, PART);
    for (const size of [1, 5000, 20_000, 50_000, PART]) {
      const first = await buffers.acquire(size, 0, never);
      first.release();
      const second = await buffers.acquire(size, 0, never);
      assert.equal(second.memory, first.memory, `${size} bytes`);
      second.release();
    }
    // Whatever is kept, the whole budget can be had.
    const all = await Promise.all([buffers.acquire(PART, 0, never), buffers.acquire(PART, 0, never)]);
    for (const { memory } of all) assert.equal(memory.length, PART);
  });

  test('no more than a fourth is lost to sizes that come up again', async () => {
    const large = 1024 * 1024;
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: large }), async (size) => {
        const { memory } = await new PartBuffers(large, large).acquire(size, 0, never);
        assert.ok(memory.length >= size && memory.length <= Math.max(4096, size * 1.25 + 4096));
      }),
    );
  });

  test('what is kept of many sizes stays within the budget and a part', async () => {
    const buffers = new PartBuffers(2 * PART, PART);
    for (let size = 4096; size <= PART; size += 4096) (await buffers.acquire(size, 0, never)).release();
    const out = await buffers.acquire(PART, 0, never);
    assert.ok(buffers.allocated <= 3 * PART, `${buffers.allocated} bytes are taken`);
    out.release();
  });

  test('giving back twice counts once', async () => {
    const buffers = new PartBuffers(2 * PART, PART);
    const [one, other] = [await buffers.acquire(PART, 0, never), await buffers.acquire(PART, 0, never)];
    one.release();
    one.release();
    assert.equal(buffers.inUse, PART);
    other.release();
  });
});
