import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { assetIdOf, ObjectKeys } from '../../src/storage/object-key.ts';

const assetId = '01980a5e-7b1c-7000-8000-0123456789ab';
const keys = new ObjectKeys('stowage/', () => Buffer.alloc(32, 1));
const others = new ObjectKeys('stowage/', () => Buffer.alloc(32, 2));

describe('object keys', () => {
  test('tell the asset, and neither owner nor project', () => {
    assert.match(
      keys.keyOf({ ownerId: 'alice', assetId }),
      /^stowage\/users\/[\w-]{22}\/assets\/[0-9a-f-]{36}\/original$/,
    );
    assert.match(
      keys.keyOf({ projectId: 'wedding', ownerId: 'alice', assetId }),
      /^stowage\/projects\/[\w-]{22}\/assets\/[0-9a-f-]{36}\/original$/,
    );
    for (const key of [
      keys.keyOf({ ownerId: 'alice', assetId }),
      keys.keyOf({ projectId: 'wedding', ownerId: 'alice', assetId }),
    ])
      assert.doesNotMatch(key, /alice|wedding/);
  });

  test('of one owner lie together, for all who share the secret and for nobody else', () => {
    const same = new ObjectKeys('stowage/', () => Buffer.alloc(32, 1));
    assert.equal(keys.keyOf({ ownerId: 'alice', assetId }), same.keyOf({ ownerId: 'alice', assetId }));
    assert.notEqual(keys.keyOf({ ownerId: 'alice', assetId }), others.keyOf({ ownerId: 'alice', assetId }));
    assert.equal(keys.keyOf({ ownerId: 'alice', assetId }).split('/')[2], keys.nameOf('alice'));
  });

  test('the asset is known from a key of ours, of an earlier version too, and of no other', () => {
    const own = keys.keyOf({ ownerId: 'alice', assetId });
    assert.equal(assetIdOf('stowage/', own), assetId);
    assert.equal(assetIdOf('', own), undefined);
    assert.equal(assetIdOf('other/', own), undefined);
    for (const key of [
      `users/alice/assets/${assetId}/original`,
      `users/auth0~7c1/assets/${assetId}/original`,
      `users/~~${'0'.repeat(64)}/assets/${assetId}/original`,
      `projects/p_1/assets/${assetId}/original`,
    ])
      assert.equal(assetIdOf('', key), assetId, key);
    for (const key of [
      'a',
      `users/alice/${assetId}/original`,
      'users/alice/assets/1/original',
      `x/alice/assets/${assetId}/original`,
    ])
      assert.equal(assetIdOf('', key), undefined, key);
  });

  const ids = fc.string({ unit: 'binary', minLength: 1, maxLength: 255 });

  test('for all ids: safe in URLs and on disk, and two ids have two names', () => {
    fc.assert(
      fc.property(ids, ids, (one, other) => {
        assert.match(keys.nameOf(one), /^[A-Za-z0-9_-]{22}$/);
        // Text that is not well formed is no id; in UTF-8 two such may be the same bytes.
        if (one.isWellFormed() && other.isWellFormed())
          assert.equal(keys.nameOf(one) === keys.nameOf(other), one === other);
      }),
    );
  });

  test('a project and an owner of the same id do not meet', () => {
    fc.assert(
      fc.property(ids, (id) => {
        const [ofProject, ofOwner] = [
          keys.keyOf({ projectId: id, ownerId: id, assetId }),
          keys.keyOf({ ownerId: id, assetId }),
        ];
        assert.notEqual(ofProject.split('/')[2], ofOwner.split('/')[2]);
      }),
    );
  });
});
