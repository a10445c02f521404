/** The address of a podcast's episode, as curl, ffmpeg and the player of a browser use it: with jumps, and after a break. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync, rmSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { chromium } from 'playwright-core';
import { Client } from '../support/client.ts';
import { MediaFolder } from '../support/media.ts';
import { CHROMIUM_FLAGS, programPath, programSkip } from '../support/programs.ts';
import { startService, type TestService } from '../support/service.ts';
import { ask, share, shareOf } from '../support/shares.ts';

const run = promisify(execFile);
/** Seconds: long enough that no player takes all of it at once. */
const LENGTH = 400;

describe('the address of an episode', { skip: programSkip('ffmpeg') }, () => {
  let service: TestService;
  let alice: Client;
  let folder: MediaFolder;
  let episode: Buffer;
  let assetId: string;

  before(async () => {
    service = await startService({ env: { PUBLIC_REQUESTS_PER_MINUTE: '0', CORS_ORIGINS: '' } });
    alice = new Client(service.url);
    folder = new MediaFolder();
    // A tone that tells by its height where it is.
    const tone = `aevalsrc=0.3*sin(2*PI*t*(300+t)):s=22050:d=${LENGTH}`;
    const { path } = folder.make('episode.mp3', '-f', 'lavfi', '-i', tone, '-b:a', '48k');
    episode = readFileSync(path);
    const { status, body } = await alice.raw(Buffer.from(episode), { name: 'episode.mp3' });
    assert.equal(status, 201, JSON.stringify(body));
    assetId = body.id;
  });
  after(async () => {
    folder.close();
    await service.close();
  });

  const curl = async (...parameters: string[]) =>
    (await run('curl', ['-sS', '--max-time', '100', ...parameters], { maxBuffer: 64 * 1024 * 1024 })).stdout;
  const permanent = async () => {
    const { url, id } = await share(alice, { assetId, permanent: true });
    return { content: `${url}/content`, counted: async () => (await shareOf(alice, id)).downloads };
  };

  test('tells a feed what an enclosure must say', async () => {
    const { content } = await permanent();
    const head = await curl('-I', content);
    const field = (name: string) => new RegExp(`^${name}: (.*?)\\r?$`, 'im').exec(head)?.[1];
    const enclosure = { url: content, length: field('content-length'), type: field('content-type') };
    assert.deepEqual(enclosure, { url: content, length: String(episode.length), type: 'audio/mpeg' });
    assert.equal(field('accept-ranges'), 'bytes');
    const { status, headers } = await ask(content, {
      method: 'HEAD',
      headers: { 'if-none-match': field('etag') ?? '' },
    });
    assert.deepEqual([status, headers.get('etag')], [304, field('etag')]);
  });

  test('is gone on with by curl after a break, which is one download', async () => {
    const { content, counted } = await permanent();
    const file = join(folder.path, 'broken-off.mp3');
    await curl('-o', file, content);
    truncateSync(file, 100_000);
    await curl('-C', '-', '-o', file, content);
    assert.ok(readFileSync(file).equals(episode));
    rmSync(file);
    await curl('-o', file, '-z', new Date(Date.now() + 3_600_000).toUTCString(), content);
    assert.equal(await counted(), 1);
  });

  test('is played by ffmpeg from wherever somebody jumps to, which is one download', async () => {
    const { content, counted } = await permanent();
    for (const seconds of [30, 350, 120]) {
      const at = ['-nostdin', '-v', 'error', '-ss', String(seconds)];
      const sound = ['-t', '2', '-f', 's16le', '-ac', '1', '-ar', '22050', '-'];
      const options = { encoding: 'buffer' as const, maxBuffer: 16 * 1024 * 1024 };
      const { stdout } = await run('ffmpeg', [...at, '-seekable', '1', '-i', content, ...sound], options);
      // The tone rises by two hertz a second. A player that jumps in MP3 lands near the place, not on it.
      const expected = 300 + 2 * seconds;
      assert.ok(Math.abs(heightOf(stdout) - expected) < 60, `${heightOf(stdout)} Hz at ${seconds} s`);
    }
    assert.equal(await counted(), 1);
  });

  test('is played by a browser, also on a page of another origin, with jumps: one download', {
    skip: programSkip('chromium'),
  }, async () => {
    const { content, counted } = await permanent();
    const browser = await chromium.launch({ executablePath: programPath('chromium'), args: CHROMIUM_FLAGS });
    try {
      const page = await browser.newPage();
      const ranges: (string | undefined)[] = [];
      page.on('request', (request) => {
        if (request.url() === content) ranges.push(request.headers()['range']);
      });
      await page.setContent('<!doctype html><audio crossorigin="anonymous" preload="auto"></audio>');
      const played = await page.evaluate(
        async ({ address, jumps }) => {
          const audio = document.querySelector('audio');
          if (!audio) throw new Error('there is no player');
          const event = (name: string) =>
            new Promise((resolve, reject) => {
              audio.addEventListener(name, resolve, { once: true });
              audio.addEventListener('error', () => reject(new Error(audio.error?.message)), { once: true });
            });
          const isReady = event('canplay');
          audio.src = address;
          await isReady;
          const places: number[] = [];
          for (const jump of jumps) {
            const hasJumped = event('seeked');
            audio.currentTime = jump;
            await hasJumped;
            places.push(audio.currentTime);
          }
          return { duration: audio.duration, places };
        },
        { address: content, jumps: [350, 20, 200] },
      );
      assert.ok(Math.abs(played.duration - LENGTH) < 1, `${played.duration} s`);
      assert.deepEqual(played.places, [350, 20, 200]);
      assert.ok(ranges.length > 0 && ranges.every((range) => range?.startsWith('bytes=')), ranges.join());
    } finally {
      await browser.close();
    }
    assert.equal(await counted(), 1);
  });
});

/** Hertz of a tone, by how often it crosses zero upwards. @param sound 16-bit samples, 22,050 a second */
function heightOf(sound: Buffer): number {
  const samples = Math.floor(sound.length / 2);
  let crossings = 0;
  for (let index = 1; index < samples; index++)
    if (sound.readInt16LE(2 * index - 2) < 0 && sound.readInt16LE(2 * index) >= 0) crossings += 1;
  return crossings / (samples / 22_050);
}
