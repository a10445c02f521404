/** The job of a transcode, run by hand: what becomes of it when its tool, its worker or its reader goes away. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { after, before, beforeEach, describe, test } from 'node:test';
import type { JobContext } from '../../src/jobs/job.ts';
import { toolboxOf } from '../../src/processing/toolbox.ts';
import { transcodes } from '../../src/transcodes/index.ts';
import { runTranscode, type TranscodeData } from '../../src/transcodes/job.ts';
import { Client } from '../support/client.ts';
import { lavfi, MediaFolder } from '../support/media.ts';
import { programSkip } from '../support/programs.ts';
import { startService, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

const folder = new MediaFolder();
let service: TestService;
let alice: Client;
let sound: Buffer<ArrayBuffer>;

before(async () => {
  // Nothing but this test runs jobs.
  service = await startService({
    env: { ROLE: 'api', DATABASE_URL: 'postgres://127.0.0.1/not-asked', TRANSCODES_PER_OWNER: '3' },
  });
  // Long enough that its tool is seen before it has ended.
  folder.make('sound.mp3', ...lavfi('sine=d=120'), '-b:a', '32k', '-ar', '22050');
  sound = Buffer.from(folder.read('sound.mp3'));
});
after(async () => {
  await service.close();
  folder.close();
});

let asked: TranscodeData;
let user = 0;
beforeEach(async () => {
  alice = new Client(service.url, `user-${++user}`);
  const { body } = await alice.upload(sound, { name: 'sound.mp3' });
  const answer = await alice.send('POST', `/v1/assets/${body.id}/transcodes`, { format: 'aac' });
  assert.equal(answer.status, 202, JSON.stringify(answer.body));
  const [row] = await service.query<{ request: string }>(
    'select requested_by as request from derivatives where asset_id = $1',
    [body.id],
  );
  asked = { assetId: body.id, name: 'aac-128k', request: row?.request ?? '' };
});

interface Row {
  id: string;
  state: string;
  progress: number | null;
  reason: string | null;
  key: string;
}
const rows = () =>
  service.query<Row>(
    'select id, state, progress, reason, object_key as key from derivatives where asset_id = $1 order by id',
    [asked.assetId],
  );

function contextOf(signal = new AbortController().signal): JobContext {
  return { id: crypto.randomUUID(), signal, fence: async () => {} };
}

const run = (signal?: AbortSignal) => runTranscode(asked, contextOf(signal), service.service.core);

/** Ids of the programs that this service has running: only they have its directory in their command line. */
function tools(): number[] {
  const { directory } = toolboxOf(service.service.core).scratch;
  return readdirSync('/proc').flatMap((id) => {
    try {
      const line = readFileSync(`/proc/${id}/cmdline`, 'utf8');
      return /^[^\0]*ffmpeg\0/.test(line) && line.includes(directory) ? Number(id) : [];
    } catch {
      return [];
    }
  });
}

/** Waits for the tool, and holds it still. */
async function whenHeld(): Promise<number[]> {
  await waitUntil(() => tools().length > 0);
  const held = tools();
  for (const id of held) process.kill(id, 'SIGSTOP');
  return held;
}

async function nothingIsLeft(): Promise<void> {
  assert.deepEqual(tools(), []);
  const { directory } = toolboxOf(service.service.core).scratch;
  const left = readdirSync(directory, { recursive: true, encoding: 'utf8' }).filter((name) => /transcode/.test(name));
  assert.deepEqual(left, []);
}

describe('the job of a transcode', { skip: programSkip('ffmpeg') }, () => {
  test('fails for a reason when its tool is killed, and can be asked for again', async () => {
    const running = run();
    for (const id of await whenHeld()) process.kill(id, 'SIGKILL');
    await running;
    const [row] = await rows();
    assert.deepEqual([row?.state, row?.reason], ['failed', 'crashed']);
    const { status, body } = await alice.send('POST', `/v1/assets/${asked.assetId}/transcodes`, { format: 'aac' });
    assert.deepEqual([status, body.state], [202, 'waiting']);
    await nothingIsLeft();
  });

  test('is done anew, under another key, after its worker died in the middle', async () => {
    const died = new AbortController();
    const first = run(died.signal);
    await whenHeld();
    died.abort(new Error('the worker is gone'));
    await assert.rejects(first);
    const [before] = await rows();
    assert.equal(before?.state, 'making');
    await run();
    const [discarded, made] = await rows();
    assert.deepEqual([discarded?.id, discarded?.state, made?.state], [before?.id, 'discarded', 'ready']);
    assert.notEqual(made?.key, before?.key);
    assert.equal((await alice.get(`/v1/assets/${asked.assetId}/transcodes/aac-128k`)).body['progress'], 100);
    await nothingIsLeft();
  });

  test('stops when the transcode is deleted, and leaves nothing', async () => {
    const running = run();
    await whenHeld();
    assert.equal((await alice.request('DELETE', `/v1/assets/${asked.assetId}/transcodes/aac-128k`)).status, 204);
    await running;
    assert.deepEqual(
      (await rows()).map(({ state }) => state),
      ['discarded'],
    );
    await nothingIsLeft();
  });

  test('does nothing for a request that another has taken the place of', async () => {
    await runTranscode({ ...asked, request: 'transcode:another' }, contextOf(), service.service.core);
    const [row] = await rows();
    assert.deepEqual([row?.state, row?.progress], ['making', null]);
  });

  test('waits for its turn: owners take turns, and what a worker does not begin at once is for any other', async () => {
    for (const format of ['mp3', 'opus'])
      assert.equal((await alice.send('POST', `/v1/assets/${asked.assetId}/transcodes`, { format })).status, 202);
    const bob = new Client(service.url, `user-${++user}`);
    const { id } = (await bob.upload(sound, { name: 'sound.mp3' })).body;
    assert.equal((await bob.send('POST', `/v1/assets/${id}/transcodes`, { format: 'wav' })).status, 202);
    const queued = () =>
      service.query<{ id: string; data: TranscodeData }>(
        `select id, data from pgboss.job where name = 'transcode' and state = 'created'
           and data ->> 'assetId' = any($1) order by priority desc, created_on`,
        [[asked.assetId, id]],
      );
    const names = (jobs: { data: TranscodeData }[]) => jobs.map(({ data }) => data.name);
    const jobs = await queued();
    assert.deepEqual(names(jobs), ['aac-128k', 'wav', 'mp3-128k', 'opus-96k']);
    const [job] = transcodes.jobs ?? [];
    const { signal } = new AbortController();
    const context = { signal, fence: async (_: unknown, ids: readonly string[]) => new Set(ids) };
    const taken = [jobs[2], jobs[1]].flatMap((each) => (each ? [{ ...each, signal }] : []));
    assert.deepEqual(await job?.runBatch(taken, context, service.service.core), new Map());
    assert.equal((await bob.get(`/v1/assets/${id}/transcodes/wav`)).body.state, 'ready');
    const [, , first, second] = await queued();
    assert.deepEqual([first?.data.name, second?.data.name], ['mp3-128k', 'mp3-128k']);
    // The job that was taken has nothing to do any more, the new one has.
    const state = async () => (await alice.get(`/v1/assets/${asked.assetId}/transcodes/mp3-128k`)).body.state;
    await runTranscode(jobs[2]?.data ?? asked, contextOf(), service.service.core);
    assert.equal(await state(), 'waiting');
    await runTranscode(second?.data ?? asked, contextOf(), service.service.core);
    assert.equal(await state(), 'ready');
  });

  test('waits with so many others of its owner as may wait, and no more', async () => {
    const ask = (format: string) => alice.send('POST', `/v1/assets/${asked.assetId}/transcodes`, { format });
    const answers = await Promise.all(['mp3', 'opus', 'flac', 'wav'].map(ask));
    assert.deepEqual(answers.map(({ status }) => status).sort(), [202, 202, 429, 429]);
    const [refused] = answers.filter(({ status }) => status === 429);
    assert.equal(refused?.body.type, 'urn:stowage:problem:transcodes-waiting');
    assert.match(refused?.headers.get('retry-after') ?? '', /^\d+$/);
    assert.equal((await rows()).length, 3);
  });
});
