import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { formatDigest, parseDigest } from '../../src/http/digest-fields.ts';

/** Of RFC 9530 appendix B.1: the digest of `{"hello": "world"}` and a line feed. */
const example = 'sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:';
const expected = createHash('sha256').update('{"hello": "world"}\n').digest();
const sha512 = `sha-512=:${Buffer.alloc(64, 7).toString('base64')}:`;

describe('digest fields', () => {
  test('the example of RFC 9530 is read and written', () => {
    assert.deepEqual(parseDigest(example), { sha256: expected });
    assert.equal(formatDigest(expected), example);
  });

  test('other algorithms are passed over', () => {
    assert.deepEqual(parseDigest(sha512), {});
    assert.deepEqual(parseDigest(`${sha512}, ${example},\tmd5=:AA==:`), { sha256: expected });
    assert.deepEqual(parseDigest('*x.y-z_1=::'), {});
  });

  test('parameters are passed over, also when they look like members', () => {
    for (const parameters of [
      ';a',
      '; a=1;b=?0',
      ';a=tok/en:x',
      ';a="x, sha-256=:AAAA:"',
      ';a="\\"\\\\"',
      ';a=:AA==:',
      ';a=-1.5',
      ';a=@1700000000',
    ]) {
      assert.deepEqual(parseDigest(`${example}${parameters}`), { sha256: expected }, parameters);
      assert.deepEqual(parseDigest(`x=:AA==:${parameters}, ${example}`), { sha256: expected }, parameters);
    }
  });

  test('an empty field names nothing', () => {
    assert.deepEqual(parseDigest(''), {});
    assert.deepEqual(parseDigest('  '), {});
  });

  test('the last of two counts', () => {
    const other = formatDigest(Buffer.alloc(32, 1));
    assert.deepEqual(parseDigest(`${other}, ${example}`), { sha256: expected });
  });

  test('padding may be missing, but not be wrong', () => {
    assert.deepEqual(parseDigest(`sha-256=:${expected.toString('base64').replace('=', '')}:`), { sha256: expected });
    assert.equal(parseDigest(`sha-256=:${expected.toString('base64')}=:`), undefined);
  });

  test('a SHA-256 of another length is malformed', () => {
    for (const length of [0, 16, 31, 33, 64])
      assert.equal(parseDigest(`sha-256=:${Buffer.alloc(length).toString('base64')}:`), undefined);
  });

  test('what is no dictionary of byte sequences is malformed', () => {
    const malformed = [
      'sha-256',
      'sha-256=abc',
      `sha-256=${expected.toString('hex')}`,
      `SHA-256=${example.slice(8)}`,
      `${example},`,
      `, ${example}`,
      `${example} ${sha512}`,
      `${example};`,
      `${example}, x=1`,
      'sha-256=:AA AA:',
      'sha-256=:AA-_:',
      'sha-256=:AAAA',
      `${example}\n, x=::`,
      '(a b)',
    ];
    for (const value of malformed) assert.equal(parseDigest(value), undefined, value);
  });

  test('a long field is read in no time', () => {
    // Time of the processor, which does not pass while others have it.
    const begun = process.cpuUsage();
    for (const value of [
      `a=::${';a'.repeat(50_000)}!`,
      `a=::${',a=::'.repeat(50_000)}!`,
      `a=::${' '.repeat(100_000)}!`,
      `a=::;a="${'\\"'.repeat(50_000)}`,
    ]) {
      assert.equal(parseDigest(value), undefined);
    }
    assert.ok(process.cpuUsage(begun).user < 1000_000);
  });

  test('for all digests: what is written is read, alone and among others', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (bytes) => {
        const sha256 = Buffer.from(bytes);
        assert.deepEqual(parseDigest(formatDigest(sha256)), { sha256 });
        assert.deepEqual(parseDigest(`${sha512},${formatDigest(sha256)}`), { sha256 });
      }),
    );
  });

  test('for all texts: nothing throws, and a digest has 32 bytes', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string({ unit: 'binary' }),
          fc.string().map((text) => `sha-256=:${text}:`),
        ),
        (value) => {
          const sha256 = parseDigest(value)?.sha256;
          assert.ok(sha256 === undefined || sha256.length === 32);
        },
      ),
    );
  });
});
