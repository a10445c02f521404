/** Somebody who asks for a record does not wait until all that sixteen uploads have sent is hashed. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Turns } from '../../src/storage/turns.ts';

describe('a turn of the event loop', () => {
  test('has room for so many bytes, and who comes later waits for the next one, in order of arrival', async () => {
    const turns = new Turns(100);
    assert.equal(turns.take(60), undefined);
    assert.equal(
      turns.take(60),
      undefined,
      'the last one may pass the bound, or nothing large would ever have its turn',
    );
    const order: number[] = [];
    for (const index of [0, 1, 2, 3]) void turns.take(60)?.then(() => order.push(index));
    await Promise.resolve();
    assert.deepEqual(order, [], 'not in this turn');
    await nextTurn();
    assert.deepEqual(order, [0, 1]);
    await nextTurn();
    assert.deepEqual(order, [0, 1, 2, 3]);
  });

  test('nobody overtakes those who wait', async () => {
    const turns = new Turns(100);
    assert.equal(turns.take(100), undefined);
    const order: string[] = [];
    const first = turns.take(100)?.then(() => order.push('first'));
    await nextTurn();
    const second = turns.take(1);
    assert.ok(second, 'the turn of the first is taken');
    await Promise.all([first, second.then(() => order.push('second'))]);
    assert.deepEqual(order, ['first', 'second']);
  });
});
