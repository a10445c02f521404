/** Sound and films on a machine that has no ffmpeg: facts there are, and for the rest a reason. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type AnyBody, Client } from '../support/client.ts';
import { fixture } from '../support/corpus.ts';
import { startService, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

const path = process.env['PATH'];
const folder = mkdtempSync(join(tmpdir(), 'stowage-path-'));
let service: TestService;
let alice: Client;

before(async () => {
  // What confines programs is there, the programs are not.
  for (const name of ['bwrap', 'prlimit', 'setpriv'])
    if (existsSync(`/usr/bin/${name}`)) symlinkSync(`/usr/bin/${name}`, join(folder, name));
  service = await startService({ env: { DERIVATIVES: 'true' } });
  alice = new Client(service.url);
  process.env['PATH'] = folder;
});
after(async () => {
  process.env['PATH'] = path;
  await service.close();
  rmSync(folder, { recursive: true });
});

async function processed(name: string): Promise<AnyBody> {
  const { status, body } = await alice.upload(fixture(name), { name });
  assert.equal(status, 201, JSON.stringify(body));
  let asset = body;
  await waitUntil(async () => {
    asset = (await alice.get(`/v1/assets/${body.id}`)).body;
    return asset.processing?.derive && asset.processing.derive.state !== 'waiting';
  });
  return asset;
}

describe('without ffmpeg', () => {
  test('films have facts, and their derivatives the reason', async () => {
    const { id, facts } = await processed('clip.mov');
    assert.deepEqual(facts, {
      ...{ duration: 0.6, bitRate: 77_880, width: 64, height: 48, videoCodec: 'h264', framesPerSecond: 10 },
      ...{ audioCodec: 'aac', channels: 1, sampleRate: 44_100 },
    });
    const { status, body } = await alice.get(`/v1/assets/${id}/derivatives/poster`);
    assert.equal(status, 404);
    assert.match(body.detail ?? '', /not-installed/);
  });

  test('sound has facts, and its waveform the reason', async () => {
    const { id, facts } = await processed('vorbis.ogg');
    assert.deepEqual(facts, { duration: 0.6, audioCodec: 'vorbis', channels: 1, sampleRate: 44_100 });
    const { data } = (await alice.get(`/v1/assets/${id}/derivatives`)).body;
    assert.deepEqual(
      data.map((each) => Reflect.get(each, 'reason')),
      ['not-installed', 'not-installed'],
    );
  });

  test('a derivative is made when the program is there, at the next ask after a while', {
    skip: !existsSync('/usr/bin/ffmpeg') && 'there is no ffmpeg',
  }, async () => {
    const { id } = await processed('sound.flac');
    const ask = () => alice.get(`/v1/assets/${id}/derivatives/waveform`);
    symlinkSync('/usr/bin/ffmpeg', join(folder, 'ffmpeg'));
    try {
      assert.equal((await ask()).status, 404, 'it was tried a moment ago');
      await service.database.pool.query(
        `update derivatives set updated_at = now() - interval '11 minutes' where asset_id = $1`,
        [id],
      );
      assert.equal((await ask()).status, 409);
      await waitUntil(async () => (await ask()).status === 200);
    } finally {
      rmSync(join(folder, 'ffmpeg'));
    }
  });

  test('a transcode is refused, and the answer names what is missing', async () => {
    const { id } = await processed('sound.mp3');
    const { status, body } = await alice.send('POST', `/v1/assets/${id}/transcodes`, { format: 'aac' });
    assert.deepEqual([status, body.type], [501, 'urn:stowage:problem:not-implemented']);
    assert.match(body.detail ?? '', /ffmpeg/);
    assert.deepEqual((await alice.get(`/v1/assets/${id}/transcodes`)).body, { data: [] });
  });
});
