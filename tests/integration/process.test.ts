import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { Client } from '../support/client.ts';
import { glb, png } from '../support/files.ts';
import { createTestDatabase } from '../support/postgres.ts';
import { type Running, spawnService, launch as start } from '../support/processes.ts';
import { waitUntil } from '../support/wait-until.ts';

const MiB = 1024 * 1024;

describe('the process', () => {
  const directories: string[] = [];
  const running: ChildProcess[] = [];
  after(async () => {
    for (const child of running) child.kill('SIGKILL');
    for (const directory of directories)
      await rm(directory, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  });
  async function freshDirectory(): Promise<string> {
    const directory = await mkdtemp(join(tmpdir(), 'stowage-process-'));
    directories.push(directory);
    return directory;
  }
  async function launch(env: Record<string, string>): Promise<Running> {
    const service = await start(env);
    running.push(service.child);
    return service;
  }

  test('starts on nothing, and what was stored is there after SIGTERM and after SIGKILL', async () => {
    const DATA_DIR = await freshDirectory();
    let service = await launch({ DATA_DIR });
    const { status, body } = await new Client(service.url).upload(png(5000));
    assert.equal(status, 201);
    service.child.kill('SIGTERM');
    assert.equal(await service.exit, 0);

    service = await launch({ DATA_DIR });
    assert.equal((await new Client(service.url).content(body.id)).body.length, 5000);
    service.child.kill('SIGKILL');
    await service.exit;

    service = await launch({ DATA_DIR });
    assert.equal((await new Client(service.url).content(body.id)).body.length, 5000);
    assert.equal((await new Client(service.url).get('/v1/quota')).body['used'], 5000);
    service.child.kill('SIGTERM');
    assert.equal(await service.exit, 0);
    assert.match(service.output(), /\/docs/);
    assert.match(service.output(), /curl/);
  });

  test('a damaged secret ends the start with a sentence that names it', async () => {
    for (const name of ['link-secret', 'postgres-password']) {
      const DATA_DIR = await freshDirectory();
      await writeFile(join(DATA_DIR, name), '');
      const service = spawnService({ DATA_DIR, PORT: '0' });
      assert.equal(await service.exit, 1);
      assert.match(service.output(), new RegExp(`^Stowage cannot start: The secret .*${name} is empty: .*$`, 'm'));
    }
  });

  test('a second process on the same directory is told whose it is, and the first goes on', async () => {
    const DATA_DIR = await freshDirectory();
    const first = await launch({ DATA_DIR });
    const second = spawnService({ DATA_DIR, PORT: '0' });
    assert.equal(await second.exit, 1);
    assert.match(second.output(), new RegExp(`${first.child.pid}`));
    assert.equal((await new Client(first.url).get('/readyz')).status, 200);
    first.child.kill('SIGTERM');
    assert.equal(await first.exit, 0);
  });

  test('a bad configuration ends it at once with code 1, every fault by name and no value', async () => {
    const service = spawnService({
      AUTH_JWT_SECRET: 'too-short-secret',
      LOG_LEVEL: 'loud',
      PART_SIZE: '1MiB',
      HOST: '0.0.0.0',
    });
    assert.equal(await service.exit, 1);
    for (const name of ['AUTH_JWT_SECRET', 'LOG_LEVEL', 'PART_SIZE']) assert.match(service.output(), new RegExp(name));
    for (const value of ['too-short-secret', 'loud', '1MiB']) assert.ok(!service.output().includes(value), value);
    assert.doesNotMatch(service.output(), /\n\s+at /);
  });

  test('a port that is taken is told in one line, and a variable with a typo before it', async () => {
    const holder = createServer().listen(0, '127.0.0.1');
    await once(holder, 'listening');
    const address = holder.address();
    const PORT = String(typeof address === 'object' && address ? address.port : 0);
    const env = { DATA_DIR: await freshDirectory(), PORT, LOG_LEVEL: 'error', UPLOAD_MEMROY: '1GiB' };
    const service = spawnService(env);
    assert.equal(await service.exit, 1);
    holder.close();
    const lines = service.output().trim().split('\n');
    assert.deepEqual(lines, [
      'Warning: UPLOAD_MEMROY is no setting of Stowage and has no effect. Did you mean UPLOAD_MEMORY?',
      `Stowage cannot start: 127.0.0.1:${PORT} is in use. Stop the other process, or set PORT.`,
    ]);
  });

  test('"ready" is not said before it is so, and a process that only works names no address', async () => {
    const database = await createTestDatabase();
    const common = { DATA_DIR: await freshDirectory(), DATABASE_URL: database.url, PORT: '0' };
    const away = {
      S3_BUCKET: 'bucket',
      S3_ENDPOINT: 'http://127.0.0.1:9',
      S3_ACCESS_KEY_ID: 'a',
      S3_SECRET_ACCESS_KEY: 'b',
    };
    const waiting = spawnService({ ...common, ...away });
    await waitUntil(() => /Stowage is not ready yet: .*S3_ENDPOINT/.test(waiting.output()));
    assert.doesNotMatch(waiting.output(), /is ready\./);
    const worker = spawnService({ ...common, ROLE: 'worker' });
    await waitUntil(() => /Stowage is ready/.test(worker.output()));
    assert.match(worker.output(), /runs jobs/);
    assert.doesNotMatch(worker.output(), /\/v1\/assets|\/docs/);
    for (const { child, exit } of [waiting, worker]) {
      child.kill('SIGTERM');
      assert.equal(await exit, 0);
    }
    await database.drop();
  });

  test('without keys it refuses any address but loopback', async () => {
    const service = spawnService({ HOST: '0.0.0.0' });
    assert.equal(await service.exit, 1);
    assert.match(service.output(), /HOST/);
  });

  test('two processes that start at once on one empty database share the migrations', async () => {
    const database = await createTestDatabase();
    const places = await Promise.all([freshDirectory(), freshDirectory()]);
    const services = await Promise.all(places.map((DATA_DIR) => launch({ DATA_DIR, DATABASE_URL: database.url })));
    for (const { url } of services) assert.equal((await new Client(url).raw(png())).status, 201);
    assert.equal((await new Client(services[0]?.url ?? '').get('/v1/quota')).body['fileCount'], 2);
    for (const { child } of services) child.kill('SIGTERM');
    assert.deepEqual(await Promise.all(services.map(({ exit }) => exit)), [0, 0]);
    await database.drop();
  });

  /** An upload of which a part has been sent. */
  function beginUpload(url: string, bytes: Buffer): { finish: () => void; status: Promise<number> } {
    const upload = request(`${url}/v1/assets/raw/m.glb`, {
      method: 'PUT',
      headers: { 'content-length': bytes.length },
    });
    const status = new Promise<number>((resolve) => {
      upload.on('response', (response) => {
        response.resume();
        resolve(response.statusCode ?? 0);
      });
      upload.on('error', () => resolve(0));
    });
    upload.write(bytes.subarray(0, MiB));
    return { finish: () => upload.end(bytes.subarray(MiB)), status };
  }
  const uploading = (url: string) =>
    waitUntil(async () => (await (await fetch(`${url}/metrics`)).text()).includes('stowage_active_uploads 1'));

  test('on SIGTERM readiness fails first, a running upload finishes, and no new connection is accepted', async () => {
    const DATA_DIR = await freshDirectory();
    const service = await launch({ DATA_DIR, DRAIN_DELAY: '5s', DRAIN_TIMEOUT: '2m' });
    const upload = beginUpload(service.url, glb(12 * MiB));
    await uploading(service.url);
    service.child.kill('SIGTERM');
    await waitUntil(async () => (await new Client(service.url).get('/readyz')).status === 503);
    await waitUntil(() =>
      fetch(`${service.url}/livez`).then(
        () => false,
        () => true,
      ),
    );
    upload.finish();
    assert.equal(await upload.status, 201);
    assert.equal(await service.exit, 0);
  });

  test('an upload that does not end is ended after DRAIN_TIMEOUT, and leaves nothing', async () => {
    const DATA_DIR = await freshDirectory();
    const service = await launch({ DATA_DIR, DRAIN_TIMEOUT: '500ms' });
    const upload = beginUpload(service.url, glb(12 * MiB));
    await uploading(service.url);
    service.child.kill('SIGTERM');
    assert.ok([0, 503].includes(await upload.status));
    assert.equal(await service.exit, 0);
    for (const folder of ['objects', 'multipart', 'tmp']) {
      const left = await readdir(join(DATA_DIR, 'objects', folder)).catch(() => []);
      assert.deepEqual(left, [], folder);
    }
    const again = await launch({ DATA_DIR });
    assert.equal((await new Client(again.url, 'local-user').get('/v1/quota')).body['reserved'], 0);
    again.child.kill('SIGTERM');
    assert.equal(await again.exit, 0);
  });

  test('an embedded Postgres that is killed is started again, and requests go on', async () => {
    const DATA_DIR = await freshDirectory();
    const service = await launch({ DATA_DIR });
    const client = new Client(service.url);
    const { body } = await client.raw(png(1000));
    const postmaster = async () =>
      Number(
        (await readFile(join(DATA_DIR, 'postgres', 'cluster', 'postmaster.pid'), 'utf8').catch(() => '')).split(
          '\n',
        )[0],
      );
    const pid = await postmaster();
    process.kill(pid, 'SIGKILL');
    await waitUntil(async () => ![0, pid].includes(await postmaster()));
    await waitUntil(async () => (await client.get(`/v1/assets/${body.id}`)).status === 200);
    // A connection of the pool may still have to find out that it is dead: that is a 503, to be tried again.
    await waitUntil(async () => (await client.raw(png(1000, 2))).status === 201);
    service.child.kill('SIGTERM');
    assert.equal(await service.exit, 0);
  });
});
