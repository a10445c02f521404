import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, type TestContext, test } from 'node:test';
import { AssetDeletions } from '../../src/assets/deletions.ts';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { startService, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

describe('deletions of one owner', () => {
  let service: TestService;
  before(async () => {
    service = await startService({ env: { UPLOADS_PER_HOUR: '0', REQUESTS_PER_MINUTE: '0' } });
  });
  after(() => service.close());

  async function callerWith(count: number): Promise<{ client: Client; ids: string[] }> {
    const client = new Client(service.url, `user-${randomUUID()}`);
    const ids: string[] = [];
    while (ids.length < count) ids.push((await client.raw(png(300, ids.length))).body.id);
    return { client, ids };
  }
  const remove = (client: Client, id: string, headers: Record<string, string> = {}) =>
    client.request('DELETE', `/v1/assets/${id}?permanent=true`, { headers });
  const left = (ids: string[]) => service.query('select from assets where id = any($1::uuid[])', [ids]);
  const deletedBy = async (client: Client) => {
    const rows = await service.query<{ asset_id: string; request_id: string }>(
      "select asset_id, request_id from audit_events where actor_id = $1 and action = 'asset.deleted'",
      [client.headers['x-user-id']],
    );
    return new Map(rows.map(({ asset_id, request_id }) => [asset_id, request_id]));
  };

  /** Runs each transaction of requests by `run` until the test ends. */
  function intercept(context: TestContext, run: (number: number, commit: () => Promise<unknown>) => Promise<unknown>) {
    const { database } = service.service.core;
    const { transact } = database;
    let count = 0;
    database.transact = (async (work) => run(++count, () => transact(work))) as typeof transact;
    context.after(() => {
      database.transact = transact;
    });
    return { count: () => count };
  }

  test('that come while one is under way are one transaction, each with its own outcome and audit row', async (context) => {
    const { client, ids } = await callerWith(5);
    const [first = '', second = '', third = '', changed = '', kept = ''] = ids;
    const gate = Promise.withResolvers<void>();
    const transactions = intercept(context, async (number, commit) => {
      if (number === 1) await gate.promise;
      return commit();
    });
    const submitted = context.mock.method(AssetDeletions.prototype, 'delete').mock;

    const { etag } = Object.fromEntries((await client.get(`/v1/assets/${changed}`)).headers);
    const answers = [remove(client, first)];
    await waitUntil(() => transactions.count() === 1);
    answers.push(
      remove(client, second),
      remove(client, third.toUpperCase()),
      remove(client, third),
      remove(client, randomUUID()),
      remove(client, changed, { 'if-match': etag ?? '' }),
    );
    await waitUntil(() => submitted.callCount() === answers.length);
    assert.equal((await client.send('PATCH', `/v1/assets/${changed}`, { name: 'other.png' })).status, 200);
    assert.equal(transactions.count(), 1);
    gate.resolve();

    const settled = await Promise.all(answers);
    const [one, two, three, threeAgain, unknown, stale] = settled.map(({ status }) => status);
    assert.deepEqual([one, two, unknown, stale], [204, 204, 404, 412]);
    assert.deepEqual([three, threeAgain].sort(), [204, 404]);
    assert.equal(transactions.count(), 2);
    const requestIds = settled.filter(({ status }) => status === 204).map(({ headers }) => headers.get('x-request-id'));
    const audited = await deletedBy(client);
    assert.deepEqual([...audited.keys()].sort(), [first, second, third].sort());
    assert.deepEqual([...audited.values()].sort(), requestIds.sort());
    assert.equal((await client.get('/v1/quota')).body['used'], 600);
    await waitUntil(async () => (await left([first, second, third])).length === 0);
    assert.equal((await left([changed, kept])).length, 2);
  });

  test('do not wait for those of another owner', async (context) => {
    const alice = await callerWith(1);
    const bob = await callerWith(1);
    const gate = Promise.withResolvers<void>();
    const transactions = intercept(context, async (number, commit) => {
      if (number === 1) await gate.promise;
      return commit();
    });
    const waiting = remove(alice.client, alice.ids[0] ?? '');
    await waitUntil(() => transactions.count() === 1);
    assert.equal((await remove(bob.client, bob.ids[0]?.toUpperCase() ?? '')).status, 204);
    gate.resolve();
    assert.equal((await waiting).status, 204);
  });

  test('under a key are made alone, and their answers with them', async (context) => {
    const { client, ids } = await callerWith(2);
    const transactions = intercept(context, (_number, commit) => commit());
    const statuses = await Promise.all(
      ids.map(async (id) => (await remove(client, id, { 'idempotency-key': randomUUID() })).status),
    );
    assert.deepEqual(statuses, [204, 204]);
    assert.equal(transactions.count(), 2);
  });

  test('whose commit took effect and whose answer was lost are done, and what never was there is not', async (context) => {
    const { client, ids } = await callerWith(2);
    const lose = async (number: number, commit: () => Promise<unknown>) => {
      const result = await commit();
      if (number <= 2) throw Object.assign(new Error('lost'), { code: 'ECONNRESET' });
      return result;
    };
    intercept(context, lose);
    const answers = await Promise.all([...ids, randomUUID()].map((id) => remove(client, id)));
    assert.deepEqual(
      answers.map(({ status }) => status),
      [204, 204, 404],
    );
    assert.equal((await deletedBy(client)).size, 2);
    assert.equal((await client.get('/v1/quota')).body['used'], 0);
  });
});
