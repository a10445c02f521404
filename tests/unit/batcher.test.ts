import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Batcher } from '../../src/database/batcher.ts';

/** Runs that stand still until they are let go. */
function gated(max = 100) {
  const runs: { key: string; items: readonly number[]; end: PromiseWithResolvers<void> }[] = [];
  const batcher = new Batcher<number, string>(async (key, items) => {
    const end = Promise.withResolvers<void>();
    runs.push({ key, items, end });
    await end.promise;
    return items.map((item) => `${key}${item}`);
  }, max);
  /** Ends the oldest run that is under way. */
  const release = async (index: number, error?: Error) => {
    if (error) runs[index]?.end.reject(error);
    else runs[index]?.end.resolve();
    await new Promise(setImmediate);
  };
  return { batcher, runs, release, itemsOf: () => runs.map(({ items }) => items) };
}

describe('a batcher', () => {
  test('runs what comes alone at once, and what comes meanwhile together', async () => {
    const { batcher, release, itemsOf } = gated();
    const outcomes = [1, 2, 3].map((item) => batcher.submit('a', item));
    assert.deepEqual(itemsOf(), [[1]]);
    await release(0);
    assert.deepEqual(itemsOf(), [[1], [2, 3]]);
    outcomes.push(batcher.submit('a', 4));
    await release(1);
    assert.deepEqual(itemsOf(), [[1], [2, 3], [4]]);
    await release(2);
    assert.deepEqual(await Promise.all(outcomes), ['a1', 'a2', 'a3', 'a4']);
    const last = batcher.submit('a', 5);
    assert.deepEqual(itemsOf().at(-1), [5]);
    await release(3);
    assert.equal(await last, 'a5');
  });

  test('lets no key wait for another', async () => {
    const { batcher, runs, release } = gated();
    const first = batcher.submit('a', 1);
    const second = batcher.submit('b', 2);
    assert.deepEqual(
      runs.map(({ key }) => key),
      ['a', 'b'],
    );
    await release(1);
    assert.equal(await second, 'b2');
    await release(0);
    assert.equal(await first, 'a1');
  });

  test('makes no batch larger than its bound', async () => {
    const { batcher, release, itemsOf } = gated(2);
    const outcomes = [1, 2, 3, 4].map((item) => batcher.submit('a', item));
    for (let run = 0; run < 3; run++) await release(run);
    await Promise.all(outcomes);
    assert.deepEqual(itemsOf(), [[1], [2, 3], [4]]);
  });

  test('a batch that fails fails all who are in it, and nobody after it', async () => {
    const { batcher, release } = gated();
    const first = batcher.submit('a', 1);
    const failing = [2, 3].map((item) => batcher.submit('a', item));
    await release(0);
    const last = batcher.submit('a', 4);
    const settled = Promise.allSettled(failing);
    await release(1, new Error('no'));
    await release(2);
    assert.deepEqual(await Promise.all([first, last]), ['a1', 'a4']);
    assert.deepEqual(
      (await settled).map(({ status }) => status),
      ['rejected', 'rejected'],
    );
  });
});
