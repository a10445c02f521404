import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { readAddress, revisionOf, signAddress, type VariantAddress } from '../../src/variants/address.ts';

const now = 1_795_000_000;
const key = randomBytes(32);
const parts: VariantAddress = {
  assetId: '019aa1b2-7c3d-7e4f-8a5b-6c7d8e9fa0b1',
  revision: '0123456789abcdef',
  options: { width: 512, height: 384, fit: 'cover', position: 'top', quality: 70, format: 'webp' },
  expires: 1_795_003_200,
};
const url = signAddress(key, parts);
const read = (text: string, keys = [key], at = now) => readAddress(keys, text, at);

describe('the address of a variant', () => {
  test('is read as it was signed', () => {
    assert.match(
      url,
      /^\/v1\/variants\/019aa1b2-7c3d-7e4f-8a5b-6c7d8e9fa0b1\/0123456789abcdef\/w512-h384-cover-top-q70\.webp\?exp=1795003200&sig=[\w-]{22}$/,
    );
    assert.deepEqual(read(url), parts);
  });

  test('is good until it ends, and not then', () => {
    assert.deepEqual(read(url, [key], parts.expires - 1), parts);
    assert.equal(read(url, [key], parts.expires), undefined);
  });

  test('is good while one of the keys has signed it', () => {
    const others = [randomBytes(32), randomBytes(32)];
    assert.deepEqual(read(url, [...others, key]), parts);
    assert.equal(read(url, others), undefined);
    assert.equal(read(url, []), undefined);
  });

  const changes: [string, (text: string) => string][] = [
    ['another asset', (text) => text.replace('019aa1b2', '019aa1b3')],
    ['another revision', (text) => text.replace('0123456789', '0123456780')],
    ['another size', (text) => text.replace('w512', 'w384')],
    ['another quality', (text) => text.replace('-q70', '-q90')],
    ['another format', (text) => text.replace('.webp', '.avif')],
    ['a longer life', (text) => text.replace('exp=1795003200', 'exp=1795006800')],
    ['a size beside the ladder', (text) => text.replace('w512', 'w513')],
    ['another order of the query', (text) => text.replace(/exp=(\d+)&sig=(.*)/, 'sig=$2&exp=$1')],
    ['more in the query', (text) => `${text}&download=1`],
    ['a field twice', (text) => text.replace('?exp', '?exp=1795003200&exp')],
    ['a fragment', (text) => `${text}#x`],
    ['a slash at the end of the path', (text) => text.replace('?', '/?')],
    ['two slashes', (text) => text.replace('/variants/', '//variants/')],
    ['dots in the path', (text) => text.replace('/v1/', '/v1/./')],
    ['an escape', (text) => text.replace('.webp', '%2Ewebp')],
    ['capitals', (text) => text.replace('019aa1b2', '019AA1B2')],
    ['zeros before the expiry', (text) => text.replace('exp=1795003200', 'exp=01795003200')],
    ['a sign before the expiry', (text) => text.replace('exp=', 'exp=+')],
    ['no signature', (text) => text.replace(/&sig=.*/, '')],
    ['an empty signature', (text) => text.replace(/sig=.*/, 'sig=')],
    ['padding', (text) => `${text}==`],
    ['another origin', (text) => `http://localhost${text}`],
  ];
  for (const [what, change] of changes)
    test(`with ${what} is none`, () => {
      assert.notEqual(change(url), url);
      assert.equal(read(change(url)), undefined);
    });

  test('has one spelling of its signature', () => {
    const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
    const good = [...alphabet].filter((letter) => read(url.slice(0, -1) + letter) !== undefined);
    assert.deepEqual(good, [url.at(-1)]);
  });

  test('with anything changed is none', () => {
    const change = fc.tuple(fc.nat(url.length - 1), fc.nat(3), fc.string({ unit: 'binary-ascii', maxLength: 4 }));
    fc.assert(
      fc.property(change, ([at, remove, insert]) => {
        const text = url.slice(0, at) + insert + url.slice(at + remove);
        return text === url || read(text) === undefined;
      }),
      { numRuns: 20_000 },
    );
  });
});

describe('the revision of a picture', () => {
  const objectKey = 'users/x/assets/y/original';

  test('is the start of the digest of its bytes', () => {
    assert.equal(
      revisionOf({ sha256: Buffer.from('0123456789abcdef'.repeat(4), 'hex'), objectKey }),
      '0123456789abcdef',
    );
  });

  test('is another for another key where there is no digest', () => {
    const [one, two] = [revisionOf({ objectKey }), revisionOf({ sha256: null, objectKey: `${objectKey}2` })];
    assert.match(one, /^[0-9a-f]{16}$/);
    assert.notEqual(one, two);
  });
});
