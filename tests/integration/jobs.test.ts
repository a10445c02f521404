import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { SignJWT } from 'jose';
import { z } from 'zod';
import { deleteObjectJob } from '../../src/assets/jobs/delete-object.ts';
import { openDatabase } from '../../src/database/client.ts';
import { defineJob, type JobContext, LeaseLost } from '../../src/jobs/job.ts';
import { JobQueue } from '../../src/jobs/queue.ts';
import { prepareDatabase } from '../../src/prepare-database.ts';
import { type ObjectStore, ObjectStoreUnavailable } from '../../src/storage/object-store.ts';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { createTestDatabase } from '../support/postgres.ts';
import { startService, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

interface Jobs {
  queues: { queue: string; waiting: number; retrying: number; active: number; deadLetters: number }[];
  deadLetters: { id: string; queue: string; assetId?: string; reason: string; at: string }[];
}

describe('rows of the queue', () => {
  let service: TestService;
  before(async () => {
    service = await startService();
  });
  after(() => service.close());

  test('of jobs that ended an hour ago are gone soon, in all states', async () => {
    await service.query(
      `insert into pgboss.job (name, state, completed_on, deletion_seconds, policy)
       select 'delete-object', state, now() - interval '61 minutes', 3600, 'standard'
       from unnest(array['completed', 'failed', 'cancelled']::pgboss.job_state[]) as state, generate_series(1, 50)`,
    );
    // As it will be ten minutes after the last look.
    await service.query("update pgboss.queue set maintain_on = now() - interval '601 seconds'");
    await waitUntil(
      async () => (await service.query("select 1 from pgboss.job where name = 'delete-object'")).length === 0,
    );
  });

  test('of what was done are kept for a day at most, in every queue', async () => {
    const kept = await service.query<{ name: string; deletion_seconds: number }>(
      "select name, deletion_seconds from pgboss.queue where name not like '\\_\\_%'",
    );
    assert.ok(kept.length > 10);
    assert.deepEqual(
      kept.filter(({ deletion_seconds: seconds }) => !(seconds > 0 && seconds <= 24 * 3600)),
      [],
    );
  });

  test('are counted for metrics without reading the table, up to a bound', async () => {
    await service.query(
      `insert into pgboss.job (name, state, start_after, completed_on, policy)
       select 'delete-object', case when n <= 12000 then 'created' else 'completed' end::pgboss.job_state,
         now() + interval '1 day', case when n > 12000 then now() end, 'standard'
       from generate_series(1, 30000) as n`,
    );
    await service.query('analyze pgboss.job');
    const [depth] = (await service.service.core.jobs.depths()).filter(({ queue }) => queue === 'delete-object');
    assert.equal(depth?.waiting, 10_000);
    await service.query("delete from pgboss.job where name = 'delete-object'");
  });
});

describe('jobs', () => {
  let service: TestService;
  /** While true, the store deletes nothing. */
  let stuck = false;
  before(async () => {
    const wrapStore = (store: ObjectStore): ObjectStore =>
      new Proxy(store, {
        get: (target, name) => {
          const value = Reflect.get(target, name);
          if (name === 'deleteAll' && stuck) return () => Promise.reject(new ObjectStoreUnavailable('stuck'));
          return typeof value === 'function' ? value.bind(target) : value;
        },
      });
    service = await startService({ wrapStore, env: { REQUESTS_PER_MINUTE: '0' } });
  });
  after(() => service.close());

  const jobsOf = async (client: Client) => (await client.get('/v1/admin/jobs')).body as unknown as Jobs;
  const deletions = ({ queues }: Jobs) => queues.find(({ queue }) => queue === 'delete-object');

  test('a job that fails is tried again, becomes a dead letter after its last try, and can be sent again', async () => {
    const client = new Client(service.url);
    stuck = true;
    const { body } = await client.raw(png(300));
    assert.equal((await client.request('DELETE', `/v1/assets/${body.id}?permanent=true`)).status, 204);
    await waitUntil(async () => deletions(await jobsOf(client))?.retrying === 1);

    // All tries but the last are over, and so is the pause before that one.
    await service.query(
      "update pgboss.job set retry_count = retry_limit - 1, start_after = now() where name = 'delete-object'",
    );
    const jobs = await waitUntil(async () => {
      await service.query("update pgboss.job set start_after = now() where name = 'delete-object'");
      const found = await jobsOf(client);
      // Counted by another statement, a moment apart.
      return found.deadLetters.length > 0 && deletions(found)?.deadLetters === 1 ? found : undefined;
    });
    assert.ok(jobs);
    const [letter] = jobs.deadLetters;
    assert.equal(letter?.queue, 'delete-object');
    assert.equal(letter.assetId, body.id);
    assert.equal(letter.reason, 'object-store-unavailable');
    assert.match(await service.service.metrics.registry.metrics(), /stowage_job_dead_letters\S* 1/);

    stuck = false;
    const none = await client.send('POST', '/v1/admin/jobs/delete-object/retry', { ids: [randomUUID()] });
    assert.deepEqual(none.body, { retried: 0 });
    const answer = await client.send('POST', '/v1/admin/jobs/delete-object/retry', { ids: [letter.id] });
    assert.deepEqual(answer.body, { retried: 1 });
    await waitUntil(async () => (await service.query('select 1 from assets where id = $1', [body.id])).length === 0);
    assert.equal((await jobsOf(client)).deadLetters.length, 0);
  });

  test('an unknown queue, a bad id and a superfluous field are 400', async () => {
    const client = new Client(service.url);
    for (const [path, body] of [
      ['/v1/admin/jobs/unknown/retry', {}],
      ['/v1/admin/jobs/reconcile/retry', { ids: ['1'] }],
      ['/v1/admin/jobs/reconcile/retry', { ids: [] }],
      ['/v1/admin/jobs/reconcile/retry', { all: true }],
    ] as const) {
      assert.equal((await client.send('POST', path, body)).status, 400, path);
    }
  });

  test('a transaction that is rolled back leaves no job', async () => {
    const queue = new JobQueue({ database: service.database, work: false, onError: () => {} });
    await queue.start();
    const assetId = randomUUID();
    const sent = service.database.transact(async (transaction) => {
      await queue.send(transaction, deleteObjectJob, { assetId });
      throw new Error('no');
    });
    await assert.rejects(sent, /no/);
    const rows = await service.query("select 1 from pgboss.job where data ->> 'assetId' = $1", [assetId]);
    assert.deepEqual(rows, []);
    await queue.stop(1000);
  });
});

describe('jobs and their roles', () => {
  test('the admin routes ask for the scope admin', async (context) => {
    const secret = 'a secret of at least thirty-two bytes';
    const service = await startService({ env: { AUTH_JWT_SECRET: secret } });
    context.after(() => service.close());
    const token = (scope: string) =>
      new SignJWT({ sub: 'alice', scope })
        .setProtectedHeader({ alg: 'HS256' })
        .setExpirationTime('1m')
        .sign(Buffer.from(secret));
    for (const [scope, expected] of [
      ['', 403],
      ['admin', 200],
    ] as const) {
      const headers = { authorization: `Bearer ${await token(scope)}`, 'content-type': 'application/json' };
      const { status } = await fetch(`${service.url}/v1/admin/jobs`, { headers });
      assert.equal(status, expected);
      const retry = await fetch(`${service.url}/v1/admin/jobs/reconcile/retry`, {
        method: 'POST',
        headers,
        body: '{}',
      });
      assert.equal(retry.status, expected);
    }
  });

  test('ROLE=api enqueues, ROLE=worker does it and serves no API', async (context) => {
    const api = await startService({ env: { ROLE: 'api', DATABASE_URL: 'postgres://unused/unused' } });
    context.after(() => api.close());
    const client = new Client(api.url);
    const { body } = await client.raw(png(300));
    await client.request('DELETE', `/v1/assets/${body.id}?permanent=true`);
    const record = () => api.query('select state from assets where id = $1', [body.id]);
    const waiting = (await client.get('/v1/admin/jobs')).body as unknown as Jobs;
    assert.equal(waiting.queues.find(({ queue }) => queue === 'delete-object')?.waiting, 1);
    assert.deepEqual(await record(), [{ state: 'deleting' }]);

    const worker = await startService({
      beside: api,
      env: { ROLE: 'worker', DATABASE_URL: 'postgres://unused/unused' },
    });
    context.after(() => worker.close());
    await waitUntil(async () => (await record()).length === 0);
    assert.equal((await fetch(`${worker.url}/v1/assets`)).status, 404);
    assert.equal((await fetch(`${worker.url}/readyz`)).status, 200);
  });
});

describe('the job queue', () => {
  let url: string;
  const closers: (() => Promise<unknown>)[] = [];
  before(async () => {
    const database = await createTestDatabase();
    closers.push(database.drop);
    url = database.url;
    await prepareDatabase(url);
  });
  after(async () => {
    for (const close of closers.reverse()) await close();
  });

  type Run = (data: { assetId: string }, context: JobContext) => Promise<void>;

  async function openQueue(): Promise<{
    queue: JobQueue;
    database: ReturnType<typeof openDatabase>;
    work: (run: Run) => Promise<void>;
  }> {
    const database = openDatabase({ url, connections: 4, timeout: 60_000, onError: () => {} });
    closers.push(() => database.close());
    let run: Run = async () => {};
    const job = defineJob({
      ...deleteObjectJob,
      data: z.object({ assetId: z.string() }),
      concurrency: 16,
      run: (data, context) => run(data, context),
    });
    const queue = new JobQueue({ database, jobs: [job], work: true, onError: () => {} });
    await queue.start();
    closers.push(() => queue.stop(1000));
    return {
      queue,
      database,
      work: (chosen) => {
        run = chosen;
        return queue.work(undefined);
      },
    };
  }

  test('a worker that was away past its lease cannot write its late result', async () => {
    const [paused, other] = [await openQueue(), await openQueue()];
    const assetId = randomUUID();
    const [taken, released, refused, second] = Array.from({ length: 4 }, () => Promise.withResolvers<unknown>());
    await paused.work(async (data, { fence }) => {
      if (data.assetId !== assetId) return;
      taken?.resolve(undefined);
      await released?.promise;
      await paused.database
        .transact(async (transaction) => fence(transaction))
        .then(() => refused?.resolve('it was let through'), refused?.resolve);
    });
    await paused.database.transact((transaction) => paused.queue.send(transaction, deleteObjectJob, { assetId }));
    await taken?.promise;
    await other.work(async (data, { fence }) => {
      if (data.assetId !== assetId) return;
      await other.database.transact(async (transaction) => fence(transaction));
      second?.resolve(undefined);
      // The first one awakes while this one is still at it.
      released?.resolve(undefined);
      await refused?.promise;
    });
    const state = async () =>
      (await other.database.pool.query("select state from pgboss.job where data ->> 'assetId' = $1", [assetId])).rows[0]
        ?.state;
    // As long as nobody else has it, its last sign of life is long ago.
    await waitUntil(async () => {
      await other.database.pool.query(
        "update pgboss.job set heartbeat_on = now() - interval '1 hour' where data ->> 'assetId' = $1 and retry_count = 0",
        [assetId],
      );
      return Promise.race([second?.promise.then(() => true), state().then(() => false)]);
    });
    assert.ok((await refused?.promise) instanceof LeaseLost);
    await waitUntil(async () => (await state()) === 'completed');
    await Promise.all([paused.queue.stop(1000), other.queue.stop(1000)]);
  });

  test('stop lets a running job finish, or hands it back when it takes too long', async () => {
    const { queue, database, work } = await openQueue();
    const [quick, slow] = [randomUUID(), randomUUID()];
    const started = new Set<string>();
    const stopping = Promise.withResolvers<void>();
    let finished = false;
    await work(async ({ assetId }, { signal }) => {
      started.add(assetId);
      if (assetId === slow)
        await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
      await stopping.promise;
      finished = true;
    });
    await database.transact((transaction) =>
      queue.sendAll(transaction, deleteObjectJob, [{ assetId: quick }, { assetId: slow }]),
    );
    await waitUntil(() => started.size === 2);
    const stopped = queue.stop(5000);
    stopping.resolve();
    await stopped;
    assert.ok(finished);
    const { rows } = await database.pool.query("select state from pgboss.job where data ->> 'assetId' = $1", [slow]);
    assert.match(rows[0].state, /^(retry|failed)$/);
  });
});
