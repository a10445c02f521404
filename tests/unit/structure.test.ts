import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { classify, HEAD_SIZE } from '../../src/validation/media-types.ts';
import { FREE_STEPS } from '../../src/validation/structure/walk.ts';
import { structureCheck } from '../../src/validation/structure.ts';
import { fixture, hostileFiles, validate, validFiles } from '../support/corpus.ts';
import { expensiveFiles, ordinaryFiles } from '../support/expensive-files.ts';

function cut(bytes: Buffer, at: number[]): Buffer[] {
  const borders = [0, ...at.map((n) => n % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  return borders.slice(1).map((border, index) => bytes.subarray(borders[index], border));
}

/** One of these; a counterexample shows its title instead of its bytes. */
function one<File extends { title: string }>(files: File[]): fc.Arbitrary<File> {
  return fc.constantFrom(...files.map((file) => ({ ...file, [fc.toStringMethod]: () => file.title })));
}

describe('the structure check', () => {
  test('comes to the same verdict however the bytes are cut into chunks', async () => {
    const files = [...validFiles, ...hostileFiles.filter(({ refusedBy }) => refusedBy === 'structure')].filter(
      ({ bytes }) => bytes.length < 20_000,
    );
    await fc.assert(
      fc.asyncProperty(one(files), fc.array(fc.nat(), { maxLength: 20 }), async (file, at) => {
        const [whole, inParts] = [await validate(file), await validate(file, cut(file.bytes, at))];
        assert.deepEqual(inParts, whole, file.title);
      }),
      { numRuns: 400 },
    );
  });

  test('comes to the same verdict byte by byte', async () => {
    for (const file of validFiles.filter(({ bytes }) => bytes.length < 8000)) {
      const bytes = Array.from(file.bytes, (_, index) => file.bytes.subarray(index, index + 1));
      assert.deepEqual(await validate(file, bytes), { mediaType: file.mediaType }, file.title);
    }
  });

  test('refuses every beginning of a file up to its half, but of streams that may end anywhere', async () => {
    // MP3, FLAC and live WebM are streams of frames; a WAV of unknown size ends where it ends.
    // Of some files the beginning is a whole file.
    const whole = /appended|chained|after its end|reaches to the end|JSON number/;
    const files = validFiles.filter(
      ({ title, mediaType, fileName }) =>
        !/mpeg|flac|^text/.test(mediaType) && !/live|streamed/.test(fileName) && !whole.test(title),
    );
    await fc.assert(
      fc.asyncProperty(one(files), fc.double({ min: 0, max: 0.5, noNaN: true }), async (file, share) => {
        const bytes = file.bytes.subarray(0, Math.floor(file.bytes.length * share));
        assert.ok(
          'refusedBy' in (await validate({ ...file, bytes })),
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
        await validate({ ...file, bytes });
      }),
      { numRuns: 1000 },
    );
  });

  test('keeps nothing of a chunk whose memory is used again', () => {
    for (const file of validFiles.filter(({ bytes }) => bytes.length < 20_000)) {
      const check = structureCheck(file.mediaType);
      const chunk = Buffer.alloc(7);
      for (let at = 0; at < file.bytes.length; at += chunk.length) {
        check.update(chunk.subarray(0, file.bytes.copy(chunk, 0, at)));
        chunk.fill(0xaa);
      }
      assert.equal(check.end(), undefined, file.title);
    }
  });

  describe('costs no more than its bytes allow', () => {
    const MiB = 1024 * 1024;
    for (const file of expensiveFiles(MiB))
      test(file.title, async () => {
        const verdict = await classify({
          head: file.bytes.subarray(0, HEAD_SIZE),
          fileName: file.fileName,
          declared: undefined,
        });
        if (verdict.outcome === 'refused') return;
        const check = structureCheck(verdict.mediaType);
        let seen = 0;
        for (; seen < file.bytes.length && check.fault() === undefined; seen += 4096)
          check.update(file.bytes.subarray(seen, seen + 4096));
        check.end();
        assert.ok(check.steps <= FREE_STEPS + 1 + seen / 16, `${check.steps} steps for ${seen} bytes`);
      });

    test('elements inside of elements count like any others', async () => {
      const [file] = expensiveFiles(MiB);
      assert.ok(file);
      const check = structureCheck('video/webm');
      let seen = 0;
      for (; seen < file.bytes.length && check.fault() === undefined; seen += 4096)
        check.update(file.bytes.subarray(seen, seen + 4096));
      assert.match(check.fault() ?? '', /tiny pieces/);
      assert.ok(seen <= 16 * 1024, `${seen} bytes were walked`);
    });

    test('whatever the pieces are, and wherever they begin', async () => {
      const prefix = one(validFiles.filter(({ bytes }) => bytes.length < 20_000));
      const piece = fc.oneof(
        fc.uint8Array({ minLength: 1, maxLength: 24 }).map((bytes) => Buffer.from(bytes)),
        one(expensiveFiles(256)).map(({ bytes }) => Buffer.from(bytes.subarray(-32))),
      );
      await fc.assert(
        fc.property(prefix, fc.nat(), fc.array(piece, { minLength: 1, maxLength: 3 }), (file, at, pieces) => {
          const head = file.bytes.subarray(0, at % file.bytes.length);
          const filling = Buffer.alloc(256 * 1024, Buffer.concat(pieces));
          const check = structureCheck(file.mediaType);
          check.update(head);
          check.update(filling);
          check.end();
          assert.ok(check.steps <= FREE_STEPS + 1 + (head.length + filling.length) / 16);
        }),
        { numRuns: 300 },
      );
    });

    test('what programs write stays far below', async () => {
      for (const file of [...validFiles, ...ordinaryFiles(MiB)]) {
        const { bytes, fileName } = file;
        const verdict = await classify({ head: bytes.subarray(0, HEAD_SIZE), fileName, declared: undefined });
        if (verdict.outcome === 'refused') continue;
        const check = structureCheck(verdict.mediaType);
        check.update(bytes);
        assert.equal(check.end(), undefined, file.title);
        assert.ok(check.steps < 300, `${check.steps} steps: ${file.title}`);
      }
    });
  });

  test('ends the walk through a file of nothing but tiny pieces long before its end', () => {
    const check = structureCheck('video/mp4');
    check.update(fixture('moov-last.mp4'));
    const free = Buffer.alloc(64 * 1024, Buffer.from('0000000866726565', 'hex'));
    let megabytes = 0;
    for (; check.fault() === undefined && megabytes < 64; megabytes += 1)
      for (let chunk = 0; chunk < 16; chunk += 1) check.update(free);
    assert.match(check.fault() ?? '', /tiny pieces/);
    assert.ok(megabytes <= 1, `${megabytes} MiB were walked`);
  });

  test('holds a video track against a file of sound as soon as it is listed', () => {
    const movie = fixture('moov-first.mp4');
    const check = structureCheck('audio/mp4');
    check.update(movie.subarray(0, movie.indexOf('mdat')));
    assert.match(check.fault() ?? '', /video track/);
  });

  test('tells a claim of too many pixels from the header alone', () => {
    const bytes = Buffer.from(fixture('photo.jpg'));
    const frame = bytes.indexOf(Buffer.from([0xff, 0xc0]));
    bytes.fill(0xff, frame + 5, frame + 9);
    const check = structureCheck('image/jpeg');
    check.update(bytes.subarray(0, frame + 12));
    assert.match(check.fault() ?? '', /65535 by 65535/);
  });

  test('tells a fault as soon as it is known', () => {
    const check = structureCheck('video/mp4');
    check.update(Buffer.from('<!--ftypmp42--><!DOCTYPE html>'));
    assert.match(check.fault() ?? '', /file type box/);
  });

  test('takes a media type without a checker as it is', () => {
    const check = structureCheck('text/css');
    check.update(Buffer.from('anything'));
    assert.equal(check.end(), undefined);
  });
});
