/** The layout alone, read by the programs of others; archives over HTTP are in tests/end-to-end/archives.test.ts. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { type LaidFile, ZipLayout } from '../../src/archives/layout.ts';
import { programPath, programSkip } from '../support/programs.ts';

const run = promisify(execFile);
const GiB = 1024 ** 3;
const time = new Date('2026-11-22T05:43:16Z');

/** What is in the archive of these contents, from the first position to the last. */
function bytesOf(layout: ZipLayout, contents: readonly Buffer[], first = 0, last = layout.length - 1): Buffer {
  const sumOf = (index: number) => crc32(contents[index] ?? '');
  return Buffer.concat(
    [...layout.pieces(first, last)].map(({ piece, from, to }) => {
      if (piece.kind === 'data') return contents[piece.index]?.subarray(piece.first, piece.last + 1) ?? Buffer.alloc(0);
      if (piece.kind === 'header') return layout.header(piece.index, sumOf(piece.index)).subarray(from, to);
      if (piece.kind === 'directory') return layout.directory(piece.from, piece.to, sumOf).subarray(from, to);
      return layout.end().subarray(from, to);
    }),
  );
}

describe('the layout of an archive', { skip: programSkip('unzip') || programSkip('python3') }, () => {
  let directory = '';
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'stowage-test-zip-'));
  });
  after(() => rm(directory, { recursive: true, force: true }));

  /** What Python's zipfile says of it; `z` is the archive. */
  async function python(path: string, expression: string): Promise<string> {
    const program = `import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); print((${expression}))`;
    return (await run(programPath('python3'), ['-c', program, path])).stdout.trim();
  }

  test('is as long as it says, and each range of it is that part of the whole', () => {
    const contents = fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 12 });
    fc.assert(
      fc.property(contents, fc.nat(), fc.nat(), (each, one, other) => {
        const files = each.map((bytes, index) => ({ name: `${index}é.bin`, size: bytes.length, modifiedAt: time }));
        const layout = new ZipLayout(files);
        const buffers = each.map((bytes) => Buffer.from(bytes));
        const whole = bytesOf(layout, buffers);
        assert.equal(whole.length, layout.length);
        const [first = 0, last = 0] = [one % layout.length, other % layout.length].sort((a, b) => a - b);
        assert.ok(bytesOf(layout, buffers, first, last).equals(whole.subarray(first, last + 1)));
      }),
    );
  });

  test('tells in which range a file begins: in one of those that make the whole, and in no other', () => {
    const sizes = [0, 1, 5000, 0, 70];
    const layout = new ZipLayout(sizes.map((size, index) => ({ name: `${index}`, size, modifiedAt: time })));
    const step = 17;
    for (const index of sizes.keys()) {
      let ranges = 0;
      for (let first = 0; first < layout.length; first += step)
        if (layout.beginsWithin(index, { first, last: Math.min(layout.length, first + step) - 1 })) ranges += 1;
      assert.equal(ranges, 1, `${index}`);
    }
  });

  test('has room for more than 65,535 files', async () => {
    const contents = Array.from({ length: 65_540 }, (_, index) => Buffer.from(index % 1000 === 0 ? `${index}` : ''));
    const files = contents.map(({ length: size }, index) => ({ name: `${index}.txt`, size, modifiedAt: time }));
    const path = join(directory, 'many.zip');
    const file = await open(path, 'w');
    await file.write(bytesOf(new ZipLayout(files), contents));
    await file.close();
    assert.equal(await python(path, "len(z.namelist()), z.read('65000.txt')"), "(65540, b'65000')");
    await run(programPath('unzip'), ['-tqq', path]);
  });

  /** Writes the archive, but not the bytes of its large files: they are holes. @returns its path */
  async function withHoles(name: string, files: LaidFile[], sums: number[]): Promise<string> {
    const layout = new ZipLayout(files);
    const sumOf = (index: number) => sums[index] ?? 0;
    const path = join(directory, name);
    const file = await open(path, 'w');
    let at = 0;
    for (const { piece, to } of layout.pieces(0, layout.length - 1)) {
      if (piece.kind === 'header') await file.write(layout.header(piece.index, sumOf(piece.index)), 0, null, at);
      if (piece.kind === 'directory') await file.write(layout.directory(piece.from, piece.to, sumOf), 0, null, at);
      if (piece.kind === 'end') await file.write(layout.end(), 0, null, at);
      if (piece.kind === 'data' && files[piece.index] === behind) await file.write('behind', at);
      at += to;
    }
    assert.equal(at, layout.length);
    await file.close();
    return path;
  }
  const behind: LaidFile = { name: 'behind.txt', size: 6, modifiedAt: time };
  const large = (name: string, size: number): LaidFile => ({ name, size, modifiedAt: time });

  test('has room for a file of more than 4 GiB, and for one behind it', async () => {
    const sums = [1, crc32('behind')];
    const path = await withHoles('large.zip', [large('large.bin', 5 * GiB), behind], sums);
    assert.equal(
      await python(
        path,
        "[(i.file_size, i.CRC, i.header_offset > 2**32) for i in z.infolist()], z.read('behind.txt'), z.open('large.bin').read(3)",
      ),
      `([(${5 * GiB}, 1, False), (6, ${sums[1]}, True)], b'behind', b'\\x00\\x00\\x00')`,
    );
    assert.equal((await run(programPath('unzip'), ['-p', path, 'behind.txt'])).stdout, 'behind');
    const { stdout } = await run(programPath('unzip'), ['-l', path], { env: { ...process.env, TZ: 'UTC' } });
    assert.match(stdout, /5368709120 {2}2026-11-22 05:43 {3}large\.bin/);
  });

  test('has room for sizes and offsets about 4 GiB, each side of where its fields end', async () => {
    // Info-ZIP's unzip 6.0 misreads what follows a file of 4 GiB less one byte; Python and libarchive do not.
    for (const size of [4 * GiB - 2, 4 * GiB - 1, 4 * GiB]) {
      const path = await withHoles(`${size}.zip`, [large('edge.bin', size), behind], [1, crc32('behind')]);
      assert.equal(await python(path, "z.read('behind.txt'), z.infolist()[0].file_size"), `(b'behind', ${size})`);
    }
  });

  test('keeps times that its fields cannot hold out of them', async () => {
    const years = [1969, 1979, 1980, 2040, 2107, 2200];
    const files = years.map((year) => ({
      name: `${year}`,
      size: 0,
      modifiedAt: new Date(Date.UTC(year, 5, 7, 8, 9, 10)),
    }));
    const path = join(directory, 'times.zip');
    const file = await open(path, 'w');
    await file.write(bytesOf(new ZipLayout(files), []));
    await file.close();
    assert.equal(
      await python(path, '[i.date_time[0] for i in z.infolist()], z.testzip()'),
      '([1980, 1980, 1980, 2040, 2107, 2107], None)',
    );
  });
});
