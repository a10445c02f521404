import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { assetIdOf, escapeSegment, objectKey } from '../../src/storage/object-key.ts';

const assetId = '01980a5e-7b1c-7000-8000-0123456789ab';

describe('object keys', () => {
  test('name the project, else the owner, and the asset', () => {
    assert.equal(
      objectKey({ prefix: '', projectId: 'p_1', ownerId: 'alice', assetId }),
      `projects/p_1/assets/${assetId}/original`,
    );
    assert.equal(
      objectKey({ prefix: 'stowage/', ownerId: 'alice', assetId }),
      `stowage/users/alice/assets/${assetId}/original`,
    );
  });

  test('other characters are escaped byte by byte', () => {
    assert.equal(escapeSegment('auth0|1'), 'auth0~7c1');
    assert.equal(escapeSegment('a@b.de'), 'a~40b~2ede');
    assert.equal(escapeSegment('é~'), '~c3~a9~7e');
    assert.equal(escapeSegment('../..'), '~2e~2e~2f~2e~2e');
  });

  test('an id that would be too long for a file name becomes its SHA-256', () => {
    assert.equal(escapeSegment('a'.repeat(200)), 'a'.repeat(200));
    assert.match(escapeSegment('a'.repeat(201)), /^~~[0-9a-f]{64}$/);
    assert.notEqual(escapeSegment('a'.repeat(201)), escapeSegment('a'.repeat(202)));
  });

  test('the asset is known from a key of ours, and of no other', () => {
    const own = objectKey({ prefix: 'stowage/', ownerId: 'alice', assetId });
    assert.equal(assetIdOf('stowage/', own), assetId);
    assert.equal(assetIdOf('', own), undefined);
    assert.equal(assetIdOf('other/', own), undefined);
    for (const key of [
      'a',
      `users/alice/${assetId}/original`,
      `users/alice/assets/1/original`,
      `x/alice/assets/${assetId}/original`,
    ])
      assert.equal(assetIdOf('', key), undefined, key);
  });

  const ids = fc.string({
    unit: fc.oneof(fc.string({ unit: 'binary', minLength: 1, maxLength: 1 }), fc.constantFrom('~', '/', '.', '7', 'e')),
    minLength: 1,
    maxLength: 255,
  });

  test('for all ids: the segment is safe in URLs and on disk', () => {
    fc.assert(
      fc.property(ids, (id) => {
        assert.match(escapeSegment(id), /^(?:[A-Za-z0-9_-]|~[0-9a-f]{2}){1,200}$|^~~[0-9a-f]{64}$/);
        const key = objectKey({ prefix: '', projectId: id, ownerId: id, assetId });
        assert.ok(key.length < 1024 && key.split('/').length === 5);
      }),
    );
  });

  test('for all pairs of ids: two ids have two keys', () => {
    const short = fc.string({ unit: fc.constantFrom('~', '7', 'e', '/', 'é'), maxLength: 4 });
    fc.assert(
      fc.property(fc.oneof(fc.tuple(ids, ids), fc.tuple(short, short)), ([one, other]) => {
        assert.equal(escapeSegment(one) === escapeSegment(other), one === other);
      }),
      { numRuns: 2000 },
    );
  });

  test('a project and an owner of the same id do not meet', () => {
    fc.assert(
      fc.property(ids, (id) => {
        assert.notEqual(
          objectKey({ prefix: '', projectId: id, ownerId: id, assetId }),
          objectKey({ prefix: '', ownerId: id, assetId }),
        );
      }),
    );
  });
});
