import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { baseName, checkFileName, extensionOf } from '../../src/validation/file-name.ts';

/** What is wrong with the name, as the client is told; fails when nothing is. */
function detailOf(name: string): string {
  const checked = checkFileName(name);
  assert.ok(!checked.ok, `${JSON.stringify(name)} was accepted`);
  return checked.detail;
}

const anyText = fc.string({
  unit: fc.oneof(
    fc.string({ unit: 'binary', minLength: 1, maxLength: 1 }),
    fc.constantFrom('/', '\u0000', '\u200D', '.', ' '),
  ),
});

describe('file names', () => {
  test('ordinary names of any script are kept as they are', () => {
    for (const name of [
      'a',
      'photo.jpg',
      'Sommerfest 2026 (2).tar.gz',
      '報告書.pdf',
      'עברית.txt',
      '🎉.png',
      '❤️.png',
      "it's 100%.txt",
      'a..b',
      '..a',
      'a.',
    ]) {
      assert.deepEqual(checkFileName(name), { ok: true, name });
    }
  });

  test('a decomposed name comes back composed', () => {
    assert.deepEqual(checkFileName('Cafe\u0301.jpg'), { ok: true, name: 'Caf\u00e9.jpg' });
  });

  test('255 bytes of UTF-8 are counted after normalisation, and one more is refused', () => {
    assert.ok(checkFileName('a'.repeat(255)).ok);
    assert.match(detailOf('a'.repeat(256)), /256 bytes.*255/);
    assert.ok(checkFileName(`${'é'.repeat(127)}a`).ok);
    assert.match(detailOf('é'.repeat(128)), /256 bytes/);
    assert.ok(checkFileName('e\u0301'.repeat(127)).ok, 'decomposed it has 381 bytes, composed 254');
  });

  const refusals: [string, string[], RegExp][] = [
    ['path separators', ['a/b.jpg', 'a\\b.jpg', '/etc/passwd', '..\\a'], /path separator/],
    [
      'control characters',
      ['a\u0000.jpg', 'a\tb', 'a\r\nb', 'a\u001F', 'a\u007Fb', 'a\u0080b', 'a\u009Fb', '\n'],
      /control character/,
    ],
    ['line separators', ['a\u2028b', 'a\u2029b'], /line separator/],
    [
      'characters that turn the direction of text',
      [
        '\u061C',
        '\u200E',
        '\u200F',
        '\u202A',
        '\u202B',
        '\u202C',
        '\u202D',
        '\u202E',
        '\u2066',
        '\u2067',
        '\u2068',
        '\u2069',
      ].map((char) => `a${char}gpj.exe`),
      /text direction/,
    ],
    [
      'zero-width characters',
      [
        '\u00AD',
        '\u180E',
        '\u200B',
        '\u200C',
        '\u200D',
        '\u2060',
        '\u2061',
        '\u2064',
        '\uFEFF',
        '\u{E0000}',
        '\u{E0001}',
        '\u{E007F}',
      ].map((char) => `a${char}b`),
      /zero-width/,
    ],
    [
      'bytes that were no UTF-8, and lone surrogates',
      ['a\uFFFDb', 'a\uD800', '\uDC00a', '\uDC00\uD800'],
      /not valid UTF-8/,
    ],
    ['noncharacters', ['a\uFFFE', 'a\uFFFF', 'a\uFDD0', 'a\uFDEF', 'a\u{1FFFE}', 'a\u{10FFFF}'], /no character/],
    ['dots alone', ['.', '..', '...'], /made of dots/],
    ['nothing', [''], /empty/],
    ['white space alone', [' ', '\u3000', '\u00A0 '], /white space/],
    ['white space at an end', [' a.jpg', 'a.jpg ', 'a.jpg\u00A0', '\u3000a'], /white space/],
    ['an extension without a name', ['.jpg', '.htaccess'], /extension only/],
  ];
  for (const [what, names, expected] of refusals) {
    test(`${what}: refused, and the detail names the fault`, () => {
      for (const name of names) assert.match(detailOf(name), expected, JSON.stringify(name));
    });
  }

  test('an emoji of several joined parts is refused, and the detail says that the joiners are the reason', () => {
    assert.match(detailOf('👨‍👩‍👧.jpg'), /joined emoji/);
  });

  test('every detail tells the way out', () => {
    for (const [, names] of refusals)
      for (const name of names) assert.match(detailOf(name), /\. (Remove|Send|Name|Shorten|Encode|Put)/);
  });

  test('for all texts: an accepted name is stable, in NFC, within the limit, and free of what is refused', () => {
    fc.assert(
      fc.property(anyText, (given) => {
        const checked = checkFileName(given);
        if (!checked.ok) return;
        const { name } = checked;
        assert.equal(name, given.normalize('NFC'));
        assert.deepEqual(checkFileName(name), checked);
        assert.ok(name.isWellFormed() && name.trim() === name);
        assert.ok(Buffer.byteLength(name) >= 1 && Buffer.byteLength(name) <= 255);
        assert.doesNotMatch(
          name,
          /[/\\\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}\p{Noncharacter_Code_Point}\uFFFD\u200B-\u200D\u2060\uFEFF]/u,
        );
      }),
      { numRuns: 2000 },
    );
  });
});

describe('base names', () => {
  test('the path that a client sends is dropped, of whichever system', () => {
    for (const path of [
      'C:\\fakepath\\a.jpg',
      '/tmp/a.jpg',
      'a.jpg',
      '../../a.jpg',
      'C:\\x/a.jpg',
      '\\\\server\\share\\a.jpg',
    ]) {
      assert.equal(baseName(path), 'a.jpg');
    }
    assert.equal(baseName('photos/'), '');
  });

  test('for all texts: no separator is left, and what is left ends the path', () => {
    fc.assert(
      fc.property(anyText, (path) => {
        const name = baseName(path);
        assert.ok(path.endsWith(name) && !/[/\\]/.test(name));
        assert.equal(baseName(name), name);
      }),
    );
  });
});

describe('extensions', () => {
  test('what follows the last dot, in lower case', () => {
    assert.equal(extensionOf('a.JPG'), 'jpg');
    assert.equal(extensionOf('a.tar.gz'), 'gz');
    assert.equal(extensionOf('..a'), 'a');
  });

  test('there is none without a dot, behind a first dot, or behind a last', () => {
    for (const name of ['', 'a', '.jpg', 'a.', '.', 'a.b.']) assert.equal(extensionOf(name), undefined, name);
  });
});
