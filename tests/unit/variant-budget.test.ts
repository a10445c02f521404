import assert from 'node:assert/strict';
import { test } from 'node:test';
import { VariantBudget } from '../../src/variants/budget.ts';

test('an owner has so many new variants in a minute, at once or one after the other; others have their own', () => {
  let now = 1000;
  const budget = new VariantBudget(60, () => now);
  const taken = (ownerId: string, times: number) => Array.from({ length: times }, () => budget.take(ownerId));
  assert.deepEqual(taken('greedy', 61), [...Array(60).fill(undefined), 1]);
  assert.equal(budget.take('modest'), undefined);
  now += 1000;
  assert.deepEqual(taken('greedy', 2), [undefined, 1]);
  now += 30_000;
  assert.deepEqual(taken('greedy', 31), [...Array(30).fill(undefined), 1]);
  // Never more than of a minute, however long nothing was asked for; and nobody is kept in mind for ever.
  now += 3_600_000;
  assert.equal(taken('greedy', 61).at(-1), 1);
  assert.equal(budget.size, 1);
});
