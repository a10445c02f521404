/** What is made of films and sound, through the whole service. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import sharp from 'sharp';
import { thumbHashToRGBA } from 'thumbhash';
import { type AnyBody, Client } from '../support/client.ts';
import { fixture } from '../support/corpus.ts';
import { H264, lavfi, MediaFolder } from '../support/media.ts';
import { programSkip } from '../support/programs.ts';
import { startService, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

const folder = new MediaFolder();
let service: TestService;
let alice: Client;

before(async () => {
  service = await startService({ env: { DERIVATIVES: 'true' } });
  alice = new Client(service.url);
});
after(async () => {
  await service.close();
  folder.close();
});

/** Uploads a file. @returns its record when all steps have ended */
async function processed(name: string, bytes: Buffer): Promise<AnyBody> {
  const { status, body } = await alice.upload(Buffer.from(bytes), { name });
  assert.equal(status, 201, JSON.stringify(body));
  let asset = body;
  await waitUntil(async () => {
    asset = (await alice.get(`/v1/assets/${body.id}`)).body;
    return asset.processing?.derive && asset.processing.derive.state !== 'waiting';
  });
  return asset;
}

async function bytesOf(id: string, derivative: string): Promise<{ type: string | null; bytes: Buffer }> {
  const answer = await fetch(`${service.url}/v1/assets/${id}/derivatives/${derivative}`, { headers: alice.headers });
  assert.equal(answer.status, 200);
  return { type: answer.headers.get('content-type'), bytes: Buffer.from(await answer.arrayBuffer()) };
}

describe('of a film', { skip: programSkip('ffmpeg') }, () => {
  test('there are facts, a poster that is not black, a thumbnail of it, and a placeholder', async () => {
    const opening = "testsrc2=s=1600x900:r=10:d=4,drawbox=c=black:t=fill:enable='lt(t,2)'";
    const { path: _, ...file } = folder.make('film.mp4', ...lavfi(opening), ...lavfi('sine=d=4'), ...H264, '-g', '10');
    const asset = await processed('film.mp4', folder.read('film.mp4'));
    assert.equal(asset.size, file.size);
    const { bitRate, ...facts } = asset.facts ?? {};
    assert.ok(bitRate !== undefined && Math.abs(bitRate - (file.size * 8) / 4) < 2000);
    assert.deepEqual(facts, {
      ...{ duration: 4, width: 1600, height: 900, videoCodec: 'h264', framesPerSecond: 10 },
      ...{ audioCodec: 'aac', channels: 1, sampleRate: 44_100 },
    });
    const poster = await bytesOf(asset.id, 'poster');
    assert.equal(poster.type, 'image/jpeg');
    const picture = sharp(poster.bytes);
    const { width, height } = await picture.metadata();
    assert.deepEqual([width, height], [1280, 720]);
    assert.ok((await picture.stats()).channels.reduce((sum, { mean }) => sum + mean / 3, 0) > 80);
    const thumbnail = await bytesOf(asset.id, 'thumbnail');
    assert.equal(thumbnail.type, 'image/webp');
    const small = await sharp(thumbnail.bytes).metadata();
    assert.deepEqual([small.width, small.height], [400, 225]);
    const placeholder = thumbHashToRGBA(Buffer.from(asset.thumbHash ?? '', 'base64'));
    assert.ok(placeholder.w > placeholder.h);
  });

  test('whose frames are no frames, there is the reason, and the film is served all the same', async () => {
    const bytes = fixture('moov-first.mp4');
    const asset = await processed('noise.mp4', bytes.fill(0, bytes.indexOf('mdat') + 4));
    assert.deepEqual(asset.processing?.facts?.state, 'done');
    const { data } = (await alice.get(`/v1/assets/${asset.id}/derivatives`)).body;
    const told = data.map((each) => [Reflect.get(each, 'name'), each.state, Reflect.get(each, 'reason')]);
    assert.deepEqual(told, [
      ['poster', 'failed', 'refused'],
      ['thumbnail', 'failed', 'refused'],
    ]);
    const answer = await alice.get(`/v1/assets/${asset.id}/derivatives/poster`);
    assert.deepEqual([answer.status, answer.body.type], [404, 'urn:stowage:problem:derivative-unavailable']);
    assert.match(answer.body.detail ?? '', /refused/);
    assert.deepEqual((await alice.content(asset.id)).body, bytes);
  });
});

describe('of sound', { skip: programSkip('ffmpeg') }, () => {
  test('there are facts, a waveform and its drawing', async () => {
    const asset = await processed('sound.mp3', fixture('sound.mp3'));
    assert.deepEqual(asset.facts, {
      ...{ duration: 0.627, bitRate: 34_899, audioCodec: 'mp3', channels: 1, sampleRate: 44_100 },
    });
    assert.equal(asset.thumbHash, undefined);
    const waveform = await bytesOf(asset.id, 'waveform');
    assert.match(waveform.type ?? '', /^application\/json/);
    const { version, length, data } = JSON.parse(waveform.bytes.toString());
    assert.deepEqual([version, data.length], [2, 2 * length]);
    const drawing = await bytesOf(asset.id, 'waveform-picture');
    assert.match(drawing.type ?? '', /^image\/svg\+xml/);
    assert.match(drawing.bytes.toString(), /^<svg [^>]+><path [^>]+\/><\/svg>\n$/);
  });
});
