import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { contentDisposition } from '../../src/assets/content-disposition.ts';

/** RFC 6266 section 4.1 with a quoted-string and an ext-value (RFC 8187 section 3.2.1), nothing else. */
const form =
  /^(inline|attachment); filename="((?:[ !#-[\]-~]|\\["\\])*)"; filename\*=UTF-8''((?:[A-Za-z0-9!#$&+.^_`|~-]|%[0-9A-F]{2})*)$/;

function partsOf(value: string): { type: string; fallback: string; name: string } {
  const match = form.exec(value);
  assert.ok(match, `not of the form of RFC 6266: ${value}`);
  return { type: match[1] ?? '', fallback: match[2] ?? '', name: decodeURIComponent(match[3] ?? '') };
}

describe('Content-Disposition', () => {
  test('holds the name twice: in ASCII, and in UTF-8', () => {
    assert.equal(
      contentDisposition('attachment', 'photo.jpg'),
      `attachment; filename="photo.jpg"; filename*=UTF-8''photo.jpg`,
    );
    assert.equal(
      contentDisposition('inline', 'Übung 1.pdf'),
      `inline; filename="_bung 1.pdf"; filename*=UTF-8''%C3%9Cbung%201.pdf`,
    );
    assert.equal(contentDisposition('inline', '🎉.png'), `inline; filename="_.png"; filename*=UTF-8''%F0%9F%8E%89.png`);
  });

  test('quotes, backslashes and percent signs cannot end or change the fallback', () => {
    const { fallback, name } = partsOf(contentDisposition('attachment', 'a"b\\c%41.txt'));
    assert.equal(fallback, 'a_b_c_41.txt');
    assert.equal(name, 'a"b\\c%41.txt');
  });

  test('what RFC 8187 does not allow bare is escaped', () => {
    assert.ok(contentDisposition('attachment', "'()*,;=@").endsWith("UTF-8''%27%28%29%2A%2C%3B%3D%40"));
  });

  test('a lone surrogate does not throw', () => {
    assert.equal(partsOf(contentDisposition('attachment', 'a\uD800')).name, 'a\uFFFD');
  });

  test('for all texts: printable ASCII in one line, and decoding gives the name back', () => {
    const texts = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.string({ unit: fc.constantFrom('\r', '\n', '\0', '"', '\\', '%', "'", '*', ';', 'é') }),
    );
    fc.assert(
      fc.property(fc.constantFrom('inline', 'attachment'), texts, (type, name) => {
        const value = contentDisposition(type, name);
        assert.match(value, /^[\x20-\x7e]*$/);
        const parts = partsOf(value);
        assert.equal(parts.type, type);
        assert.equal(parts.name, name);
      }),
      { numRuns: 1000 },
    );
  });
});
