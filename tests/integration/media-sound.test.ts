/** Waveforms, their drawings, and transcodes, by the real tools. */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { nameOf, type Target, TRANSCODE_FORMATS, targetFrom } from '../../src/processing/media/formats.ts';
import type { MediaFile } from '../../src/processing/media/input.ts';
import { probe } from '../../src/processing/media/probe.ts';
import { transcode } from '../../src/processing/media/transcode.ts';
import { MAX_POINTS, Peaks, type Waveform, waveform } from '../../src/processing/media/waveform.ts';
import { waveformPicture } from '../../src/processing/media/waveform-picture.ts';
import { openSandbox, type Sandbox, ToolError } from '../../src/processing/tools/sandbox.ts';
import { H264, lavfi, MediaFolder } from '../support/media.ts';
import { programSkip } from '../support/programs.ts';

const skip = programSkip('ffmpeg');
const folder = new MediaFolder();
let sandbox: Sandbox;

before(async () => {
  sandbox = await openSandbox();
});
after(() => folder.close());

async function waveformOf(file: MediaFile): Promise<Waveform> {
  return waveform(sandbox, file, await probe(sandbox, file));
}

/** Lowest and highest of a waveform between two times. */
function between({ data, sample_rate, samples_per_pixel }: Waveform, from: number, to: number): [number, number] {
  const pointAt = (seconds: number) => Math.round((seconds * sample_rate) / samples_per_pixel);
  const part = data.slice(2 * pointAt(from), 2 * pointAt(to));
  return [Math.min(...part), Math.max(...part)];
}

describe('the waveform', () => {
  test('has the shape of the sound, in the format of audiowaveform', { skip }, async () => {
    // A second each: silence, loud, silence, half as loud.
    const graph = "aevalsrc='(eq(floor(t),1)*0.8+eq(floor(t),3)*0.4)*sin(2*PI*441*t)':s=44100:d=4";
    for (const [name, codec] of [
      ['pattern.wav', 'pcm_s16le'],
      ['pattern.mp3', 'libmp3lame'],
      ['pattern.opus', 'libopus'],
    ] as const) {
      const found = await waveformOf(folder.make(name, ...lavfi(graph), '-c:a', codec));
      const { data, ...head } = found;
      const rate = name === 'pattern.opus' ? 48_000 : 44_100;
      assert.deepEqual(Object.keys(found), [
        ...['version', 'channels', 'sample_rate', 'samples_per_pixel', 'bits', 'length', 'data'],
      ]);
      assert.deepEqual([head.version, head.channels, head.bits, head.sample_rate], [2, 1, 8, rate]);
      assert.equal(data.length, 2 * head.length);
      assert.ok(data.every((sample) => Number.isInteger(sample) && sample >= -128 && sample <= 127));
      assert.ok(head.length <= MAX_POINTS && head.length > MAX_POINTS / 2 - 2, `${head.length}`);
      const seconds = (head.length * head.samples_per_pixel) / rate;
      assert.ok(Math.abs(seconds - 4) < 0.1, `${seconds}`);
      const near = ([lowest, highest]: [number, number], peak: number) =>
        assert.ok(Math.abs(highest - peak) <= 8 && Math.abs(lowest + peak) <= 8, `${name}: ${lowest} to ${highest}`);
      near(between(found, 0.1, 0.9), 0);
      near(between(found, 1.1, 1.9), 0.8 * 128);
      near(between(found, 2.1, 2.9), 0);
      near(between(found, 3.1, 3.9), 0.4 * 128);
    }
  });

  test('of a film is that of its sound; of a film without sound there is none', { skip }, async () => {
    assert.ok((await waveformOf(folder.fixture('clip.mov'))).length > 100);
    const silent = folder.make('silent.mp4', ...lavfi('testsrc=s=64x48:d=0.5:r=10'), ...H264);
    await assert.rejects(waveformOf(silent), new ToolError('refused', 'There is no sound in the file'));
  });

  test('is that of the samples, however they arrive', () => {
    fc.assert(
      fc.property(
        fc.array(fc.int8Array({ maxLength: 40 }), { maxLength: 30 }),
        fc.integer({ min: 1, max: 20 }),
        fc.integer({ min: 1, max: 5 }),
        (chunks, maxPoints, first) => {
          const peaks = new Peaks(maxPoints, first);
          for (const chunk of chunks) peaks.add(chunk);
          const { data, samplesPerPoint, samples } = peaks.end();
          const all = chunks.flatMap((chunk) => [...chunk]);
          const expected: number[] = [];
          for (let at = 0; at < all.length; at += samplesPerPoint) {
            const part = all.slice(at, at + samplesPerPoint);
            expected.push(Math.min(...part), Math.max(...part));
          }
          assert.deepEqual(data, expected);
          assert.equal(samples, all.length);
          assert.ok(data.length <= 2 * maxPoints);
        },
      ),
    );
  });
});

describe('the drawing of a waveform', () => {
  const drawn = (data: number[]) =>
    waveformPicture({
      ...{ version: 2, channels: 1, sample_rate: 8000, samples_per_pixel: 16, bits: 8 },
      ...{ length: data.length / 2, data },
    });
  /** Points of its one path, which is all that it has. */
  const pointsOf = (svg: string) => {
    const [, path = ''] =
      /^<svg xmlns="http:\/\/www.w3.org\/2000\/svg" width="800" height="120" viewBox="0 0 800 120" preserveAspectRatio="none" color="#[0-9a-f]{6}"><path fill="currentColor" d="M([\d. L]+)Z"\/><\/svg>\n$/.exec(
        svg,
      ) ?? [];
    return path.split('L').map((point) => point.split(' ').map(Number));
  };

  test('is one path of 800 x 120, as high as the sound is loud, and of a bounded size', () => {
    const loudThenQuiet = Array.from({ length: 1000 }, (_, point) => (point < 500 ? [-100, 100] : [-50, 25])).flat();
    const points = pointsOf(drawn(loudThenQuiet));
    const range = (from: number, to: number) => {
      const heights = points.filter(([x = 0]) => x >= from && x <= to).map(([, y = 0]) => y);
      return [Math.min(...heights), Math.max(...heights)];
    };
    assert.deepEqual(range(0, 390), [0.5, 119.5]);
    assert.deepEqual(range(410, 800), [44.8, 90]);
  });

  test('is well-formed whatever the sound is', () => {
    const sample = fc.integer({ min: -128, max: 127 });
    fc.assert(
      fc.property(fc.array(fc.tuple(sample, sample), { minLength: 1, maxLength: MAX_POINTS }), (pairs) => {
        const svg = drawn(pairs.flatMap(([a, b]) => [Math.min(a, b), Math.max(a, b)]));
        const points = pointsOf(svg);
        assert.ok(points.length === 1602 && svg.length < 20 * 1024, `${points.length} points, ${svg.length} bytes`);
        assert.ok(points.every(([x = -1, y = -1]) => x >= 0 && x <= 800 && y >= 0 && y <= 120));
      }),
      { numRuns: 30 },
    );
  });

  test('of silence is a line, and noise is not drawn as sound', () => {
    const heights = (data: number[]) => pointsOf(drawn(data)).map(([, y = 0]) => Math.abs(y - 60));
    assert.equal(Math.max(...heights(Array<number>(400).fill(0))), 0.5);
    assert.ok(Math.max(...heights(Array.from({ length: 200 }, () => [-1, 1]).flat())) < 6);
  });
});

function target(asked: Target): Target {
  const result = targetFrom(asked);
  assert.ok('target' in result);
  return result.target;
}

let made = 0;
async function transcoded(file: MediaFile, asked: Target, onProgress?: (done: number) => void) {
  const directory = join(folder.path, `out-${++made}`);
  mkdirSync(directory);
  const options = { directory, maxDuration: 60, maxBytes: 2 ** 26, ...(onProgress && { onProgress }) };
  return transcode(sandbox, file, target(asked), await probe(sandbox, file), options);
}

describe('a transcode', { skip }, () => {
  const place = ['-metadata', 'location=+48.1371+011.5754/', '-metadata', 'title=secret', '-metadata', 'artist=secret'];
  let film: MediaFile;

  before(() => {
    const input = [...lavfi('testsrc2=s=638x360:r=25:d=2'), ...lavfi('sine=f=440:d=2,aformat=channel_layouts=5.1')];
    film = folder.make('film.mp4', ...input, ...H264, '-c:a', 'aac', ...place, '-movflags', 'use_metadata_tags');
  });

  const results: Record<string, [codec: string, channels: number, container: string]> = {
    'mp3-128k': ['mp3', 2, 'mp3'],
    'aac-128k': ['aac', 2, 'mp4'],
    'opus-96k': ['opus', 2, 'webm'],
    flac: ['flac', 6, 'flac'],
    wav: ['pcm_s16le', 6, 'wav'],
    'mp4-720p': ['aac', 2, 'mp4'],
  };
  for (const format of TRANSCODE_FORMATS)
    test(`into ${format} has the codec and the length, and nothing that the original told`, async () => {
      const told: number[] = [];
      const { path, size, facts } = await transcoded(film, { format }, (done) => told.push(done));
      const [codec, channels, container] = results[nameOf(target({ format }))] ?? [];
      assert.deepEqual([facts.audio?.codec, facts.audio?.channels, facts.container], [codec, channels, container]);
      assert.ok(Math.abs((facts.duration ?? 0) - 2) < 0.1, `${facts.duration}`);
      assert.equal(facts.video?.codec, format === 'mp4' ? 'h264' : undefined);
      const bytes = readFileSync(path);
      assert.equal(bytes.length, size);
      assert.doesNotMatch(bytes.toString('latin1'), /48\.1371|secret/);
      assert.ok(told.length > 0 && told.every((done, index) => done >= (told[index - 1] ?? 0) && done <= 1));
    });

  test('has the bit rate that was asked for', async () => {
    const noise = folder.make('noise.wav', ...lavfi('anoisesrc=d=5:r=44100'), '-ac', '2');
    for (const bitrate of [64, 192]) {
      const { facts } = await transcoded(noise, { format: 'mp3', bitrate });
      assert.ok(Math.abs((facts.bitRate ?? 0) / 1000 - bitrate) < bitrate / 10, `${facts.bitRate}`);
    }
  });

  test('of a film is as high as asked for, of even sizes, with the index first, and is never enlarged', async () => {
    for (const [height, size] of [
      [144, [256, 144]],
      [2160, [638, 360]],
    ] as const) {
      const { path, facts } = await transcoded(film, { format: 'mp4', height });
      assert.deepEqual([facts.video?.width, facts.video?.height], size);
      const text = readFileSync(path).toString('latin1');
      assert.ok(text.indexOf('moov') < text.indexOf('mdat'));
    }
    const odd = folder.make('odd.webm', ...lavfi('testsrc2=s=321x241:r=5:d=1'), '-c:v', 'libvpx-vp9', '-cpu-used', '8');
    const { facts } = await transcoded(odd, { format: 'mp4' });
    assert.deepEqual([facts.video?.width, facts.video?.height], [320, 240]);
  });

  test('of a film that lies turned stands upright', async () => {
    const turned = ['-i', film.path, '-c', 'copy', '-metadata:s:v', 'rotate=90'];
    const { facts } = await transcoded(folder.make('turned.mp4', ...turned), { format: 'mp4', height: 240 });
    assert.deepEqual([facts.video?.width, facts.video?.height, facts.video?.rotation], [136, 240, 0]);
  });

  test('of what is not there, lasts too long or becomes too large is refused, whatever the facts say', async () => {
    const facts = await probe(sandbox, film);
    const directory = join(folder.path, 'refused');
    mkdirSync(directory);
    const options = { directory, maxDuration: 60, maxBytes: 2 ** 26 };
    const wav = target({ format: 'wav' });
    await assert.rejects(transcode(sandbox, film, wav, { ...facts, duration: 0.1 }, { ...options, maxDuration: 1 }), {
      fault: 'refused',
      message: 'It lasts longer than 1 seconds',
    });
    mkdirSync(join(directory, 'small'));
    await assert.rejects(
      transcode(sandbox, film, wav, facts, { ...options, directory: join(directory, 'small'), maxBytes: 10_000 }),
      { fault: 'output-too-large' },
    );
    const sound = folder.fixture('sound.mp3');
    await assert.rejects(transcoded(sound, { format: 'mp4' }), { message: 'There is no film in the file' });
  });
});

describe('what is asked for of a transcode', () => {
  test('is made complete, and refused where the format does not have it', () => {
    assert.deepEqual(targetFrom({ format: 'mp3' }), { target: { format: 'mp3', bitrate: 128 } });
    assert.deepEqual(targetFrom({ format: 'mp4', height: 480 }), { target: { format: 'mp4', height: 480 } });
    assert.deepEqual(targetFrom({ format: 'flac' }), { target: { format: 'flac' } });
    for (const [asked, field] of [
      [{ format: 'mp3', bitrate: 129 }, 'bitrate'],
      [{ format: 'flac', bitrate: 128 }, 'bitrate'],
      [{ format: 'mp3', height: 720 }, 'height'],
      [{ format: 'mp4', height: 721 }, 'height'],
      [{ format: 'mp4', bitrate: 128 }, 'bitrate'],
    ] as const) {
      const result = targetFrom(asked);
      assert.equal('fault' in result && result.fault.field, field);
    }
  });
});
