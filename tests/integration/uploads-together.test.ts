import assert from 'node:assert/strict';
import { createHash, randomUUID } from 'node:crypto';
import { after, before, describe, type TestContext, test } from 'node:test';
import type { Executor } from '../../src/database/client.ts';
import { UploadLimit } from '../../src/http/upload-limit.ts';
import { Arrivals } from '../../src/uploads/arrivals.ts';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { startService, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

type Run = Executor['run'];

describe('uploads to one account', () => {
  let service: TestService;
  before(async () => {
    service = await startService({ env: { REQUESTS_PER_MINUTE: '0' } });
  });
  after(() => service.close());

  const callerOf = () => new Client(service.url, `user-${randomUUID()}`);
  const upload = (client: Client, index: number, fields: Record<string, string> = {}) =>
    client.raw(png(1000 + index, index), { fields });

  /** Runs each statement of that name by `run` until the test ends. */
  function intercept(context: TestContext, name: string, run: (number: number, work: () => Promise<never>) => unknown) {
    const { database } = service.service.core.database;
    const actual = database.run;
    let count = 0;
    const intercepted = (statement: Parameters<Run>[0], values: never) => {
      const work = () => actual(statement, values) as Promise<never>;
      return statement.name === name ? run(++count, work) : work();
    };
    database.run = intercepted as Run;
    context.after(() => {
      database.run = actual;
    });
    return { count: () => count };
  }

  /** The first waits until so many have come that are to begin, or to become assets. */
  function gather(context: TestContext, step: 'begin' | 'settle', expected: number) {
    const submitted = context.mock.method(Arrivals.prototype, step).mock;
    return intercept(context, `${step}-uploads`, async (number, work) => {
      if (number === 1) await waitUntil(() => submitted.callCount() === expected);
      return work();
    });
  }

  async function recordsOf(client: Client) {
    return service.query<{ sha256: string; request_id: string; state: string; size: string }>(
      `select encode(sha256, 'hex') as sha256, request_id, state, size from assets
      join audit_events on asset_id = assets.id and action = 'asset.uploaded' where assets.owner_id = $1 order by size`,
      [client.headers['x-user-id']],
    );
  }

  for (const step of ['begin', 'settle'] as const) {
    test(`that come while one is to ${step} do so by one statement, each as itself`, async (context) => {
      const client = callerOf();
      const statements = gather(context, step, 5);
      const answers = await Promise.all([0, 1, 2, 3, 4].map((index) => upload(client, index)));
      assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([201]));
      assert.equal(statements.count(), 2);
      const expected = answers.map(({ headers, body }, index) => ({
        sha256: createHash('sha256')
          .update(png(1000 + index, index))
          .digest('hex'),
        request_id: headers.get('x-request-id'),
        state: 'ready',
        size: String(body.size),
      }));
      assert.deepEqual(await recordsOf(client), expected);
      const { body } = await client.get('/v1/quota');
      assert.deepEqual([body['used'], body['reserved'], body['fileCount']], [5010, 0, 5]);
    });

    test(`whose answer was lost when they ${step} are there once`, async (context) => {
      const client = callerOf();
      intercept(context, `${step}-uploads`, async (number, work) => {
        const result = await work();
        if (number <= 2) throw Object.assign(new Error('lost'), { code: 'ECONNRESET' });
        return result;
      });
      const answers = await Promise.all([0, 1, 2].map((index) => upload(client, index)));
      assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([201]));
      assert.equal((await recordsOf(client)).length, 3);
      const { body } = await client.get('/v1/quota');
      assert.deepEqual([body['used'], body['reserved'], body['fileCount']], [3003, 0, 3]);
    });
  }

  test('that come together and have not all room are stored as far as there is some', async (context) => {
    const client = callerOf();
    await client.send('PUT', `/v1/admin/quotas/${client.headers['x-user-id']}`, { limit: 3100 });
    gather(context, 'begin', 5);
    const answers = await Promise.all([0, 0, 0, 0, 0].map((index) => upload(client, index)));
    assert.deepEqual(answers.map(({ status }) => status).sort(), [201, 201, 201, 403, 403]);
    const { body } = await client.get('/v1/quota');
    assert.deepEqual([body['used'], body['reserved'], body['fileCount']], [3000, 0, 3]);
  });

  test('are stored though the project of one of them has gone meanwhile', async (context) => {
    const client = callerOf();
    const project = `project-${randomUUID()}`;
    assert.equal((await client.send('POST', '/v1/projects', { id: project, name: 'p' })).status, 201);
    const submitted = context.mock.method(Arrivals.prototype, 'begin').mock;
    intercept(context, 'begin-uploads', async (number, work) => {
      if (number === 1) {
        await waitUntil(() => submitted.callCount() === 4);
        await service.query('delete from projects where id = $1', [project]);
      }
      return work();
    });
    const first = upload(client, 0);
    await waitUntil(() => submitted.callCount() === 1);
    const others = [upload(client, 1), upload(client, 2, { projectId: project }), upload(client, 3)];
    const statuses = (await Promise.all([first, ...others])).map(({ status }) => status);
    assert.deepEqual(statuses, [201, 201, 404, 201]);
  });

  test('do not wait for those to another account', async (context) => {
    const gate = Promise.withResolvers<void>();
    const statements = intercept(context, 'begin-uploads', async (number, work) => {
      if (number === 1) await gate.promise;
      return work();
    });
    const waiting = upload(callerOf(), 0);
    await waitUntil(() => statements.count() === 1);
    assert.equal((await upload(callerOf(), 1)).status, 201);
    gate.resolve();
    assert.equal((await waiting).status, 201);
  });

  test('of one caller are counted by one statement, each for itself', async (context) => {
    const client = callerOf();
    const submitted = context.mock.method(UploadLimit.prototype, 'count').mock;
    const statements = intercept(context, 'count-uploads', async (number, work) => {
      if (number === 1) await waitUntil(() => submitted.callCount() === 4);
      return work();
    });
    const answers = await Promise.all([0, 1, 2, 3].map((index) => upload(client, index)));
    const left = answers.map(({ headers }) => Number(headers.get('ratelimit-remaining')));
    const most = Math.max(...left);
    assert.deepEqual(new Set(left), new Set([most, most - 1, most - 2, most - 3]));
    assert.equal(statements.count(), 2);
  });
});
