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
      'characters that nobody sees',
      [
        ...'\u00AD\u034F\u115F\u1160\u17B4\u17B5\u180B\u180E\u180F\u200B\u200C\u200D\u2060\u2061\u2064\u206A\u206F\u2800\u3164',
        ...'\uFE00\uFE0E\uFE0F\uFEFF\uFFA0\uFFF0\uFFF9\uFFFA\uFFFB\uFFFC\u{1BCA0}\u{1D159}\u{1D173}\u{13441}',
        ...'\u{E0000}\u{E0001}\u{E0061}\u{E007F}\u{E0100}\u{E01EF}',
      ].flatMap((char) =>
        [`a${char}b`, `a${char}.jpg`, `${char}a`, `a${char}`, char, `報${char}`, `${char}.jpg`]
          // Han has variations, which nobody sees either but who knows the character.
          .filter((name) => !/報[\uFE00\u{E0100}\u{E01EF}]/u.test(name)),
      ),
      /invisible character, U\+[0-9A-F]{4,5}|white space/,
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

  const needed: [string, string[]][] = [
    [
      'Persian, between letters that must not join',
      ['می\u200Cخواهم.pdf', 'خانه\u200Cای.txt', 'کتاب\u064E\u200Cها.txt'],
    ],
    ['Devanagari, after a virama', ['क्\u200Dष.txt', 'क्\u200Cष.txt', 'न्\u200D.txt']],
    ['Sinhala', ['ශ්\u200Dරී ලංකා.jpg']],
    ['Malayalam', ['ന്\u200D.jpg']],
    ['Bengali, in the ra-yaphala', ['র\u200D্যাব.txt']],
    [
      'emoji of several parts',
      ['👨\u200D👩\u200D👧.jpg', '🏳\uFE0F\u200D🌈.png', '🏴\u200D☠\uFE0F.png', '👩🏽\u200D🦰.png', '❤\u200D🔥.png'],
    ],
    ['emoji that could be text', ['❤\uFE0F.png', '☎\uFE0E.png', '1\uFE0F\u20E3.png']],
    ['flags of countries in a country', ['🏴\u{E0067}\u{E0062}\u{E0065}\u{E006E}\u{E0067}\u{E007F}.png']],
    ['Han with a variation that names need', ['葛\u{E0100}城.pdf']],
    ['Mongolian', ['ᠠ\u180Bᠡ.txt']],
  ];
  for (const [what, names] of needed)
    test(`${what}: what nobody sees is kept where it is needed, and refused anywhere else`, () => {
      for (const name of names) {
        assert.deepEqual(checkFileName(name), { ok: true, name: name.normalize('NFC') }, name);
        const hidden = /[\p{Default_Ignorable_Code_Point}]/gu;
        const characters = name.match(hidden) ?? [];
        assert.ok(characters.length > 0, name);
        const bare = name.replace(hidden, '');
        for (const character of characters) {
          for (const elsewhere of [`${character}${bare}`, `a${character}${bare}`, `${bare}${character}`])
            assert.match(detailOf(elsewhere), /invisible character/, JSON.stringify(elsewhere));
          assert.match(detailOf(name.replace(character, character.repeat(2))), /invisible character/);
        }
      }
    });

  test('a flag with a message in its tags is refused', () => {
    const hidden = Array.from('secret', (letter) => String.fromCodePoint(0xe0000 + letter.charCodeAt(0))).join('');
    assert.match(detailOf(`🏴${hidden}\u{E007F}.png`), /invisible/);
    assert.match(detailOf('🏴\u{E0067}\u{E0062}\u{E0065}\u{E006E}\u{E0067}.png'), /invisible/);
  });

  test('for all pairs of visible letters of scripts that need no joiners: nothing invisible may stand between them', () => {
    const letter = fc.constantFrom(...'aZé9ßЖאあ한ไἀ_-+.');
    const hidden = fc
      .integer({ min: 0x80, max: 0xe0fff })
      .map((code) => String.fromCodePoint(code))
      .filter((character) => /\p{Default_Ignorable_Code_Point}/u.test(character));
    fc.assert(
      fc.property(letter, hidden, letter, (before, character, after) => {
        assert.equal(checkFileName(`x${before}${character}${after}x`).ok, false);
      }),
      { numRuns: 500 },
    );
  });

  test('for all names: taking out what nobody sees leaves no more than the needed places', () => {
    const unit = fc.constantFrom(
      'م',
      'ا',
      'क',
      '्',
      '\u200C',
      '\u200D',
      '😀',
      '👩',
      '🏽',
      '\uFE0F',
      'a',
      '\u064B',
      '1',
      '\u20E3',
    );
    fc.assert(
      fc.property(fc.array(unit, { minLength: 1, maxLength: 8 }), (units) => {
        const name = `x${units.join('')}x`;
        if (!checkFileName(name).ok) return;
        const characters = Array.from(name.normalize('NFC'));
        for (const [at, character] of characters.entries()) {
          const [before = '', after = ''] = [characters[at - 1], characters[at + 1]];
          if (character === '\u200C') assert.match(before, /\u094D|م|\u064B|\u20E3/u);
          if (character === '\u200D') assert.ok(before === '्' || /\p{Extended_Pictographic}/u.test(after), name);
          if (character === '\uFE0F') assert.match(before, /[😀👩1]/u);
        }
      }),
      { numRuns: 3000 },
    );
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
          /[/\\\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}\p{Noncharacter_Code_Point}\uFFFD\u200B\u2060\u3164\uFEFF]/u,
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
