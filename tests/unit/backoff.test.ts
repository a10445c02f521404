import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pauseAfter } from '../../src/backoff.ts';
import { statementBackoff } from '../../src/database/retry.ts';
import { requestBackoff } from '../../src/storage/s3/s3-requests.ts';

test('pauses double from the first on, and at least half of each is kept whatever chance says', () => {
  const backoff = { first: 100, max: 100_000 };
  assert.deepEqual(
    [1, 2, 3, 4].map((attempt) => pauseAfter(attempt, backoff, 1)),
    [100, 200, 400, 800],
  );
  assert.deepEqual(
    [1, 2, 3, 4].map((attempt) => pauseAfter(attempt, backoff, 0)),
    [50, 100, 200, 400],
  );
  for (let time = 0; time < 100; time++) {
    const pause = pauseAfter(1, backoff);
    assert.ok(pause >= 50 && pause <= 100, String(pause));
  }
});

for (const [what, backoff, max] of [
  ['a request to the object store', requestBackoff, 5000],
  ['a statement', statementBackoff, 2000],
] as const) {
  test(`between tries of ${what} no pause is longer than ${max} ms, however many there were`, () => {
    assert.equal(pauseAfter(1, backoff, 1), 100);
    for (const attempt of [10, 100, 2000]) assert.equal(pauseAfter(attempt, backoff, 1), max);
  });
}
