/** Facts of films and sound, and posters, by the real tools. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import sharp from 'sharp';
import type { MediaFacts } from '../../src/processing/media/facts.ts';
import type { MediaFile } from '../../src/processing/media/input.ts';
import { poster } from '../../src/processing/media/poster.ts';
import { probe } from '../../src/processing/media/probe.ts';
import { ChildPool } from '../../src/processing/tools/child-pool.ts';
import { openSandbox, type Sandbox } from '../../src/processing/tools/sandbox.ts';
import { H264, lavfi, MediaFolder } from '../support/media.ts';
import { programSkip } from '../support/programs.ts';

const skip = programSkip('ffmpeg');
const folder = new MediaFolder();
let sandbox: Sandbox;
let pool: ChildPool;

before(async () => {
  sandbox = await openSandbox();
  pool = new ChildPool({
    ...{ size: 1, memory: 640 * 2 ** 20, cpuSeconds: 120, recycleAfter: 100 },
    scratch: folder.path,
  });
});
after(async () => {
  await pool.close();
  folder.close();
});

const film = { codec: 'h264', width: 64, height: 48, rotation: 0, framesPerSecond: 10, bitRate: 21_000 };
const aac = { codec: 'aac', channels: 1, sampleRate: 44_100 };
const pcm = { codec: 'pcm_s16le', channels: 1, sampleRate: 8000 };
/** Of the fixtures; times in seconds. Bit rates of sound differ by what counts as sound, so they are not compared. */
const known: Record<string, MediaFacts> = {
  'moov-first.mp4': { duration: 0.6, bitRate: 77_200, container: 'mp4', video: film, audio: aac },
  'moov-last.mp4': { duration: 0.6, bitRate: 77_200, container: 'mp4', video: film, audio: aac },
  'fragmented.mp4': { duration: 0.8, bitRate: 59_300, container: 'mp4', video: film, audio: aac },
  'clip.mov': { duration: 0.6, bitRate: 77_880, container: 'mov', video: film, audio: aac },
  'clip.webm': {
    ...{ duration: 0.608, container: 'webm' },
    video: { codec: 'vp8', width: 64, height: 48, rotation: 0, framesPerSecond: 10 },
    audio: { codec: 'opus', channels: 1, sampleRate: 48_000 },
  },
  'sound.mp3': { duration: 0.627, container: 'mp3', audio: { codec: 'mp3', channels: 1, sampleRate: 44_100 } },
  'sound.wav': { duration: 0.6, container: 'wav', audio: pcm },
  'extensible.wav': { duration: 0.6, container: 'wav', audio: { ...pcm, codec: 'pcm_s24le' } },
  'sound.aiff': { duration: 0.6, container: 'aiff', audio: { ...pcm, codec: 'pcm_s16be' } },
  'sound.aifc': { duration: 0.6, container: 'aiff', audio: pcm },
  'sound.flac': { duration: 0.6, container: 'flac', audio: { ...pcm, codec: 'flac' } },
  'vorbis.ogg': { duration: 0.6, container: 'ogg', audio: { codec: 'vorbis', channels: 1, sampleRate: 44_100 } },
  'sound.m4a': { duration: 0.6, container: 'mp4', audio: aac },
  'sound-webm.weba': {
    ...{ duration: 0.608, container: 'webm' },
    audio: { codec: 'opus', channels: 1, sampleRate: 48_000 },
  },
};

function withoutBitRates({ bitRate: _, ...rest }: MediaFacts): MediaFacts {
  return rest;
}

describe('facts', () => {
  for (const [name, facts] of Object.entries(known)) {
    const compared = (found: MediaFacts) => (facts.bitRate === undefined ? withoutBitRates(found) : found);
    test(`of ${name} are told by ffprobe`, { skip }, async () => {
      assert.deepEqual(compared(await probe(sandbox, folder.fixture(name))), facts);
    });

    test(`of ${name} are the same without ffprobe`, async () => {
      const input = folder.fixture(name);
      const found = await pool.run<MediaFacts>({ module: 'sound', input, file: input.path }, { seconds: 30 });
      assert.deepEqual(compared(found), facts);
    });
  }

  test('tell the duration of what a browser has recorded, whose header has none', { skip }, async () => {
    const { duration, bitRate } = await probe(sandbox, folder.fixture('live.webm'));
    assert.ok(duration !== undefined && Math.abs(duration - 0.6) < 0.02, `${duration}`);
    assert.ok(bitRate !== undefined && Math.abs(bitRate - 67_000) < 2000, `${bitRate}`);
  });

  test('take the picture of an album for no film', { skip }, async () => {
    const picture = [...lavfi('testsrc=s=64x64:d=0.1:r=10'), ...lavfi('sine=d=0.5')];
    const cover = ['-map', '1', '-map', '0', '-c:v', 'mjpeg', '-disposition:v', 'attached_pic', '-frames:v', '1'];
    const file = folder.make('album.mp3', ...picture, ...cover);
    const facts = await probe(sandbox, file);
    assert.equal(facts.video, undefined);
    assert.equal(facts.audio?.codec, 'mp3');
    const kept = await pool.run<MediaFacts>({ module: 'sound', input: file, file: file.path }, { seconds: 30 });
    assert.equal(kept.video, undefined);
  });

  test('tell width and height as they are shown', { skip }, async () => {
    folder.make('lying.mp4', ...lavfi('testsrc2=s=320x180:r=10:d=0.5'), ...H264);
    const file = folder.make(
      'standing.mp4',
      ...['-i', join(folder.path, 'lying.mp4'), '-c', 'copy', '-metadata:s:v', 'rotate=90'],
    );
    const { video } = await probe(sandbox, file);
    assert.deepEqual([video?.width, video?.height], [180, 320]);
    const { video: kept } = await pool.run<MediaFacts>(
      { module: 'sound', input: file, file: file.path },
      { seconds: 30 },
    );
    assert.deepEqual(kept, video);
  });
});

/** Mean of the samples of a picture, 0 to 255. */
async function brightness(jpeg: Buffer): Promise<number> {
  const { channels } = await sharp(jpeg).stats();
  return channels.reduce((sum, { mean }) => sum + mean, 0) / channels.length;
}

async function posterOf(file: MediaFile) {
  return poster(sandbox, file, await probe(sandbox, file));
}

describe('the poster', { skip }, () => {
  const blackFor = (seconds: number) =>
    lavfi(`testsrc2=s=320x180:r=10:d=${seconds + 2},drawbox=c=black:t=fill:enable='lt(t,${seconds})'`);

  test('is the frame at one second', async () => {
    const halves = lavfi("color=red:s=320x180:r=10:d=3,geq=r='if(gt(T,0.95),255*X/W,0)':g='X*Y/255':b=0");
    const { bytes, width, height } = await posterOf(folder.make('second.mp4', ...halves, ...H264, '-g', '300'));
    assert.deepEqual([width, height], [320, 180]);
    const [red] = (await sharp(bytes).stats()).channels;
    assert.ok(red && red.mean > 80, `${red?.mean}`);
  });

  test('is not black where the film opens with black, whether a key frame follows or not', async () => {
    for (const options of [
      ['-g', '5'],
      ['-g', '300', '-sc_threshold', '0'],
    ]) {
      const { bytes } = await posterOf(folder.make('opening.mp4', ...blackFor(3), ...H264, ...options));
      assert.ok((await brightness(bytes)) > 80);
    }
  });

  test('is not all white where the film fades in from white', async () => {
    const film = lavfi('testsrc2=s=320x180:r=10:d=4,fade=t=in:st=1.5:d=1:color=white');
    const { channels } = await sharp(
      (await posterOf(folder.make('white.mp4', ...film, ...H264, '-g', '5'))).bytes,
    ).stats();
    assert.ok(channels.every(({ stdev }) => stdev > 20));
  });

  test('is what there is of a film that is black, or shorter than a second', async () => {
    const black = folder.make('black.mp4', ...lavfi('color=black:s=320x180:r=10:d=2'), ...H264);
    assert.ok((await brightness((await posterOf(black)).bytes)) < 10);
    const short = folder.make('short.mp4', ...lavfi('testsrc2=s=320x180:r=25:d=0.2'), ...H264);
    assert.ok((await brightness((await posterOf(short)).bytes)) > 80);
  });

  test('stands upright, has square pixels and is no larger than 1280', async () => {
    folder.make('large.mp4', ...lavfi('testsrc2=s=1920x1080:r=5:d=0.4'), ...H264);
    const turned = ['-i', join(folder.path, 'large.mp4'), '-c', 'copy', '-metadata:s:v', 'rotate=90'];
    const upright = await posterOf(folder.make('upright.mp4', ...turned));
    assert.deepEqual([upright.width, upright.height], [720, 1280]);
    const { width, height, format } = await sharp(upright.bytes).metadata();
    assert.deepEqual([width, height, format], [720, 1280, 'jpeg']);
    const oblong = folder.make('oblong.mp4', ...lavfi('testsrc2=s=320x240:r=5:d=0.4,setsar=4/3'), ...H264);
    const wide = await posterOf(oblong);
    assert.deepEqual([wide.width, wide.height], [426, 240]);
  });

  test('tells nothing of what the film tells', async () => {
    const place = ['-metadata', 'location=+48.1371+011.5754/', '-metadata', 'title=secret'];
    const file = folder.make('place.mp4', ...lavfi('testsrc2=s=320x180:r=10:d=1.5'), ...H264, ...place);
    const { bytes } = await posterOf(file);
    assert.doesNotMatch(bytes.toString('latin1'), /48\.1371|secret|Lavc/);
  });
});
