import assert from 'node:assert/strict';
import { Writable } from 'node:stream';
import { describe, test } from 'node:test';
import { ParserChanged, partsFound } from '../../src/uploads/form-reader.ts';

describe('the count of parts', () => {
  const parser = (inner: unknown) => Object.assign(new Writable(), inner);

  test('is that of the parser, with the parts that it skipped', () => {
    assert.equal(partsFound(parser({ _parser: { _nparts: 3 } })), 3);
    assert.equal(partsFound(parser({ _parser: { _nparts: 0 } })), 0);
  });

  test('is an internal error when the parser, or what it counts in, has another name', () => {
    for (const changed of [
      undefined,
      parser({}),
      parser({ parser: { _nparts: 3 } }),
      parser({ _parser: { nparts: 3 } }),
    ])
      assert.throws(() => partsFound(changed), ParserChanged);
    assert.throws(() => partsFound(parser({ _parser: { _nparts: Number.NaN } })), /_parser\._nparts/);
  });
});
