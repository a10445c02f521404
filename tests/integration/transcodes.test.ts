/** Transcodes through the whole service: asked for, followed, served, limited, taken back, and made again when a worker died. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Client } from '../support/client.ts';
import { fixture } from '../support/corpus.ts';
import { png } from '../support/files.ts';
import { H264, lavfi, MediaFolder } from '../support/media.ts';
import { programSkip } from '../support/programs.ts';
import { startService, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

const folder = new MediaFolder();
let service: TestService;
let alice: Client;

before(async () => {
  service = await startService({
    env: { TRANSCODES_PER_OWNER: '3' },
    policies: {
      speech: { mediaTypes: ['audio/mpeg'], maxBytes: 2 ** 24, transcodes: { formats: ['opus'], maxCount: 1 } },
      plain: { mediaTypes: ['audio/mpeg'], maxBytes: 2 ** 24, transcodes: { maxCount: 0 } },
      short: { mediaTypes: ['audio/mpeg'], maxBytes: 2 ** 24, transcodes: { maxDuration: 1 } },
    },
  });
  alice = new Client(service.url);
});
after(async () => {
  await service.close();
  folder.close();
});

async function uploaded(bytes: Buffer, name: string, assetType?: string, client = alice): Promise<string> {
  const fields = assetType === undefined ? {} : { fields: { assetType } };
  const { status, body } = await client.upload(Buffer.from(bytes), { name, ...fields });
  assert.equal(status, 201, JSON.stringify(body));
  return body.id;
}

const ask = (id: string, body: object, headers = {}, client = alice) =>
  client.send('POST', `/v1/assets/${id}/transcodes`, body, headers);

interface Seen {
  state: 'waiting' | 'running' | 'ready' | 'failed';
  progress: number;
  reason?: string;
  mediaType?: string;
  size?: number;
}

async function look(id: string, name: string): Promise<Seen> {
  const { status, body } = await alice.get(`/v1/assets/${id}/transcodes/${name}`);
  assert.equal(status, 200, JSON.stringify(body));
  return body as object as Seen;
}

async function ended(id: string, name: string): Promise<Seen> {
  await waitUntil(async () => ['ready', 'failed'].includes((await look(id, name)).state));
  return look(id, name);
}

/** Keys of all objects of an asset. */
async function objectsOf(id: string): Promise<string[]> {
  const keys: string[] = [];
  for await (const page of service.store.list('', { signal: AbortSignal.timeout(60_000) }))
    keys.push(...page.map(({ key }) => key).filter((key) => key.includes(id)));
  return keys;
}

describe('a transcode', { skip: programSkip('ffmpeg') }, () => {
  test('is asked for, made by a job, and served as a derivative', async () => {
    const id = await uploaded(fixture('sound.mp3'), 'sound.mp3');
    const { status, headers, body } = await ask(id, { format: 'aac', bitrate: 64 });
    assert.equal(status, 202, JSON.stringify(body));
    assert.equal(headers.get('location'), `/v1/assets/${id}/transcodes/aac-64k`);
    assert.deepEqual([body.id, body.state, body['progress']], ['aac-64k', 'waiting', 0]);
    const made = await ended(id, 'aac-64k');
    assert.deepEqual([made.state, made.progress, made.mediaType], ['ready', 100, 'audio/mp4']);
    const answer = await fetch(`${service.url}/v1/assets/${id}/derivatives/aac-64k`, { headers: alice.headers });
    assert.equal(answer.headers.get('content-type'), 'audio/mp4');
    assert.match(answer.headers.get('content-disposition') ?? '', /sound\.aac-64k\.m4a/);
    assert.equal((await answer.arrayBuffer()).byteLength, made.size);
    const { data } = (await alice.get(`/v1/assets/${id}/transcodes`)).body;
    assert.deepEqual(
      data.map((each) => each.id),
      ['aac-64k'],
    );
  });

  test('of a film has its size, and the quota does not count it', async () => {
    folder.make('film.mp4', ...lavfi('testsrc2=s=320x240:r=10:d=1'), ...H264);
    const before = (await alice.get('/v1/quota')).body['used'];
    const bytes = folder.read('film.mp4');
    const id = await uploaded(bytes, 'film.mp4');
    assert.equal((await ask(id, { format: 'mp4', height: 144 })).status, 202);
    assert.equal((await ended(id, 'mp4-144p')).state, 'ready');
    const { data } = (await alice.get(`/v1/assets/${id}/derivatives`)).body;
    const [made] = data.filter((each) => Reflect.get(each, 'name') === 'mp4-144p');
    assert.deepEqual([Reflect.get(made ?? {}, 'width'), Reflect.get(made ?? {}, 'height')], [192, 144]);
    assert.equal((await alice.get('/v1/quota')).body['used'], Number(before) + bytes.length);
  });

  test('that is asked for again is the same one, with an Idempotency-Key and without', async () => {
    const id = await uploaded(fixture('sound.mp3'), 'sound.mp3');
    const key = { 'idempotency-key': '"transcode-1"' };
    const first = await ask(id, { format: 'wav' }, key);
    assert.equal(first.status, 202);
    const again = await ask(id, { format: 'wav' }, key);
    assert.deepEqual([again.status, again.body], [202, first.body]);
    assert.equal(again.headers.get('idempotency-replayed'), 'true');
    assert.equal((await ask(id, { format: 'flac' }, key)).status, 422);
    await ended(id, 'wav');
    const later = await ask(id, { format: 'wav' });
    assert.deepEqual([later.status, later.body.state], [202, 'ready']);
    const { rows } = await service.database.pool.query(
      'select count(*)::integer as count from derivatives where asset_id = $1',
      [id],
    );
    assert.equal(rows[0]?.count, 1);
  });

  test('is refused for what it is asked of, and for what it is asked', async () => {
    const sound = await uploaded(fixture('sound.mp3'), 'sound.mp3');
    const picture = await uploaded(png(), 'picture.png');
    const refusal = async (id: string, body: object) => {
      const answer = await ask(id, body);
      return [answer.status, answer.body.type?.replace('urn:stowage:problem:', '')];
    };
    assert.deepEqual(await refusal(picture, { format: 'mp3' }), [422, 'transcode-impossible']);
    assert.deepEqual(await refusal(sound, { format: 'mp4' }), [422, 'transcode-impossible']);
    assert.deepEqual(await refusal(sound, { format: 'mp3', bitrate: 127 }), [400, 'invalid-parameter']);
    assert.deepEqual(await refusal(sound, { format: 'flac', bitrate: 128 }), [400, 'invalid-parameter']);
    assert.deepEqual(await refusal(sound, { format: 'avi' }), [400, 'invalid-parameter']);
    assert.deepEqual(await refusal(sound, { format: 'mp3', speed: 2 }), [400, 'invalid-parameter']);
    assert.equal((await ask(sound, { format: 'mp3' }, {}, new Client(service.url, 'mallory'))).status, 404);
    assert.equal((await alice.get(`/v1/assets/${sound}/transcodes/mp3-128k`)).status, 404);
  });

  test('is bounded by the policy: in formats, number and duration', async () => {
    const bytes = fixture('sound.mp3');
    const speech = await uploaded(bytes, 'speech.mp3', 'speech');
    const other = await ask(speech, { format: 'mp3' });
    assert.deepEqual([other.status, other.body.type], [403, 'urn:stowage:problem:transcode-not-allowed']);
    assert.match(other.body.detail ?? '', /opus only/);
    assert.equal((await ask(speech, { format: 'opus' })).status, 202);
    await ended(speech, 'opus-96k');
    const second = await ask(speech, { format: 'opus', bitrate: 32 });
    assert.deepEqual([second.status, second.body.type], [409, 'urn:stowage:problem:too-many-transcodes']);
    assert.equal((await alice.request('DELETE', `/v1/assets/${speech}/transcodes/opus-96k`)).status, 204);
    assert.equal((await ask(speech, { format: 'opus', bitrate: 32 })).status, 202);
    assert.equal((await ask(await uploaded(bytes, 'a.mp3', 'plain'), { format: 'mp3' })).status, 403);
    // Here no facts are read: how long it lasts is found out by the job.
    folder.make('long.mp3', ...lavfi('sine=d=3'));
    const long = await uploaded(folder.read('long.mp3'), 'long.mp3', 'short');
    assert.equal((await ask(long, { format: 'mp3' })).status, 202);
    const { state, reason } = await ended(long, 'mp3-128k');
    assert.deepEqual([state, reason], ['failed', 'refused']);
  });

  test('goes with its asset, and when it is deleted', async () => {
    const id = await uploaded(fixture('sound.mp3'), 'sound.mp3');
    for (const format of ['mp3', 'flac']) await ask(id, { format });
    await ended(id, 'mp3-128k');
    await ended(id, 'flac');
    assert.equal((await objectsOf(id)).length, 3);
    assert.equal((await alice.request('DELETE', `/v1/assets/${id}/transcodes/flac`)).status, 204);
    assert.equal((await alice.get(`/v1/assets/${id}/transcodes/flac`)).status, 404);
    await waitUntil(async () => (await objectsOf(id)).length === 2);
    await alice.request('DELETE', `/v1/assets/${id}?permanent=true`);
    await waitUntil(async () => (await objectsOf(id)).length === 0);
    await waitUntil(
      async () => (await service.query('select from derivatives where asset_id = $1', [id])).length === 0,
    );
  });
  test('that is running ends with its asset', async () => {
    folder.make('hour.mp3', ...lavfi('sine=d=900'), '-b:a', '32k', '-ar', '22050');
    const id = await uploaded(folder.read('hour.mp3'), 'hour.mp3');
    assert.equal((await ask(id, { format: 'aac' })).status, 202);
    await waitUntil(async () => ((await look(id, 'aac-128k')).state as string) === 'running');
    await alice.request('DELETE', `/v1/assets/${id}?permanent=true`);
    await waitUntil(async () => (await alice.get(`/v1/assets/${id}`)).status === 404);
    const active = async () => {
      const { queues } = (await alice.get('/v1/admin/jobs')).body as unknown as {
        queues: { queue: string; active: number }[];
      };
      return queues.find(({ queue }) => queue === 'transcode')?.active;
    };
    await waitUntil(async () => (await active()) === 0);
    assert.deepEqual(await objectsOf(id), []);
  });
});
