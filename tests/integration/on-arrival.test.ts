/** What small files have in the answer to their upload, and that an upload never fails, or waits long, for it. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { chmodSync, existsSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type ObjectStore, ObjectStoreUnavailable } from '../../src/storage/object-store.ts';
import { type AnyBody, Client } from '../support/client.ts';
import { fixture } from '../support/corpus.ts';
import { png } from '../support/files.ts';
import { models } from '../support/models.ts';
import { pdfs } from '../support/pdfs.ts';
import { processesNamed } from '../support/process-tree.ts';
import { programSkip } from '../support/programs.ts';
import { startService, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

const env = { DERIVATIVES: 'true', REQUESTS_PER_MINUTE: '0', UPLOADS_PER_HOUR: '0' };
/** Jobs are enqueued, and nobody does them. */
const withoutWork = { ROLE: 'api', DATABASE_URL: 'postgres://unused/unused' };
const bytesOf = (file: Buffer) => new Uint8Array(file);
const caller = (service: TestService) => new Client(service.url, `user-${randomUUID()}`);

describe('a small file', () => {
  let service: TestService;
  /** While set, no derivative can be stored. */
  let stuck = false;
  before(async () => {
    const wrapStore = (inner: ObjectStore): ObjectStore =>
      new Proxy(inner, {
        get: (target, name) => {
          const value = Reflect.get(target, name);
          if (name === 'put' && stuck)
            return (...all: Parameters<ObjectStore['put']>) =>
              all[0].endsWith('/original') ? target.put(...all) : Promise.reject(new ObjectStoreUnavailable('stuck'));
          return typeof value === 'function' ? value.bind(target) : value;
        },
      });
    service = await startService({ env: { ...env, ...withoutWork }, wrapStore });
  });
  after(() => service.close());

  /** Uploads it until a tool was free, and quick enough for whoever waits. */
  async function answerWith(name: string, bytes: Buffer, isIt: (body: AnyBody) => boolean): Promise<AnyBody> {
    const found = await waitUntil(async () => {
      const { status, body } = await caller(service).raw(bytesOf(bytes), { name });
      assert.equal(status, 201, JSON.stringify(body));
      return isIt(body) && body;
    });
    assert.ok(found);
    return found;
  }
  const hasFacts = ({ facts }: AnyBody) => facts !== undefined;

  test('of sound has its facts in the answer', { skip: programSkip('ffmpeg') }, async () => {
    const { facts, processing } = await answerWith('s.flac', Buffer.from(fixture('sound.flac')), hasFacts);
    assert.deepEqual([facts?.audioCodec, processing?.facts?.state], ['flac', 'done']);
    assert.equal(processing?.derive?.state, 'waiting', 'a waveform is left to its job');
  });

  test('of film has its facts in the answer', { skip: programSkip('ffmpeg') }, async () => {
    const { facts } = await answerWith('c.webm', Buffer.from(fixture('clip.webm')), hasFacts);
    assert.deepEqual([facts?.width, facts?.height], [64, 48]);
  });

  test('of PDF has its facts in the answer', async () => {
    const { facts } = await answerWith('d.pdf', pdfs.letter(), hasFacts);
    assert.equal(facts?.pages, 1);
  });

  test('that a tool refuses has the reason in the answer', { skip: programSkip('pdftoppm') }, async () => {
    const isOver = ({ processing }: AnyBody) => processing?.facts?.state !== 'waiting';
    const { processing, facts } = await answerWith('e.pdf', pdfs.encrypted(), isOver);
    assert.deepEqual([processing?.facts?.state, processing?.facts?.reason, facts], ['failed', 'encrypted', undefined]);
  });

  test('of a model has its facts in the answer', async () => {
    const cube = await models['textured-cube']?.();
    assert.ok(cube);
    const { facts } = await answerWith('m.glb', cube, hasFacts);
    assert.equal(facts?.triangles, 12);
  });

  test('among several of a form has all that is made of it, too', async () => {
    const client = caller(service);
    const results = await waitUntil(async () => {
      const form = new FormData();
      form.set('assetType', 'image');
      for (const name of ['a.png', 'b.png']) form.append('files', new File([png(2000, name.charCodeAt(0))], name));
      const answer = await client.request('POST', '/v1/assets/batch', { body: form });
      assert.equal(answer.status, 200, JSON.stringify(answer.body));
      const results = answer.body['results'] as { asset: AnyBody }[];
      return results.every(({ asset }) => asset.processing?.derive?.state === 'done') && results;
    });
    assert.ok(results);
    for (const { asset } of results)
      assert.equal((await client.get(`/v1/assets/${asset.id}/derivatives/thumbnail`)).status, 200);
  });

  test('whose thumbnail cannot be stored is stored all the same, and has a job', async () => {
    stuck = true;
    try {
      const body = await answerWith('p.png', png(2000, 5), hasFacts);
      assert.deepEqual([body.state, body.processing?.derive?.state, body.thumbHash], ['ready', 'waiting', undefined]);
      const jobs = await service.query("select name from pgboss.job where data ->> 'assetId' = $1", [body.id]);
      assert.deepEqual(jobs, [{ name: 'derive' }]);
      const rows = await service.query('select state from derivatives where asset_id = $1', [body.id]);
      assert.deepEqual(rows, [{ state: 'discarded' }]);
    } finally {
      stuck = false;
    }
  });
});

describe('a file that holds up a tool', () => {
  const path = process.env['PATH'];
  const folder = mkdtempSync(join(tmpdir(), 'stowage-path-'));
  const name = `sleeps-${randomUUID()}`;
  let service: TestService;
  before(async () => {
    for (const program of ['bwrap', 'prlimit', 'setpriv', 'ffmpeg'])
      if (existsSync(`/usr/bin/${program}`)) symlinkSync(`/usr/bin/${program}`, join(folder, program));
    writeFileSync(join(folder, 'ffprobe'), `#!/bin/sh\nexec /bin/sh -c 'sleep 1000; : ${name}'\n`);
    chmodSync(join(folder, 'ffprobe'), 0o755);
    service = await startService({ env: { ...env, ...withoutWork, TOOLS_AT_ONCE: '1' } });
    process.env['PATH'] = folder;
  });
  after(async () => {
    process.env['PATH'] = path;
    await service.close();
    rmSync(folder, { recursive: true });
  });

  test('is stored as without it, and the tool is ended; who comes meanwhile does not wait for it', async () => {
    const client = caller(service);
    const uploads = await Promise.all(
      [1, 2, 3].map(() => client.raw(bytesOf(Buffer.from(fixture('sound.mp3'))), { name: 's.mp3' })),
    );
    for (const { status, body } of uploads) {
      assert.equal(status, 201, JSON.stringify(body));
      assert.deepEqual([body.state, body.facts, body.processing?.facts?.state], ['ready', undefined, 'waiting']);
      const jobs = await service.query("select name from pgboss.job where data ->> 'assetId' = $1", [body.id]);
      assert.deepEqual(jobs, [{ name: 'facts' }]);
    }
    await waitUntil(() => processesNamed(name).length === 0);
    // It was not the tool's own limit, which is longer than anybody should wait for an answer.
    const metrics = await (await fetch(`${service.url}/metrics`)).text();
    assert.match(metrics, /stowage_processing_step_seconds/);
    assert.doesNotMatch(metrics, /stowage_tools_killed_total\{/);
  });
});
