/** What the process that reads pictures makes of sound ones and of hostile ones. */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import sharp, { type Sharp } from 'sharp';
import { thumbHashToApproximateAspectRatio } from 'thumbhash';
import { Pictures, type Reencoding, type Variant } from '../../src/processing/pictures/pictures.ts';
import { withProfile } from '../../src/processing/pictures/profile.ts';
import { ChildPool } from '../../src/processing/tools/child-pool.ts';
import { confinementHere } from '../../src/processing/tools/confinement.ts';
import { Scratch } from '../../src/processing/tools/scratch.ts';
import { ToolError } from '../../src/processing/tools/tool-error.ts';
import { endlessAnimation, hostilePictures } from '../support/hostile-pictures.ts';
import { descendants, residentMemory } from '../support/process-tree.ts';

const MiB = 2 ** 20;
const fixture = (name: string) => readFileSync(new URL(`../fixtures/${name}`, import.meta.url));
const { level } = await confinementHere();

/** The left half is red, the right half is blue. */
const halves = (width: number, height: number): Sharp =>
  sharp({ create: { width, height, channels: 3, background: '#ff0000' } }).composite([
    {
      input: { create: { width: width / 2, height, channels: 3, background: '#0000ff' } },
      left: width / 2,
      top: 0,
    },
  ]);

/** Red, green and blue of one pixel, and alpha where there is one. */
async function pixel(bytes: Buffer, left: number, top: number): Promise<number[]> {
  const { data } = await sharp(bytes)
    .extract({ left, top, width: 1, height: 1 })
    .raw()
    .toBuffer({ resolveWithObject: true });
  return [...data];
}
const isRed = ([red = 0, , blue = 0]: number[]) => red > 150 && blue < 100;
const isBlue = ([red = 0, , blue = 0]: number[]) => blue > 150 && red < 100;

describe('pictures', () => {
  const scratch = new Scratch({ bytes: 64 * MiB });
  const pool = new ChildPool({
    ...{ size: 2, memory: 640 * MiB, cpuSeconds: 120, recycleAfter: 200, scratch: scratch.directory },
  });
  const pictures = new Pictures(pool);
  const output = join(scratch.directory, 'output');

  before(async () => {
    await scratch.prepare();
    mkdirSync(output);
  });
  after(async () => {
    await pool.close();
    await scratch.close();
  });

  test('have facts, whatever their format', async () => {
    const turned = await halves(60, 40).withMetadata({ orientation: 6 }).jpeg().toBuffer();
    const clear = await sharp({ create: { width: 9, height: 5, channels: 4, background: '#00000000' } })
      .png()
      .toBuffer();
    const usual = { orientation: 1, frames: 1, hasAlpha: false };
    for (const [bytes, facts] of [
      [turned, { ...usual, format: 'jpeg', width: 40, height: 60, orientation: 6 }],
      [clear, { ...usual, format: 'png', width: 9, height: 5, hasAlpha: true }],
      [fixture('animation.png'), { ...usual, format: 'png', width: 64, height: 48, frames: 6 }],
      [fixture('animation.gif'), { ...usual, format: 'gif', width: 40, height: 30, frames: 2 }],
      [fixture('animation.webp'), { ...usual, format: 'webp', width: 40, height: 30, frames: 2 }],
      [fixture('photo.avif'), { ...usual, format: 'avif', width: 64, height: 48 }],
      [fixture('photo.heic'), { ...usual, format: 'heic', width: 96, height: 64 }],
    ] as const)
      assert.deepEqual(await pictures.facts(bytes), facts);
    const path = join(scratch.directory, 'file');
    writeFileSync(path, turned);
    const understood = await pictures.understand(path, [{ width: 20, height: 20 }]);
    assert.deepEqual([understood.facts.width, understood.previews?.previews.map(({ height }) => height)], [40, [20]]);
    // Takes too long for whoever has somebody waiting.
    assert.deepEqual(Object.keys(await pictures.understand(fixture('photo.heic'), [{ width: 20, height: 20 }])), [
      'facts',
    ]);
  });

  test('have previews that fit, upright, never enlarged, and a placeholder of their shape', async () => {
    const turned = await halves(1200, 600).withMetadata({ orientation: 6 }).jpeg().toBuffer();
    const sizes = [
      { width: 400, height: 300 },
      { width: 50, height: 50, format: 'jpeg' },
      { width: 2000, height: 2000 },
    ] as const;
    const { facts, previews, thumbHash } = await pictures.previews(turned, sizes);
    assert.deepEqual([facts.width, facts.height], [600, 1200]);
    assert.deepEqual(
      previews.map(({ width, height, mediaType }) => [width, height, mediaType]),
      [
        [150, 300, 'image/webp'],
        [25, 50, 'image/jpeg'],
        [600, 1200, 'image/webp'],
      ],
    );
    const [first] = previews;
    assert.ok(first);
    // Turned by a quarter, the left half is on top.
    assert.ok(isRed(await pixel(first.bytes, 75, 20)) && isBlue(await pixel(first.bytes, 75, 280)));
    const { exif, icc, ...header } = await sharp(first.bytes).metadata();
    assert.deepEqual([header.format, exif, icc], ['webp', undefined, undefined]);
    const hash = Buffer.from(thumbHash, 'base64');
    assert.ok(hash.length <= 25 && Math.abs(thumbHashToApproximateAspectRatio(hash) - 0.5) < 0.15);
  });

  test('have previews in every format that can be read, and of what other tools made', async () => {
    for (const name of [
      'photo.heic',
      'photo.avif',
      'photo.webp',
      'animation.gif',
      'animation.webp',
      'progressive.jpg',
      'drawing.png',
    ]) {
      const { previews } = await pictures.previews(fixture(name), [{ width: 32, height: 32 }]);
      assert.equal(previews[0]?.width, 32, name);
    }
    // The same picture, once through libheif.
    const [heic, png] = await Promise.all(
      ['photo.heic', 'drawing.png'].map((name) =>
        pictures.previews(fixture(name), [{ width: 8, height: 8, format: 'png' }]),
      ),
    );
    const [one, other] = await Promise.all(
      [heic, png].map((made) => pixel(made?.previews[0]?.bytes ?? Buffer.of(), 4, 2)),
    );
    assert.ok(
      one?.every((value, index) => Math.abs(value - (other?.[index] ?? 0)) < 24),
      `${one} ${other}`,
    );
    const pixels = { pixels: new Uint8Array(20 * 10 * 3).fill(200), width: 20, height: 10, channels: 3 } as const;
    const { previews } = await pictures.previews(pixels, [{ width: 10, height: 10 }]);
    assert.deepEqual([previews[0]?.width, previews[0]?.height], [10, 5]);
  });

  test('keep their colours when their profile is left out', async () => {
    const green = { create: { width: 16, height: 16, channels: 3, background: '#00c000' } } as const;
    const wide = await sharp(green).withIccProfile('p3').png().toBuffer();
    const { previews } = await pictures.previews(wide, [{ width: 16, height: 16, format: 'png' }]);
    const shown = await pixel(previews[0]?.bytes ?? Buffer.of(), 8, 8);
    assert.ok(
      shown.every((value, index) => Math.abs(value - (index === 1 ? 192 : 0)) < 4),
      `${shown}`,
    );
    // As HEIC is decoded: the pixels as they are stored, and the profile beside them.
    const stored = await sharp(wide).keepIccProfile().raw().toBuffer();
    assert.ok((stored[0] ?? 0) > 40);
    const { icc } = await sharp(wide).metadata();
    const image = await withProfile(
      sharp(stored, { raw: { width: 16, height: 16, channels: 3 } }),
      icc ?? Buffer.of(),
      256,
    );
    const joined = await image.toColourspace('srgb').raw().toBuffer();
    assert.ok((joined[0] ?? 255) < 4 && Math.abs((joined[1] ?? 0) - 192) < 4, `${joined[0]} ${joined[1]}`);
  });

  test('have variants that cover, contain or fit', async () => {
    const photo = await halves(200, 100).png().toBuffer();
    const variant = (more: Partial<Variant>) =>
      pictures.variant(photo, { width: 80, height: 80, fit: 'cover', quality: 80, format: 'png', ...more });
    const cover = await variant({});
    assert.deepEqual([cover.width, cover.height], [80, 80]);
    assert.ok(isRed(await pixel(cover.bytes, 5, 5)) && isBlue(await pixel(cover.bytes, 75, 75)));
    assert.ok(isRed(await pixel((await variant({ position: 'left' })).bytes, 75, 40)));
    const contain = await variant({ fit: 'contain' });
    assert.deepEqual([contain.width, contain.height, (await pixel(contain.bytes, 40, 2))[3]], [80, 80, 0]);
    const onWhite = await variant({ fit: 'contain', format: 'jpeg' });
    assert.ok((await pixel(onWhite.bytes, 40, 2)).every((value) => value > 250));
    const inside = await variant({ fit: 'inside', width: 1000, height: 1000 });
    assert.deepEqual([inside.width, inside.height], [200, 100]);
    const { height: _, ...byWidth } = { width: 50, height: 0 };
    const narrow = await pictures.variant(photo, { ...byWidth, fit: 'inside', quality: 80, format: 'webp' });
    assert.deepEqual([narrow.width, narrow.height], [50, 25]);
    for (const format of ['webp', 'avif', 'jpeg', 'png'] as const) {
      const { mediaType, bytes } = await variant({ format });
      const header = await sharp(bytes).metadata();
      assert.deepEqual([mediaType, header.mediaType], [`image/${format}`, `image/${format}`]);
    }
  });

  test('are encoded again upright, without metadata but their profile, within the bounds', async () => {
    const photo = await halves(400, 200)
      .withMetadata({ orientation: 6 })
      .withExifMerge({ IFD0: { Artist: 'somebody' } })
      .withIccProfile('p3')
      .jpeg()
      .toBuffer();
    const again = async (bytes: Buffer, more: Partial<Reencoding> = {}) => {
      const made = await pictures.reencode(bytes, { quality: 85, format: 'keep', ...more }, output);
      const written = readFileSync(made.path);
      assert.equal(made.size, written.length);
      return { ...made, written, header: await sharp(written).metadata() };
    };
    const { header, width, height, written } = await again(photo, { maxWidth: 100 });
    assert.deepEqual([width, height, header.width, header.height], [100, 200, 100, 200]);
    assert.ok(header.icc && !header.exif && header.orientation === undefined);
    assert.ok(!written.includes('somebody'));
    assert.equal((await again(photo, { format: 'avif' })).mediaType, 'image/avif');
    assert.equal((await again(fixture('photo.heic'), { format: 'jpeg' })).mediaType, 'image/jpeg');
    // What has lost nothing so far loses nothing now.
    const lossless = await again(fixture('lossless.webp'));
    const raw = (bytes: Buffer) => sharp(bytes).raw().toBuffer();
    assert.deepEqual(await raw(lossless.written), await raw(fixture('lossless.webp')));
  });

  test('that move go on moving, or stay as they are', async () => {
    const again = (name: string, format: Reencoding['format']) =>
      pictures.reencode(fixture(name), { quality: 85, format }, output);
    for (const name of ['animation.webp', 'animation.gif']) {
      const { path, width, height } = await again(name, 'webp');
      const { pages, pageHeight } = await sharp(path, { pages: -1 }).metadata();
      assert.deepEqual([pages, pageHeight, width, height], [2, 30, 40, 30], name);
    }
    for (const [name, format, reason] of [
      ['animation.gif', 'keep', /GIF is not encoded again/],
      ['animation.gif', 'jpeg', /moving picture cannot become JPEG/],
      ['animation.png', 'keep', /moving PNG/],
      ['photo.heic', 'keep', /HEIC is not encoded again/],
    ] as const)
      await assert.rejects(again(name, format), { fault: 'refused', message: reason });
  });

  test('that are hostile cost themselves only, ten at once as well', async () => {
    let [highest, most] = [0, 0];
    const watch = setInterval(() => {
      const all = descendants(process.pid);
      most = Math.max(most, pool.size);
      highest = Math.max(
        highest,
        all.reduce((sum, pid) => sum + residentMemory(pid), 0),
      );
    }, 20);
    const bombs = Object.entries(hostilePictures);
    await Promise.all(
      bombs.flatMap(([name, make], index) =>
        ['facts', 'previews'].map(async (operation) => {
          const path = join(scratch.directory, `bomb-${index}`);
          writeFileSync(path, make());
          const sizes = [{ width: 400, height: 300 }];
          const work = operation === 'facts' ? pictures.facts(path) : pictures.previews(path, sizes);
          const outcome = await work.then(
            () => 'read',
            (error: unknown) => error,
          );
          // The header of a file that was cut may be whole.
          if (operation === 'facts' && outcome === 'read') return assert.match(name, /cut/);
          assert.ok(outcome instanceof ToolError, `${operation} of ${name}: ${outcome}`);
          assert.doesNotMatch(outcome.message, /bomb|stowage/);
        }),
      ),
    );
    clearInterval(watch);
    assert.ok(most <= 2, `${most}`);
    if (level !== 'time') assert.ok(highest < 2 * (640 + 256) * MiB, `${highest}`);
    assert.equal((await pictures.facts(fixture('photo.avif'))).width, 64);
  });

  test('of very many frames are shown by their first, and not encoded again', async () => {
    const bytes = endlessAnimation();
    assert.equal((await pictures.facts(bytes)).frames, 65_535);
    const { previews } = await pictures.previews(bytes, [{ width: 10, height: 10 }]);
    assert.equal(previews[0]?.width, 10);
    await assert.rejects(pictures.reencode(bytes, { quality: 85, format: 'webp' }, output), ToolError);
  });
});
