/** What happens when several want the same at the same time, over two instances. On both object stores. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { request } from 'node:http';
import { after, before, describe, test } from 'node:test';
import { AssetDeletions } from '../../src/assets/deletions.ts';
import { purgeAssets } from '../../src/assets/jobs/purge-assets.ts';
import { JobQueue } from '../../src/jobs/queue.ts';
import { Client } from '../support/client.ts';
import { glb, png } from '../support/files.ts';
import { startService, storeKinds, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

const MiB = 1024 * 1024;
const YEAR = 365 * 24 * 3600 * 1000;

for (const { store, skip } of storeKinds) {
  describe(`at the same time, on ${store}`, { skip }, () => {
    let one: TestService;
    let two: TestService;
    let jobs: JobQueue;
    before(async () => {
      const env = {
        REQUESTS_PER_MINUTE: '0',
        UPLOADS_PER_HOUR: '0',
        UPLOAD_LEASE: '4s',
        RECONCILE_GRACE: '0s',
        PART_SIZE: '5MiB',
        MIN_UPLOAD_RATE: '0',
      };
      one = await startService({ store, env });
      two = await startService({ store, env, beside: one });
      jobs = new JobQueue({ database: one.database, work: false, onError: () => {} });
      await jobs.start();
      await new Client(one.url, 'bystander').raw(png());
    });
    after(async () => {
      await jobs.stop(1000);
      await two.close();
      await one.close();
    });

    /** The same caller at both instances in turn. */
    function callers(): Client[] {
      const owner = `owner-${randomUUID()}`;
      return [new Client(one.url, owner), new Client(two.url, owner)];
    }
    const pick = (clients: Client[], index: number) => clients[index % clients.length] ?? assert.fail();
    const actions = async (id: string) =>
      (
        await one.query<{ action: string }>('select action from audit_events where asset_id = $1 order by id', [id])
      ).map(({ action }) => action);
    const gone = (id: string) =>
      waitUntil(async () => (await one.query('select 1 from assets where id = $1', [id])).length === 0);

    function purge(): Promise<unknown> {
      return purgeAssets(
        {
          deletions: new AssetDeletions(one.database, jobs),
          trashRetention: 30,
          now: () => new Date(Date.now() + YEAR),
        },
        { id: randomUUID(), signal: new AbortController().signal, fence: async () => {} },
      );
    }

    test('of twenty permanent deletions one deletes, the others find nothing, and the quota is freed once', async () => {
      const clients = callers();
      const [client = assert.fail()] = clients;
      const kept = await client.raw(png(700, 1));
      const { body } = await client.raw(png(300, 2));
      const statuses = await Promise.all(
        Array.from({ length: 20 }, async (_, index) => {
          const { status } = await pick(clients, index).request('DELETE', `/v1/assets/${body.id}?permanent=true`);
          return status;
        }),
      );
      assert.equal(statuses.filter((status) => status === 204).length, 1, statuses.join());
      assert.equal(statuses.filter((status) => status === 404).length, 19, statuses.join());
      assert.deepEqual(await actions(body.id), ['asset.uploaded', 'asset.deleted']);
      await gone(body.id);
      assert.equal((await client.get('/v1/quota')).body['used'], 700);
      assert.equal((await client.content(kept.body.id)).status, 200);
    });

    test('deletion against restoring against the purge: one of them has it, and the quota is right', async () => {
      for (let round = 0; round < 10; round++) {
        const clients = callers();
        const [client = assert.fail()] = clients;
        const { body } = await client.raw(png(300, round));
        await client.request('DELETE', `/v1/assets/${body.id}`);
        const [restored, deleted] = await Promise.all([
          pick(clients, round).request('POST', `/v1/assets/${body.id}/restore`),
          pick(clients, round + 1).request('DELETE', `/v1/assets/${body.id}?permanent=true`),
          purge(),
        ]);
        assert.ok([200, 404, 409].includes(restored.status), String(restored.status));
        assert.ok([204, 404].includes(deleted.status), String(deleted.status));
        const ends = (await actions(body.id)).filter((action) => /deleted|purged/.test(action));
        const { status } = await client.get(`/v1/assets/${body.id}`);
        // Restored and not deleted afterwards, or ended exactly once.
        assert.equal(ends.length, status === 200 ? 0 : 1, ends.join());
        assert.equal((await client.get('/v1/quota')).body['used'], status === 200 ? 300 : 0);
        if (status === 200) assert.equal((await client.content(body.id)).status, 200);
        else await gone(body.id);
      }
    });

    test('of twenty renamings with the same If-Match one wins', async () => {
      const clients = callers();
      const [client = assert.fail()] = clients;
      const { body } = await client.raw(png(300, 1));
      const etag = (await client.get(`/v1/assets/${body.id}`)).headers.get('etag') ?? '';
      const answers = await Promise.all(
        Array.from({ length: 20 }, (_, index) =>
          pick(clients, index).send('PATCH', `/v1/assets/${body.id}`, { name: `${index}.png` }, { 'if-match': etag }),
        ),
      );
      const won = answers.filter(({ status }) => status === 200);
      assert.equal(won.length, 1);
      assert.ok(answers.every(({ status }) => status === 200 || status === 412));
      assert.equal((await client.get(`/v1/assets/${body.id}`)).body.name, won[0]?.body.name);
    });

    test('of two reconcilers one runs, the other says so', async () => {
      const outcomes = await Promise.all(
        [one, two, one, two].map(({ service }) => service.reconcile({ dryRun: true })),
      );
      const counts = outcomes.map(({ outcome }) => outcome).sort();
      assert.equal(counts.filter((outcome) => outcome === 'busy').length, 3, counts.join());
      assert.equal((await one.service.reconcile({ dryRun: true })).outcome, 'done');
    });

    test('a slow upload outlives its first lease, and a second one, while the reaper comes by again and again', async () => {
      const [client = assert.fail()] = callers();
      const bytes = glb(6 * MiB, 3);
      const upload = request(`${one.url}/v1/assets/raw/m.glb`, {
        method: 'PUT',
        headers: { ...client.headers, 'content-length': bytes.length },
      });
      const answered = new Promise<number>((resolve, reject) => {
        upload.on('response', (response) => {
          response.resume();
          resolve(response.statusCode ?? 0);
        });
        upload.on('error', reject);
      });
      upload.write(bytes.subarray(0, 5 * MiB + 100_000));
      const owner = client.headers['x-user-id'];
      const lease = async () =>
        (
          await one.query<{ lease: Date }>(
            "select lease_expires_at as lease from assets where owner_id = $1 and state = 'uploading'",
            [owner],
          )
        )[0]?.lease;
      const first = await waitUntil(lease);
      assert.ok(first);
      let sent = 5 * MiB + 100_000;
      // Two leases later, by the clock of the database.
      await waitUntil(async () => {
        upload.write(bytes.subarray(sent, sent + 1000));
        sent += 1000;
        assert.equal((await two.service.reconcile({})).outcome, 'done');
        const now = await lease();
        assert.ok(now, 'the upload was swept');
        return now.getTime() > first.getTime() + 8000;
      });
      upload.end(bytes.subarray(sent));
      assert.equal(await answered, 201);
      const { body } = await client.get('/v1/assets');
      assert.deepEqual((await client.content(body.data[0]?.id ?? '')).body, bytes);
    });

    test('reconciling while files come and go takes nothing away and finds nothing wrong', async () => {
      const clients = callers();
      let over = false;
      const kept = new Map<string, Buffer>();
      const workers = Array.from({ length: 6 }, async (_, index) => {
        for (let round = 0; !over; round++) {
          const client = pick(clients, index + round);
          const isLarge = round % 5 === 4;
          const bytes = isLarge ? glb(6 * MiB, index * 100 + round) : png(500 + index, round);
          const { status, body } = await client.raw(bytes, { name: isLarge ? 'm.glb' : 'p.png' });
          assert.equal(status, 201, JSON.stringify(body));
          if (round % 2) await client.request('DELETE', `/v1/assets/${body.id}?permanent=true`);
          else kept.set(body.id, bytes);
        }
      });
      const reports = [];
      while (reports.length < 8 || kept.size <= 5) reports.push(await one.service.reconcile({}));
      over = true;
      await Promise.all(workers);
      for (const { outcome, report } of reports) {
        assert.equal(outcome, 'done');
        assert.equal(report.newlyLostAssets, 0);
        assert.equal(report.driftedQuotas, 0);
        assert.equal(report.driftedStatistics, 0);
        assert.equal(report.deletedObjects, 0);
      }
      const [client = assert.fail()] = clients;
      for (const [id, bytes] of kept) assert.deepEqual((await client.content(id)).body, bytes);
    });
  });
}
