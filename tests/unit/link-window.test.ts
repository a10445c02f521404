import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { linkWindow } from '../../src/storage/link-window.ts';

const at = (seconds: number) => new Date(seconds * 1000);

describe('the window of a link', () => {
  test('leaves at least half of the life that was asked for, and at most all of it', () => {
    for (const life of [2, 3, 59, 60, 3600, 86_399, 604_800])
      for (let index = 0; index < 500; index++) {
        const now = at(1_795_000_000 + index * 997.3);
        const { signedAt, expiresAt, life: kept } = linkWindow(now, life);
        const left = (expiresAt.getTime() - now.getTime()) / 1000;
        assert.ok(left >= life / 2 && left <= life, `${life}: ${left}`);
        assert.equal(expiresAt.getTime() - signedAt.getTime(), kept * 1000);
        assert.equal(signedAt.getTime() % 1000, 0);
      }
  });

  test('is the same for all who ask within it, and another one after it', () => {
    const [first, last, next] = [at(3600), at(5399.999), at(5400)].map((now) => linkWindow(now, 3600));
    assert.deepEqual(first, last);
    assert.notDeepEqual(next, last);
  });

  test('is one of two seconds where only one was asked for', () => {
    assert.deepEqual(linkWindow(at(10.9), 1), { signedAt: at(10), life: 2, expiresAt: at(12) });
  });
});
