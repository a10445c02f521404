/** Tokens of shares, how long a share is believed, and what opens one that has a password. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { KnownShares } from '../../src/shares/known-shares.ts';
import { isPass, PASS_LIFE, signPass } from '../../src/shares/pass.ts';
import { Passwords } from '../../src/shares/passwords.ts';
import type { FoundShare } from '../../src/shares/reach.ts';
import { digestOf, isToken, tokenOf } from '../../src/shares/token.ts';

const key = Buffer.alloc(32, 7);
const { signal } = new AbortController();

describe('a token', () => {
  test('has 128 bits in one spelling, other bits for another share or key, and is not its digest', () => {
    const token = tokenOf(key, 'a');
    assert.ok(isToken(token));
    assert.equal(tokenOf(key, 'a'), token);
    assert.notEqual(tokenOf(key, 'b'), token);
    assert.notEqual(tokenOf(Buffer.alloc(32, 8), 'a'), token);
    assert.equal(digestOf(token).length, 32);
    const last = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
    const spellings = [...last].filter((each) => isToken(token.slice(0, -1) + each));
    assert.deepEqual(spellings, ['A', 'Q', 'g', 'w']);
    for (const wrong of ['', token.slice(1), `${token}A`, `${token}\n`, token.replace(/./, '+')])
      assert.ok(!isToken(wrong));
  });
});

describe('a share', () => {
  test('is believed for half a second from when the database was asked, and so is that there is none', async () => {
    let time = 0;
    let asked = 0;
    let share: FoundShare | undefined = { id: 'x' } as FoundShare;
    const find = async () => {
      asked += 1;
      const found = share;
      // The answer takes longer than what it says is good for.
      time += 300;
      return found;
    };
    const known = new KnownShares({ find }, () => time);
    const token = tokenOf(key, 'a');
    assert.equal((await known.find(token))?.id, 'x');
    share = undefined;
    time += 199;
    assert.deepEqual([(await known.find(token))?.id, asked], ['x', 1]);
    time += 1;
    assert.deepEqual([await known.find(token), asked], [undefined, 2]);
    assert.deepEqual([await known.find(token), asked], [undefined, 2]);
    share = { id: 'y' } as FoundShare;
    time += 200;
    assert.deepEqual([(await known.find(token))?.id, asked], ['y', 3]);
    await Promise.all([known.find('A'.repeat(22)), known.find('A'.repeat(22)), known.find('no token')]);
    assert.equal(asked, 4, 'many at once ask once, and what is no token asks nobody');
  });
});

describe('what opens a share', () => {
  test('is good for one share, one password and some hours', async () => {
    const passwords = new Passwords();
    const [first, second] = [await passwords.hash('secret', 'a', signal), await passwords.hash('secret', 'a', signal)];
    assert.ok(!first.equals(second), 'each has a salt of its own');
    const share = { id: 'a', password: first };
    const { pass, endsAt } = signPass(key, share, 2_000_000_000);
    assert.equal(endsAt, 2_000_000_000 + PASS_LIFE);
    assert.ok(isPass(key, share, pass, endsAt - 1));
    const wrong: [Buffer, typeof share, string, number][] = [
      [key, share, pass, endsAt],
      [key, { ...share, id: 'b' }, pass, 0],
      [key, { ...share, password: second }, pass, 0],
      [Buffer.alloc(32), share, pass, 0],
      [key, share, pass.replace(/^\d{10}/, '9999999999'), 0],
      [key, share, '', 0],
    ];
    for (const each of wrong) assert.ok(!isPass(...each));
  });

  test('is a password that is the same however its letters are composed', async () => {
    const passwords = new Passwords();
    const kept = await passwords.hash('Gr\u00fc\u00dfe', 'a', signal);
    assert.ok(!passwords.recall(kept, 'Gru\u0308\u00dfe'));
    assert.ok(await passwords.matches(kept, 'Gru\u0308\u00dfe', 'a', signal));
    assert.ok(passwords.recall(kept, 'Gr\u00fc\u00dfe'));
    assert.ok(!(await passwords.matches(kept, 'Grusse', 'a', signal)));
    assert.ok(!passwords.recall(kept, 'Grusse'));
  });
});
