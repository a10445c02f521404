import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import sharp from 'sharp';
import { type Change, Changes, changeInPlace } from '../../src/processing/strip/changes.ts';
import { gif } from '../../src/processing/strip/gif.ts';
import { jpeg } from '../../src/processing/strip/jpeg.ts';
import { mediaFile } from '../../src/processing/strip/media-file.ts';
import { png } from '../../src/processing/strip/png.ts';
import { isStripped, requireStrippable } from '../../src/processing/strip/policies.ts';
import {
  canStrip,
  holdsMetadata,
  stripFile,
  stripInPlace,
  stripMetadata,
  Unstrippable,
} from '../../src/processing/strip/strip.ts';
import type { Walk } from '../../src/processing/strip/walk.ts';
import { webp } from '../../src/processing/strip/webp.ts';
import { loadUploadPolicies, UploadPolicies } from '../../src/validation/upload-policies.ts';
import { fixture, validate } from '../support/corpus.ts';
import { png as cleanPng } from '../support/files.ts';
import { markersIn, type PrivateFile, privateFiles } from '../support/private-files.ts';

const walks: Record<string, (size: number, changes: Changes) => Walk<void>> = {
  'image/jpeg': jpeg,
  'image/png': png,
  'image/webp': webp,
  'image/gif': gif,
  'image/avif': mediaFile,
  'image/heic': mediaFile,
  'video/mp4': mediaFile,
  'video/quicktime': mediaFile,
};

/** Gives no byte more than is asked for, so that each step is counted. */
function stepByStep(bytes: Buffer, mediaType: string): { changes: Change[]; steps: number } {
  const changes = new Changes();
  const walk = walks[mediaType]?.(bytes.length, changes);
  assert.ok(walk);
  let steps = 0;
  for (let step = walk.next(); !step.done; steps += 1) {
    const { at, length } = step.value;
    if (at + length > bytes.length) throw new Unstrippable('cut');
    step = walk.next(bytes.subarray(at, at + length));
  }
  return { changes: changes.sorted(), steps };
}

const pixelsOf = (bytes: Buffer) => sharp(bytes, { pages: -1 }).raw().toBuffer();

function stripped({ bytes, mediaType }: Pick<PrivateFile, 'bytes' | 'mediaType'>): Buffer {
  const result = stripMetadata(bytes, mediaType);
  assert.ok(result);
  return result;
}

describe('metadata', async () => {
  const files = await privateFiles();
  let directory = '';
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'stowage-strip-'));
  });
  after(() => rm(directory, { recursive: true }));

  for (const file of files) {
    test(`of ${file.title} is gone, and it is still a file of its type`, async () => {
      assert.notDeepEqual(markersIn(file.bytes), []);
      const result = stripped(file);
      assert.deepEqual(markersIn(result), []);
      assert.deepEqual(await validate({ bytes: result, fileName: file.fileName }), { mediaType: file.mediaType });
      assert.equal(stripMetadata(result, file.mediaType), undefined);
    });

    test(`of ${file.title} is taken from a file as from memory`, async () => {
      const [input, output] = [join(directory, file.fileName), join(directory, `stripped-${file.fileName}`)];
      await writeFile(input, file.bytes);
      const expected = stripped(file);
      assert.deepEqual(await stripFile(input, output, file.mediaType), { changed: true, size: expected.length });
      assert.ok(expected.equals(await readFile(output)));
      assert.deepEqual(await stripFile(output, `${output}-again`, file.mediaType), {
        ...{ changed: false, size: expected.length },
      });
      await assert.rejects(readFile(`${output}-again`), { code: 'ENOENT' });
    });
  }

  test('is taken from a file that is larger than what is read at once', async () => {
    const noise = { width: 900, height: 900, channels: 3, background: '#888' } as const;
    const picture = sharp({ create: { ...noise, noise: { type: 'gaussian', mean: 128, sigma: 60 } } });
    const photo = await picture.jpeg({ quality: 95 }).toBuffer();
    const comment = Buffer.concat([Buffer.from([0xff, 0xfe, 0xff, 0xff]), Buffer.alloc(65_533, 'pr1v8 ')]);
    const bytes = Buffer.concat([photo.subarray(0, 2), comment, comment, photo.subarray(2), Buffer.alloc(300_000, 1)]);
    assert.ok(photo.length > 300_000);
    const [input, output] = [join(directory, 'large'), join(directory, 'large-stripped')];
    await writeFile(input, bytes);
    assert.deepEqual(await stripFile(input, output, 'image/jpeg'), { changed: true, size: photo.length });
    assert.ok(photo.equals(await readFile(output)));
    const inPlace = Buffer.from(bytes);
    assert.equal(await stripInPlace(inPlace, 'image/jpeg'), photo.length);
    assert.ok(photo.equals(inPlace.subarray(0, photo.length)));
    assert.equal(await holdsMetadata(bytes, 'image/jpeg'), true);
    assert.equal(await holdsMetadata(photo, 'image/jpeg'), false);
    assert.equal(await stripInPlace(Buffer.from(photo), 'image/jpeg'), undefined);
  });

  for (const file of files.filter(({ clean }) => clean))
    test(`goes, and the pixels, the orientation and the profile of ${file.title} stay`, async () => {
      const result = stripped(file);
      assert.ok((await pixelsOf(result)).equals(await pixelsOf(file.clean ?? result)));
      const [left, clean] = await Promise.all([sharp(result).metadata(), sharp(file.clean).metadata()]);
      assert.equal(left.orientation ?? 1, file.orientation ?? 1);
      assert.deepEqual(left.icc, clean.icc);
      assert.ok((left.exif?.length ?? 0) <= 32);
      for (const what of ['xmp', 'iptc', 'comments'] as const) assert.equal(left[what], undefined);
      const most = await sharp(result).autoOrient().metadata();
      assert.deepEqual(
        most.autoOrient,
        (
          await sharp(file.bytes)
            .metadata()
            .catch(() => most)
        ).autoOrient,
      );
    });

  test('the orientation that is left of Exif in a JPEG takes 36 bytes', async () => {
    const [turned, upright] = [files[0], files[2]];
    assert.ok(turned && upright);
    assert.equal(stripped(turned).length - stripped(upright).length, 36);
  });

  test('media data of HEIC and films stay where they were, bit for bit', () => {
    for (const [fileName, name] of [
      ['j.heic', 'photo.heic'],
      ['l.mp4', 'moov-last.mp4'],
      ['m.mov', 'clip.mov'],
    ]) {
      const file = files.find((each) => each.fileName === fileName);
      assert.ok(file && name);
      const original = fixture(name);
      const at = original.indexOf('mdat');
      const media = original.subarray(at + 4, at - 4 + original.readUInt32BE(at - 4));
      const result = stripped(file);
      assert.ok(file.bytes.indexOf(media) > 0);
      assert.equal(result.indexOf(media), file.bytes.indexOf(media));
    }
  });

  test('when a film was made is not told', () => {
    const result = stripped({ bytes: filmOf(files), mediaType: 'video/mp4' });
    for (const type of ['mvhd', 'tkhd', 'mdhd']) assert.equal(result.readBigUInt64BE(result.indexOf(type) + 8), 0n);
  });

  test('where there is none, nothing is changed', () => {
    for (const [name, mediaType] of [
      ['photo.jpg', 'image/jpeg'],
      ['progressive.jpg', 'image/jpeg'],
      ['restart.jpg', 'image/jpeg'],
      ['photo.webp', 'image/webp'],
      ['lossless.webp', 'image/webp'],
      ['animation.png', 'image/png'],
      ['animation.gif', 'image/gif'],
      ['photo.avif', 'image/avif'],
      ['photo.heic', 'image/heic'],
    ] as const)
      assert.equal(stripMetadata(fixture(name), mediaType), undefined, name);
    assert.equal(stripMetadata(cleanPng(), 'image/png'), undefined);
  });

  test('of files that cannot be taken apart is not guessed at', () => {
    const [photo, heic] = [fixture('photo.jpg'), files.find(({ fileName }) => fileName === 'j.heic')?.bytes];
    assert.ok(heic);
    const [iloc, film] = [heic.indexOf('iloc'), filmOf(files)];
    const critical = Buffer.from(cleanPng());
    critical.write('IDBT', critical.indexOf('IDAT'));
    const cases: [string, Buffer, string][] = [
      ['a JPEG without an end', photo.subarray(0, -2), 'image/jpeg'],
      ['a JPEG that is none', fixture('drawing.png'), 'image/jpeg'],
      ['a PNG with a critical chunk that nobody knows', critical, 'image/png'],
      ['a WebP that is shorter than it says', fixture('photo.webp').subarray(0, -2), 'image/webp'],
      ['a GIF without a trailer', fixture('animation.gif').subarray(0, -1), 'image/gif'],
      ['an HEIC whose Exif is the picture', withPlace(heic, iloc, 1, 0), 'image/heic'],
      ['an HEIC whose Exif lies outside of the media data', withPlace(heic, iloc, 1, 8), 'image/heic'],
      ['a film in pieces with a track of places', inPieces(film), 'video/mp4'],
      ['a drawing that is cut', fixture('graph.svg').subarray(0, 300), 'image/svg+xml'],
    ];
    for (const [title, bytes, mediaType] of cases)
      assert.throws(() => stripMetadata(Buffer.from(bytes), mediaType), Unstrippable, title);
  });

  test('of a JPEG that stands between its segments, and its fill bytes', () => {
    const photo = fixture('photo.jpg');
    const filled = Buffer.concat([photo.subarray(0, 2), Buffer.alloc(9, 0xff), photo.subarray(2)]);
    assert.equal(stripMetadata(filled, 'image/jpeg'), undefined);
    const scan = photo.lastIndexOf(Buffer.from([0xff, 0xda]));
    const noisy = Buffer.concat([photo.subarray(0, scan), Buffer.from('noise'), photo.subarray(scan)]);
    assert.ok(stripMetadata(noisy, 'image/jpeg')?.equals(photo));
  });

  test('of the container is changed with what it holds: flags and lengths of WebP', async () => {
    const file = files.find(({ fileName }) => fileName === 'f.webp');
    assert.ok(file);
    const result = stripped(file);
    assert.equal(result.readUInt32LE(4), result.length - 8);
    assert.equal(result.readUInt8(20) & 0x0c, 0x08);
    const animation = fixture('animation.webp');
    const whole = animation.subarray(0, 8 + animation.readUInt32LE(4));
    const frame = whole.indexOf('ANMF');
    const end = frame + 8 + whole.readUInt32LE(frame + 4);
    const grown = Buffer.concat([
      whole.subarray(0, end),
      Buffer.from('note\x04\0\0\0text', 'latin1'),
      whole.subarray(end),
    ]);
    grown.writeUInt32LE(whole.readUInt32LE(frame + 4) + 12, frame + 4);
    grown.writeUInt32LE(grown.length - 8, 4);
    assert.ok(stripMetadata(grown, 'image/webp')?.equals(whole));
  });

  test('of JFIF is its thumbnail, of a GIF what stands behind the number of repetitions, of HEIC what describes it', () => {
    const [jpeg, animation, heic] = [files[0], fixture('animation.gif'), fixture('photo.heic')];
    assert.ok(jpeg);
    const jfif = stripped(jpeg).indexOf('JFIF');
    assert.equal(stripped(jpeg).readUInt32BE(jfif - 4), 0xffe00010);
    assert.equal(stripped(jpeg).readUInt16BE(jfif + 12), 0);
    const loop = animation.indexOf('NETSCAPE2.0') + 15;
    const more = Buffer.concat([animation.subarray(0, loop), Buffer.from('\x05pr1v8'), animation.subarray(loop)]);
    assert.ok(stripMetadata(more, 'image/gif')?.equals(animation));
    const property = heic.indexOf('pixi');
    heic.write('udes', property);
    const result = stripped({ bytes: heic, mediaType: 'image/heic' });
    assert.equal(
      result.toString('hex', property, property + 12),
      `${Buffer.from('free').toString('hex')}${'0'.repeat(16)}`,
    );
  });

  test('is not sought in media types of which nothing is known', () => {
    assert.equal(canStrip('image/jpeg'), true);
    assert.equal(canStrip('image/tiff'), false);
    assert.equal(canStrip('toString'), false);
    assert.throws(() => stripMetadata(Buffer.alloc(9), 'image/tiff'), TypeError);
  });
});

describe('a policy that wants metadata removed', () => {
  const [image] = loadUploadPolicies(undefined, 2 ** 40).all;
  assert.ok(image);

  test('is that of pictures, and of what is gone since', () => {
    const policies = requireStrippable(loadUploadPolicies(undefined, 2 ** 40));
    const wants = (assetType: string, mediaType: string) => isStripped(policies, { assetType, mediaType });
    assert.equal(wants('image', 'image/jpeg'), true);
    assert.equal(wants('video', 'video/mp4'), false);
    assert.equal(wants('gone', 'video/mp4'), true);
    assert.equal(wants('gone', 'text/plain'), false);
  });

  test('ends the start where that cannot be done, and names the media types', () => {
    const mediaTypes = ['image/png', 'image/tiff', 'video/webm'];
    assert.throws(() => requireStrippable(new UploadPolicies([{ ...image, mediaTypes }])), {
      name: 'PolicyError',
      message: /image\.metadata .* image\/tiff, video\/webm/,
    });
    requireStrippable(new UploadPolicies([{ ...image, mediaTypes, metadata: 'keep' }]));
  });
});

describe('whatever a file holds', async () => {
  const files = (await privateFiles()).filter(({ mediaType }) => Object.hasOwn(walks, mediaType));
  /** What is left, or that it cannot be told. */
  const outcomeOf = (bytes: Buffer, mediaType: string): Buffer | undefined | 'unstrippable' => {
    try {
      return stripMetadata(bytes, mediaType);
    } catch (error) {
      assert.ok(error instanceof Unstrippable, String(error));
      return 'unstrippable';
    }
  };
  const place = fc.double({ min: 0, max: 1, noNaN: true });
  const damage: fc.Arbitrary<Damage> = fc.oneof(
    fc.record({ at: place, byte: fc.integer({ min: 0, max: 255 }) }),
    fc.record({ at: place, word: fc.constantFrom(0, 1, 7, 8, 0x7fffffff, 0xffffffff) }),
    fc.record({ at: place, from: place, length: fc.integer({ min: 1, max: 400 }) }),
    fc.record({ at: place, isCut: fc.constant(true) }),
  );
  const damaged = (bytes: Buffer, all: readonly Damage[]) => all.reduce(damagedBy, Buffer.from(bytes));

  test('it is stripped, and then holds nothing, or it is refused; in steps that are linear in its size', () => {
    fc.assert(
      fc.property(fc.constantFrom(...files), fc.array(damage, { maxLength: 4 }), ({ bytes, mediaType }, faults) => {
        const file = damaged(bytes, faults);
        const result = outcomeOf(file, mediaType);
        if (result === 'unstrippable') return;
        const { changes, steps } = stepByStep(file, mediaType);
        const again = Buffer.from(file);
        assert.ok(again.subarray(0, changeInPlace(again, changes)).equals(result ?? file));
        assert.ok(steps <= 1000 + 2 * file.length, `${steps} steps for ${file.length} bytes`);
        if (result) assert.equal(outcomeOf(result, mediaType), undefined);
      }),
      { numRuns: 3000 },
    );
  });
});

interface Damage {
  at: number;
  byte?: number;
  word?: number;
  from?: number;
  length?: number;
  isCut?: boolean;
}

function damagedBy(bytes: Buffer, damage: Damage): Buffer {
  const index = (part: number) => Math.floor(part * Math.max(0, bytes.length - 5));
  if (damage.isCut) return bytes.subarray(0, index(damage.at));
  if (bytes.length < 5) return bytes;
  const at = index(damage.at);
  if (damage.byte !== undefined) bytes.writeUInt8(damage.byte, at);
  if (damage.word !== undefined) bytes.writeUInt32BE(damage.word, at);
  if (damage.from === undefined || damage.length === undefined) return bytes;
  const from = index(damage.from);
  return Buffer.concat([bytes.subarray(0, at), bytes.subarray(from, from + damage.length), bytes.subarray(at)]);
}

function filmOf(files: readonly PrivateFile[]): Buffer<ArrayBuffer> {
  const film = files.find(({ mediaType }) => mediaType === 'video/mp4');
  assert.ok(film);
  return film.bytes;
}

/** An HEIC whose item of that index begins elsewhere; entries have 18 bytes, and begin 16 bytes behind the type. */
function withPlace(heic: Buffer, iloc: number, item: number, place: number): Buffer {
  const copy = Buffer.from(heic);
  const first = iloc + 12;
  copy.writeUInt32BE(place === 0 ? copy.readUInt32BE(first + 4) : place, first + 18 * item + 4);
  return copy;
}

/** A movie that says that it goes on in fragments. */
function inPieces(film: Buffer): Buffer {
  const copy = Buffer.from(film);
  copy.write('mvex', copy.lastIndexOf('udta'));
  return copy;
}
