import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Problem } from '../../src/problems.ts';
import { ShortRequests } from '../../src/uploads/short-requests.ts';

const isRefusal = (error: unknown) => error instanceof Problem && error.type === 'too-many-requests';

test('a caller may send a sixth of a minute at once, then as many as time brings', () => {
  let now = 0;
  const limit = new ShortRequests(1200, () => now);
  for (let index = 0; index < 200; index++) limit.count('a');
  assert.throws(
    () => limit.count('a'),
    (error) => isRefusal(error) && error instanceof Problem && error.headers['retry-after'] === '1',
  );
  limit.count('b');
  now += 1000;
  for (let index = 0; index < 20; index++) limit.count('a');
  assert.throws(() => limit.count('a'), isRefusal);
});

test('what brought enough is taken back, and a penalty is worked off', () => {
  let now = 0;
  const limit = new ShortRequests(60, () => now);
  for (let index = 0; index < 1000; index++) limit.count('a')();
  limit.count('a');
  limit.penalize('a');
  assert.throws(() => limit.count('a'), isRefusal);
  now += 31_000;
  assert.throws(() => limit.count('a'), isRefusal);
  now += 2000;
  limit.count('a');
});

test('few a minute may all come at once, and 0 is no limit', () => {
  const few = new ShortRequests(3, () => 0);
  for (let index = 0; index < 3; index++) few.count('a');
  assert.throws(() => few.count('a'), isRefusal);
  const none = new ShortRequests(0);
  for (let index = 0; index < 5000; index++) none.count('a');
  none.penalize('a');
  none.count('a');
});
