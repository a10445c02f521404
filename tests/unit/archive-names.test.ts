import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { namesInArchive, safeName } from '../../src/archives/names.ts';

describe('names in an archive', () => {
  test('stay as they are where they are files on every system', () => {
    const names = ['photo.jpg', 'Größe ünd 日本語.png', '.htaccess', 'a.tar.gz', 'console.txt', 'com10.txt', 'x'];
    assert.deepEqual(namesInArchive(names), names);
  });

  test('lead out of no folder', () => {
    for (const name of [
      '../../etc/passwd',
      '..\\..\\x.dll',
      '/etc/passwd',
      'C:\\x',
      '..',
      '.',
      '\\\\host\\share',
      'a/../b',
    ])
      assert.doesNotMatch(safeName(name), /[/\\:]|^\.+$/, name);
  });

  test('are neither devices nor streams of Windows, and end in nothing that it drops', () => {
    assert.deepEqual(
      [
        'CON',
        'con.txt',
        'Lpt1.tar.gz',
        'COM¹.png',
        'nul .jpg',
        'conout$',
        'a.txt:evil.exe',
        'a.',
        'a ',
        'what?.txt',
      ].map(safeName),
      [
        '_CON',
        '_con.txt',
        '_Lpt1.tar.gz',
        '_COM¹.png',
        '_nul .jpg',
        '_conout$',
        'a.txt_evil.exe',
        'a_',
        'a_',
        'what_.txt',
      ],
    );
  });

  test('that are the same where case does not count get numbers, also beside names that have them', () => {
    assert.deepEqual(namesInArchive(['a.png', 'A.PNG', 'a (2).png', 'a.png', 'straße', 'STRASSE', '', '']), [
      'a.png',
      'A (2).PNG',
      'a (2) (2).png',
      'a (3).png',
      'straße',
      'STRASSE (2)',
      '_',
      '_ (2)',
    ]);
  });

  test('are cut to what file systems take, in whole characters, with their extension', () => {
    const [first = '', second = ''] = namesInArchive([`${'ü'.repeat(200)}.jpeg`, `${'ü'.repeat(200)}.jpeg`]);
    for (const name of [first, second]) {
      assert.ok(Buffer.byteLength(name) <= 255);
      assert.match(name, /^ü+( \(2\))?\.jpeg$/);
    }
  });

  test('are each another, safe and short, whatever they were', () => {
    const name = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 300 }),
      fc.constantFrom('a', 'A', 'a (2)', 'A (2)', 'con', '..', 'x.png', 'X.PNG', 'ﬁ', 'fi', 'ß', 'SS', '\ud800'),
      fc.string({ maxLength: 3 }).map((text) => `${'é'.repeat(126)}${text}`),
    );
    fc.assert(
      fc.property(fc.array(name, { maxLength: 60 }), (names) => {
        const made = namesInArchive(names);
        assert.equal(new Set(made.map((each) => each.normalize('NFC').toUpperCase().toLowerCase())).size, names.length);
        for (const each of made) {
          assert.ok(Buffer.byteLength(each) <= 255 && each.isWellFormed() && each !== '', each);
          assert.doesNotMatch(each, /[/\\:*?"<>|\p{Cc}]|[. ]$|^(con|nul)$/iu);
        }
      }),
      { numRuns: 300 },
    );
  });

  test('are made in a time that grows with their number only', () => {
    // Each long name twice, and all of them the same where they are cut.
    const long = Array.from({ length: 5000 }, (_, index) => `${'x'.repeat(240)}${index}`.padEnd(255, 'y'));
    let steps = 0;
    const has = Set.prototype.has;
    Set.prototype.has = function (value) {
      steps += 1;
      return has.call(this, value);
    };
    try {
      assert.equal(new Set(namesInArchive([...long, ...long])).size, 10_000);
    } finally {
      Set.prototype.has = has;
    }
    assert.ok(steps < 25_000, `${steps}`);
  });
});
