import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { classify, detectMediaType, extensionFits, normaliseMediaType } from '../../src/intake/media-types.ts';
import { structureCheck } from '../../src/intake/structure.ts';
import { hostileFiles, validFiles } from '../support/corpus.ts';

const HEAD = 64 * 1024;

/** As intake judges: by the first bytes, then by all of them, in chunks. */
async function judge(
  file: { bytes: Buffer; fileName: string; declared?: string },
  chunks: Buffer[] = [file.bytes],
): Promise<{ mediaType: string } | { refusedBy: string; detail: string }> {
  const verdict = await classify({
    head: file.bytes.subarray(0, HEAD),
    fileName: file.fileName,
    declared: file.declared,
  });
  if (verdict.outcome === 'refused') return { refusedBy: verdict.reason, detail: verdict.detail };
  const check = structureCheck(verdict.mediaType);
  for (const chunk of chunks) check.update(chunk);
  const fault = check.end();
  return fault === undefined ? { mediaType: verdict.mediaType } : { refusedBy: 'structure', detail: fault };
}

function cut(bytes: Buffer, at: number[]): Buffer[] {
  const borders = [0, ...at.map((n) => n % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  return borders.slice(1).map((border, index) => bytes.subarray(borders[index], border));
}

/** One of these; a counterexample shows its title instead of its bytes. */
function one<File extends { title: string }>(files: File[]): fc.Arbitrary<File> {
  return fc.constantFrom(...files.map((file) => ({ ...file, [fc.toStringMethod]: () => file.title })));
}

describe('valid files', () => {
  for (const file of validFiles) {
    test(`${file.title} (${file.fileName}) is ${file.mediaType}`, async () => {
      assert.deepEqual(await judge(file), { mediaType: file.mediaType });
    });
  }
});

describe('hostile files', () => {
  for (const file of hostileFiles) {
    test(`${file.title} is refused`, async () => {
      const verdict = await judge(file);
      assert.ok('refusedBy' in verdict, `it was taken for ${JSON.stringify(verdict)}`);
      // A stub may be too little even to be recognised.
      if (verdict.refusedBy !== 'undetected') assert.equal(verdict.refusedBy, file.refusedBy);
      assert.match(verdict.detail, /^[A-Z].*\.$/);
    });
  }
});

describe('the structure check', () => {
  test('comes to the same verdict however the bytes are cut into chunks', async () => {
    const files = [...validFiles, ...hostileFiles.filter(({ refusedBy }) => refusedBy === 'structure')].filter(
      ({ bytes }) => bytes.length < 20_000,
    );
    await fc.assert(
      fc.asyncProperty(one(files), fc.array(fc.nat(), { maxLength: 20 }), async (file, at) => {
        const [whole, inParts] = [await judge(file), await judge(file, cut(file.bytes, at))];
        assert.deepEqual(inParts, whole, file.title);
      }),
      { numRuns: 400 },
    );
  });

  test('comes to the same verdict byte by byte', async () => {
    for (const file of validFiles.filter(({ bytes }) => bytes.length < 8000)) {
      const bytes = Array.from(file.bytes, (_, index) => file.bytes.subarray(index, index + 1));
      assert.deepEqual(await judge(file, bytes), { mediaType: file.mediaType }, file.title);
    }
  });

  test('refuses every beginning of a file up to its half, but of streams that may end anywhere', async () => {
    // MP3, FLAC and live WebM are streams of frames; a WAV of unknown size ends where it ends.
    // Of some files the beginning is a whole file.
    const whole = /appended|chained|after its end|reaches to the end/;
    const files = validFiles.filter(
      ({ title, mediaType, fileName }) =>
        !/mpeg|flac/.test(mediaType) && !/live|streamed/.test(fileName) && !whole.test(title),
    );
    await fc.assert(
      fc.asyncProperty(one(files), fc.double({ min: 0, max: 0.5, noNaN: true }), async (file, share) => {
        const bytes = file.bytes.subarray(0, Math.floor(file.bytes.length * share));
        assert.ok(
          'refusedBy' in (await judge({ ...file, bytes })),
          `${bytes.length} bytes of ${file.title} are accepted`,
        );
      }),
      { numRuns: 500 },
    );
  });

  test('never throws and never loops, whatever the bytes', async () => {
    const mutated = fc.tuple(
      one(validFiles.filter(({ bytes }) => bytes.length < 20_000)),
      fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 30 }),
    );
    await fc.assert(
      fc.asyncProperty(mutated, async ([file, changes]) => {
        const bytes = Buffer.from(file.bytes);
        for (const [at, value] of changes) bytes[at % Math.min(bytes.length, 400)] = value;
        await judge({ ...file, bytes });
      }),
      { numRuns: 1000 },
    );
  });

  test('tells a fault as soon as it is known', () => {
    const check = structureCheck('video/mp4');
    check.update(Buffer.from('<!--ftypmp42--><!DOCTYPE html>'));
    assert.match(check.fault() ?? '', /file type box/);
  });

  test('takes a media type without a checker as it is', () => {
    const check = structureCheck('text/plain');
    check.update(Buffer.from('anything'));
    assert.equal(check.end(), undefined);
  });
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

  test('ends on an ASF file whose objects lead nowhere', async () => {
    const asf = Buffer.concat([Buffer.from('3026b2758e66cf11a6d900aa0062ce6c', 'hex'), Buffer.alloc(102)]);
    assert.notEqual(await detectMediaType(asf), 'image/png');
  });
});

describe('undetected files', () => {
  const text = Buffer.from('a,b\n1,2\n');
  test('are refused unless the policy allows them', async () => {
    const verdict = await classify({ head: text, fileName: 'a.csv', declared: 'text/csv' });
    assert.equal(verdict.outcome === 'refused' && verdict.reason, 'undetected');
  });

  test('have the declared type, or that of the extension, when the policy allows them', async () => {
    const allowed = { head: text, allowUndetected: true };
    assert.deepEqual(await classify({ ...allowed, fileName: 'a.csv', declared: 'text/csv' }), {
      outcome: 'accepted',
      mediaType: 'text/csv',
    });
    assert.deepEqual(await classify({ ...allowed, fileName: 'a.csv', declared: undefined }), {
      outcome: 'accepted',
      mediaType: 'text/csv',
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
