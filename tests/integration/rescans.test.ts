/** Stored files are scanned again when there are new signatures; what is infected then is taken out of service. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { startClamd, type TestClamd } from '../support/clamd.ts';
import { Client } from '../support/client.ts';
import { glb } from '../support/files.ts';
import { createPreparedDatabase } from '../support/postgres.ts';
import { type Spawned, spawnService } from '../support/processes.ts';
import { programSkip } from '../support/programs.ts';
import { startService, storeKinds, type TestService } from '../support/service.ts';
import { TcpProxy } from '../support/tcp-proxy.ts';
import { waitUntil } from '../support/wait-until.ts';

const skip = programSkip('clamd');
const env = { REQUESTS_PER_MINUTE: '0', UPLOADS_PER_HOUR: '0' };
const THREAT = Buffer.from('what nobody knew at the time of the upload');
const NAME = 'Stowage.Test.Novel';

function model(isThreat: boolean, seed: number): Buffer<ArrayBuffer> {
  const bytes = glb(64 * 1024, seed);
  if (isThreat) THREAT.copy(bytes, 30_000);
  return bytes;
}

interface Scan {
  id: string;
  state: string;
  found?: number;
  scanned: number;
  infected: number;
  notScanned: number;
}

/** Uploads so many models, of which every third is a threat that clamd does not know yet. @returns their ids */
async function upload(client: Client, count: number): Promise<{ clean: string[]; threats: string[] }> {
  const clean: string[] = [];
  const threats: string[] = [];
  for (let index = 0; index < count; index++) {
    const isThreat = index % 3 === 1;
    const { status, body } = await client.raw(model(isThreat, index + 1), { name: `${index}.glb` });
    assert.equal(status, 201);
    assert.equal(body.state, 'ready');
    (isThreat ? threats : clean).push(body.id);
  }
  return { clean, threats };
}

const begin = (client: Client, fields = {}) =>
  client.send('POST', '/v1/admin/scans', { before: new Date().toISOString(), ...fields });
const scanOf = async (client: Client, id: string) =>
  (await client.get(`/v1/admin/scans/${id}`)).body as unknown as Scan;
const ended = async (client: Client, id: string) => {
  const scan = await waitUntil(async () => {
    const now = await scanOf(client, id);
    return now.state === 'running' ? undefined : now;
  });
  return scan as Scan;
};

for (const { store, skip: noStore } of storeKinds)
  describe(`a scan of what is stored, on ${store}`, { skip: skip || noStore }, () => {
    let clamd: TestClamd;
    let service: TestService;
    let client: Client;
    before(async () => {
      clamd = await startClamd();
      service = await startService({ store, env: { ...env, CLAMD: clamd.socket } });
      client = new Client(service.url, `owner-${randomUUID()}`);
    });
    after(async () => {
      clamd?.thaw();
      await service?.close();
      await clamd?.close();
    });

    test('finds what was unknown before, takes it out of service with its bytes and links, and leaves the rest', async () => {
      const { clean, threats } = await upload(client, 5);
      const links: string[] = [];
      for (const id of threats) links.push(String((await client.get(`/v1/assets/${id}/download`)).body['url']));
      for (const link of links) assert.equal((await fetch(link)).status, 200);
      const before = (await client.get('/v1/quota')).body;
      const scannedAt = Date.now();
      await clamd.learn(NAME, THREAT);
      const started = await begin(client);
      assert.equal(started.status, 202, JSON.stringify(started.body));
      assert.equal(started.headers.get('location'), `/v1/admin/scans/${started.body.id}`);
      const { state, found, scanned, infected, notScanned } = await ended(client, started.body.id);
      assert.deepEqual(
        { state, found, scanned, infected, notScanned },
        {
          state: 'done',
          found: 5,
          scanned: 5,
          infected: threats.length,
          notScanned: 0,
        },
      );
      for (const id of threats) {
        const { body } = await client.get(`/v1/assets/${id}`);
        assert.deepEqual([body.state, body.reason], ['rejected', 'infected']);
        assert.equal(body.scan?.signature, `${NAME}.UNOFFICIAL`);
        assert.equal((await client.content(id)).status, 409);
        assert.equal((await client.get(`/v1/assets/${id}/download`)).status, 409);
      }
      for (const link of links) await waitUntil(async () => (await fetch(link)).status >= 400);
      for (const id of clean) {
        const { body } = await client.get(`/v1/assets/${id}`);
        assert.deepEqual([body.state, body.scan?.verdict], ['ready', 'clean']);
        assert.ok(Date.parse(String(body.scan?.at)) >= scannedAt);
        assert.equal((await client.content(id)).status, 200);
      }
      const { body: quota } = await client.get('/v1/quota');
      assert.equal(quota['used'], Number(before['used']) - threats.length * 64 * 1024);
      const { report } = await service.service.reconcile({ dryRun: false });
      assert.deepEqual([report.driftedQuotas, report.driftedStatistics, report.newlyLostAssets], [0, 0, 0]);
      const audited = await service.query<{ action: string; count: string }>(
        "select action, count(*) from audit_events where action in ('asset.rejected', 'scan.started', 'scan.ended') group by 1 order by 1",
      );
      assert.deepEqual(
        audited.map(({ action, count }) => [action, Number(count)]),
        [
          ['asset.rejected', threats.length],
          ['scan.ended', 1],
          ['scan.started', 1],
        ],
      );
    });

    test('is one at a time, can be cancelled, and is told to administrators only', async () => {
      clamd.freeze();
      const { body } = await begin(client, { assetType: 'model' });
      const second = await begin(client);
      assert.equal(second.status, 409);
      assert.equal(second.body.type, 'urn:stowage:problem:scan-in-progress');
      assert.equal((await client.request('DELETE', `/v1/admin/scans/${body.id}`)).status, 204);
      assert.equal((await client.request('DELETE', `/v1/admin/scans/${body.id}`)).status, 204);
      clamd.thaw();
      assert.equal((await scanOf(client, body.id)).state, 'cancelled');
      const third = await begin(client, { assetType: 'image' });
      assert.equal(third.status, 202);
      assert.equal((await ended(client, third.body.id)).found, 0);
      const list = (await client.get('/v1/admin/scans')).body.data as unknown as Scan[];
      assert.deepEqual(
        list.map(({ state }) => state),
        ['done', 'cancelled', 'done'],
      );
      assert.equal((await client.get(`/v1/admin/scans/${randomUUID()}`)).status, 404);
      assert.equal((await client.request('DELETE', `/v1/admin/scans/${randomUUID()}`)).status, 404);
    });

    test('is refused for a time that is none, and for files that nobody scans', async () => {
      const future = new Date(Date.now() + 60_000).toISOString();
      const times = [future, 'yesterday', '2026-13-45T99:00:00Z', '2026-11-01T00:00:00+25:00', '0000-01-01T00:00:00Z'];
      for (const wrong of [...times.map((time) => ({ before: time })), { before: 5 }, { assetType: 'nobody' }]) {
        const { status, body } = await begin(client, wrong);
        assert.equal(status, 400, JSON.stringify(wrong));
        assert.equal(body.errors?.[0]?.pointer, `/${Object.keys(wrong)[0]}`, JSON.stringify(body));
      }
    });
  });

test('a scan whose worker was killed goes on where it was, and counts each file once', { skip }, async (context) => {
  const clamd = await startClamd();
  const proxy = await new TcpProxy(`tcp://${clamd.address}`).listen();
  context.after(async () => {
    await proxy.close();
    await clamd.close();
  });
  const { url: databaseUrl, drop } = await createPreparedDatabase();
  context.after(drop);
  const service = await startService({
    databaseUrl,
    env: { ...env, ROLE: 'api', DATABASE_URL: databaseUrl, CLAMD: clamd.socket },
  });
  const workers: Spawned[] = [];
  const startWorker = () => {
    const worker = spawnService({
      ...service.place,
      DATABASE_URL: service.databaseUrl,
      ROLE: 'worker',
      PORT: '0',
      CLAMD: `127.0.0.1:${proxy.port}`,
      DERIVATIVES: 'false',
    });
    workers.push(worker);
    return worker;
  };
  context.after(async () => {
    for (const { child, exit } of workers) {
      child.kill('SIGKILL');
      await exit;
    }
    await service.close();
  });
  const client = new Client(service.url);
  const { threats } = await upload(client, 12);
  await clamd.learn(NAME, THREAT);
  let answers = 0;
  proxy.passAnswer = (request) => {
    if (request.includes('INSTREAM') && ++answers > 5) proxy.fault = 'stall';
    return answers <= 5;
  };
  const first = startWorker();
  const { body } = await begin(client);
  await waitUntil(() => answers > 5);
  first.child.kill('SIGKILL');
  await first.exit;
  const midway = await scanOf(client, body.id);
  assert.ok(midway.scanned > 0 && midway.scanned < 12, String(midway.scanned));
  proxy.fault = 'none';
  proxy.passAnswer = () => true;
  startWorker();
  const scan = await ended(client, body.id);
  assert.deepEqual(
    [scan.state, scan.found, scan.scanned, scan.infected, scan.notScanned],
    ['done', 12, 12, threats.length, 0],
  );
  for (const id of threats) assert.equal((await client.get(`/v1/assets/${id}`)).body.reason, 'infected');
});
