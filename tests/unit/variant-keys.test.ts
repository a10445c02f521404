import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Executor } from '../../src/database/client.ts';
import { ringOf, VariantKeys } from '../../src/variants/keys.ts';

const HOUR = 3600;
const WEEK = 7 * 24 * HOUR;
const keyOf = (since: number, name: string) => ({ since, value: Buffer.alloc(32, name) });
const named = ({ current, accepted }: { current: Buffer; accepted: Buffer[] }) => ({
  signs: current.toString().slice(0, 1),
  accepted: accepted.map((key) => key.toString().slice(0, 1)).join(''),
});

describe('the keys of addresses of variants', () => {
  const now = 2_000_000_000;

  test('one signs and is accepted', () => {
    assert.deepEqual(named(ringOf([keyOf(0, 'a')], now)), { signs: 'a', accepted: 'a' });
  });

  test('a new one is accepted before it signs, for clocks that are ahead', () => {
    assert.deepEqual(named(ringOf([keyOf(now + 60, 'b'), keyOf(0, 'a')], now)), { signs: 'a', accepted: 'ba' });
  });

  test('one that was replaced is accepted until the last address that it has signed has ended', () => {
    const keys = [keyOf(now, 'b'), keyOf(0, 'a')];
    assert.deepEqual(named(ringOf(keys, now)), { signs: 'b', accepted: 'ba' });
    assert.deepEqual(named(ringOf(keys, now + WEEK + HOUR - 1)), { signs: 'b', accepted: 'ba' });
    assert.deepEqual(named(ringOf(keys, now + WEEK + HOUR)), { signs: 'b', accepted: 'b' });
  });

  test('without one in force nothing is signed', () => {
    assert.throws(() => ringOf([keyOf(now + 60, 'b')], now), /no key/);
  });
});

describe('reading the keys', () => {
  /** A database that has these keys, or is away. */
  function databaseOf(state: { names: string[]; away?: boolean; reads: number }): Executor {
    return {
      run: async (statement) => {
        state.reads += 1;
        if (state.away) throw new Error('away');
        const rows = state.names.map((name) => statement.decode([`variant-links/0`, Buffer.alloc(32, name)]));
        return { rows, rowCount: rows.length };
      },
      executeSql: async () => ({ rows: [] }),
    };
  }

  test('happens once a minute, beside the requests, and not at all while it is not needed', async () => {
    const state = { names: ['a'], reads: 0, away: false };
    let time = 1_000_000_000_000;
    const errors: string[] = [];
    const keys = new VariantKeys(
      databaseOf(state),
      (message) => errors.push(message),
      () => time,
    );
    const [one, two] = await Promise.all([keys.ring(), keys.ring()]);
    assert.deepEqual([named(one), named(two)], [named(one), { signs: 'a', accepted: 'a' }]);
    assert.equal(state.reads, 1);
    state.names = ['b'];
    time += 60_000;
    assert.equal(named(await keys.ring()).signs, 'a');
    assert.equal(state.reads, 1);
    time += 1;
    assert.equal(named(await keys.ring()).signs, 'a');
    assert.equal(state.reads, 2);
    await new Promise((passed) => setImmediate(passed));
    assert.equal(named(await keys.ring()).signs, 'b');

    state.away = true;
    time += 60_001;
    assert.equal(named(await keys.ring()).signs, 'b');
    await new Promise((passed) => setImmediate(passed));
    assert.equal(named(await keys.ring()).signs, 'b');
    assert.ok(errors.length > 0);
  });

  test('that never worked is no reason to go on without any', async () => {
    const state = { names: [], reads: 0 };
    const keys = new VariantKeys(databaseOf(state), () => {});
    await assert.rejects(keys.ring(), /restore it from a backup/);
    const later = { names: ['a'], reads: 0, away: true };
    const others = new VariantKeys(databaseOf(later), () => {});
    await assert.rejects(others.ring(), /away/);
    later.away = false;
    assert.equal(named(await others.ring()).signs, 'a');
  });
});
