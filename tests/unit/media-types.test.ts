import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { classify, detectMediaType, findNameFault, normaliseMediaType } from '../../src/validation/media-types.ts';
import { fixture, hostileFiles, validate, validFiles } from '../support/corpus.ts';

describe('valid files', () => {
  for (const file of validFiles) {
    test(`${file.title} (${file.fileName}) is ${file.mediaType}`, async () => {
      assert.deepEqual(await validate(file), { mediaType: file.mediaType });
    });
  }
});

describe('hostile files', () => {
  for (const file of hostileFiles) {
    test(`${file.title} is refused`, async () => {
      const verdict = await validate(file);
      assert.ok('refusedBy' in verdict, `it was taken for ${JSON.stringify(verdict)}`);
      // A stub may be too little even to be recognised.
      if (verdict.refusedBy !== 'undetected') assert.equal(verdict.refusedBy, file.refusedBy);
      assert.match(verdict.detail, /^[A-Z].*\.$/);
    });
  }
});

describe('media type names', () => {
  test('aliases, parameters and case come to one name', () => {
    for (const [given, name] of [
      ['image/jpg', 'image/jpeg'],
      ['IMAGE/PNG', 'image/png'],
      ['audio/x-wav', 'audio/wav'],
      ['audio/ogg; codecs=opus', 'audio/ogg'],
      [' video/x-m4v ', 'video/mp4'],
      ['audio/x-m4a', 'audio/mp4'],
      ['text/plain;charset=utf-8', 'text/plain'],
      ['image/pjpeg', 'image/jpeg'],
      ['image/x-png', 'image/png'],
      ['image/apng', 'image/png'],
      ['audio/wave', 'audio/wav'],
      ['audio/vnd.wave', 'audio/wav'],
      ['audio/x-mp3', 'audio/mpeg'],
      ['audio/x-flac', 'audio/flac'],
      ['audio/x-aiff', 'audio/aiff'],
      ['application/ogg', 'audio/ogg'],
      ['audio/opus', 'audio/ogg'],
      ['audio/m4a', 'audio/mp4'],
      ['video/x-matroska', 'video/matroska'],
      ['application/x-pdf', 'application/pdf'],
    ])
      assert.equal(normaliseMediaType(given), name);
  });

  test('what says nothing or is no media type counts as not said', () => {
    for (const given of [
      undefined,
      '',
      'jpeg',
      'application/octet-stream',
      'binary/octet-stream',
      'application/x-www-form-urlencoded',
      'multipart/mixed',
      'a/b/c',
      '<script>/x',
      '__proto__',
    ]) {
      assert.equal(normaliseMediaType(given), undefined, given);
    }
    assert.equal(normaliseMediaType('constructor/prototype'), 'constructor/prototype');
  });

  test('an extension fits the types that have it, and no name without one is refused', () => {
    const extensionFits = (name: string, mediaType: string) => findNameFault(name, mediaType) === undefined;
    assert.ok(extensionFits('a.JPEG', 'image/jpeg'));
    assert.ok(extensionFits('photo', 'image/jpeg'));
    assert.ok(extensionFits('.hidden', 'image/jpeg'));
    assert.ok(!extensionFits('a.png', 'image/jpeg'));
    assert.ok(!extensionFits('a.unknown', 'image/jpeg'));
    assert.ok(extensionFits('a.unknown', 'application/x-own'));
    assert.ok(!extensionFits('a.html', 'application/x-own'));
  });
});

describe('detection', () => {
  test('ends, and never throws, on any bytes', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), async (bytes) => void (await detectMediaType(bytes))),
      { numRuns: 300 },
    );
  });

  test('looks at the first 64 KiB alone', async () => {
    const file = validFiles.find(({ title }) => title === 'a FLAC behind an ID3 tag of 200 KiB');
    assert.equal(await detectMediaType(file?.bytes ?? Buffer.alloc(0)), 'audio/mpeg');
  });

  test('gives up when it reads too often; a zip is one whatever its entries are', async () => {
    const tags = Buffer.concat([
      Buffer.alloc(1000, Buffer.from('49443303000000000000', 'hex')),
      fixture('vbr-id3v1.mp3'),
    ]);
    assert.equal(await detectMediaType(tags), 'audio/mpeg');
    assert.equal(await detectMediaType(tags, 20), undefined);
    const entry = Buffer.alloc(31);
    entry.writeUInt32LE(0x04034b50, 0);
    entry.writeUInt16LE(1, 26);
    const manyEntries = Buffer.concat(Array.from({ length: 2000 }, () => entry));
    assert.equal(await detectMediaType(manyEntries), 'application/zip');
    assert.equal(await detectMediaType(manyEntries, 100), 'application/zip');
  });

  test('is not misled when the process is held up again and again', async (t) => {
    let now = 0;
    t.mock.method(performance, 'now', () => {
      now += 60_000;
      return now;
    });
    assert.equal(await detectMediaType(fixture('photo.jpg')), 'image/jpeg');
  });

  test('ends on an ASF file whose objects lead nowhere', async () => {
    const asf = Buffer.concat([Buffer.from('3026b2758e66cf11a6d900aa0062ce6c', 'hex'), Buffer.alloc(102)]);
    assert.notEqual(await detectMediaType(asf), 'image/png');
  });
});

describe('what contradicts', () => {
  test('is refused with the type that the bytes show', async () => {
    const head = fixture('photo.jpg');
    const byDeclaration = await classify({ head, fileName: 'a.jpg', declared: 'image/png' });
    assert.deepEqual(
      { ...byDeclaration, detail: '' },
      {
        outcome: 'refused',
        reason: 'declared-mismatch',
        detected: 'image/jpeg',
        detail: '',
      },
    );
    const byExtension = await classify({ head, fileName: 'a.png', declared: undefined });
    assert.deepEqual(
      { ...byExtension, detail: '' },
      {
        outcome: 'refused',
        reason: 'extension-mismatch',
        detected: 'image/jpeg',
        detail: '',
      },
    );
  });

  test('does not exist between the older Office types, which share one magic number', async () => {
    const head = Buffer.alloc(1024);
    head.write('d0cf11e0a1b11ae1', 'hex');
    for (const [fileName, mediaType] of [
      ['a.doc', 'application/msword'],
      ['a.xls', 'application/vnd.ms-excel'],
      ['a.ppt', 'application/vnd.ms-powerpoint'],
    ] as const)
      assert.deepEqual(await classify({ head, fileName, declared: undefined }), { outcome: 'accepted', mediaType });
    assert.equal((await classify({ head, fileName: 'a.pdf', declared: undefined })).outcome, 'refused');
  });
});

describe('text', () => {
  test('declared as plain text keeps that type where the extension allows it, and else has that of the extension', async () => {
    const head = Buffer.from('# text\n');
    for (const [fileName, mediaType] of [
      ['README.md', 'text/plain'],
      ['README.markdown', 'text/markdown'],
      ['a.csv', 'text/csv'],
      ['a.json', 'application/json'],
      ['notes', 'text/plain'],
    ] as const)
      assert.deepEqual(await classify({ head, fileName, declared: 'text/plain' }), { outcome: 'accepted', mediaType });
    assert.deepEqual(await classify({ head, fileName: 'README.md', declared: undefined }), {
      outcome: 'accepted',
      mediaType: 'text/markdown',
    });
  });

  test('declared for what is none is a contradiction', async () => {
    const verdict = await classify({ head: fixture('photo.jpg'), fileName: 'a', declared: 'text/plain' });
    assert.equal(verdict.outcome === 'refused' && verdict.reason, 'declared-mismatch');
  });
});

describe('undetected files', () => {
  const text = Buffer.from('a { color: red }');
  test('are refused unless the policy allows them', async () => {
    const verdict = await classify({ head: text, fileName: 'a.css', declared: 'text/css' });
    assert.equal(verdict.outcome === 'refused' && verdict.reason, 'undetected');
  });

  test('have the declared type, or that of the extension, when the policy allows them', async () => {
    const allowed = { head: text, allowUndetected: true };
    assert.deepEqual(await classify({ ...allowed, fileName: 'a.css', declared: 'text/css' }), {
      outcome: 'accepted',
      mediaType: 'text/css',
    });
    assert.deepEqual(await classify({ ...allowed, fileName: 'a.css', declared: undefined }), {
      outcome: 'accepted',
      mediaType: 'text/css',
    });
    assert.deepEqual(await classify({ ...allowed, fileName: 'a', declared: undefined }), {
      outcome: 'accepted',
      mediaType: 'application/octet-stream',
    });
  });

  test('are never taken for a type that would have been recognised', async () => {
    for (const declared of ['image/png', 'video/mp4', 'application/pdf', 'application/zip']) {
      const verdict = await classify({ head: text, fileName: 'a', declared, allowUndetected: true });
      assert.equal(verdict.outcome, 'refused', declared);
    }
  });
});
