import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import type { ProblemDocument } from '../../src/problems.ts';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { startService, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

interface Result {
  id: string;
  status: number;
  problem?: ProblemDocument;
}

describe('assets changed at once', () => {
  let service: TestService;
  before(async () => {
    service = await startService({ env: { UPLOADS_PER_HOUR: '0', REQUESTS_PER_MINUTE: '0' } });
  });
  after(() => service.close());

  async function callerWith(count: number): Promise<{ client: Client; ids: string[] }> {
    const client = new Client(service.url, `user-${randomUUID()}`);
    const ids: string[] = [];
    for (let index = 0; index < count; index++) ids.push((await client.raw(png(200 + index, index))).body.id);
    return { client, ids };
  }

  /** Records without bytes. */
  async function insert(owner: string, count: number): Promise<string[]> {
    const rows = await service.query<{ id: string }>(
      `insert into assets (id, owner_id, name, state, asset_type, media_type, size, object_key, created_at, updated_at, stored_whole)
       select gen_random_uuid(), $1, 'f.png', 'ready', 'image', 'image/png', 10, 'users/x/assets/' || gen_random_uuid() || '/original', now(), now(), true
       from generate_series(1, $2::integer) returning id`,
      [owner, count],
    );
    await service.query(
      'insert into quotas (owner_id, used_bytes, file_count) values ($1, $2::bigint * 10, $2::bigint)',
      [owner, count],
    );
    return rows.map(({ id }) => id);
  }

  async function change(client: Client, body: object, headers: Record<string, string> = {}): Promise<Result[]> {
    const answer = await client.send('POST', '/v1/assets/bulk', body, headers);
    assert.equal(answer.status, 200, JSON.stringify(answer.body));
    return answer.body['results'] as Result[];
  }
  const statuses = (results: Result[]) => results.map(({ status }) => status);
  const actions = async (client: Client) =>
    (
      await service.query<{ action: string; count: number }>(
        `select action, count(*)::integer from audit_events where actor_id = $1 and action <> 'asset.uploaded' group by 1 order by 1`,
        [client.headers['x-user-id']],
      )
    ).map(({ action, count }) => [action, count]);

  test('go to the trash, come out of it, and are deleted for good, with an audit row for each change', async () => {
    const { client, ids } = await callerWith(3);
    const [first = '', second = '', third = ''] = ids;
    assert.deepEqual(statuses(await change(client, { action: 'trash', ids })), [200, 200, 200]);
    assert.deepEqual(statuses(await change(client, { action: 'delete', ids })), [200, 200, 200]);
    assert.equal((await client.get('/v1/assets')).body.data.length, 0);
    const restored = await change(client, { action: 'restore', ids: [second, first] });
    assert.deepEqual(restored, [
      { id: second, status: 200 },
      { id: first, status: 200 },
    ]);
    const again = await change(client, { action: 'restore', ids });
    assert.deepEqual(statuses(again), [409, 409, 200]);
    assert.equal(again[0]?.problem?.type, 'urn:stowage:problem:wrong-state');
    await change(client, { action: 'trash', ids: [third] });
    const deleted = await change(client, { action: 'delete', permanent: true, ids });
    assert.deepEqual(statuses(deleted), [200, 200, 200]);
    assert.deepEqual(await actions(client), [
      ['asset.deleted', 3],
      ['asset.restored', 3],
      ['asset.trashed', 4],
    ]);
    const { body } = await client.get('/v1/quota');
    assert.equal(body['used'], 0);
    assert.equal(body['fileCount'], 0);
    await waitUntil(async () => {
      const left = await service.query('select from assets where id = any($1::uuid[])', [ids]);
      return left.length === 0;
    });
    for await (const page of service.store.list('', {}))
      for (const { key } of page) assert.ok(!ids.some((id) => key.includes(id)), key);
  });

  test('an unknown id and a foreign one have the same outcome, and nothing happens to the foreign one', async () => {
    const { client, ids } = await callerWith(1);
    const foreign = await callerWith(1);
    const [id = ''] = ids;
    const [theirs = ''] = foreign.ids;
    for (const action of ['trash', 'restore', 'delete'])
      for (const permanent of action === 'delete' ? [true, false] : [false]) {
        const unknown = randomUUID();
        const results = await change(client, { action, permanent, ids: [unknown, id, theirs] });
        assert.equal(results[0]?.status, 404);
        assert.deepEqual({ ...results[0], id: theirs }, results[2]);
      }
    assert.equal((await foreign.client.get(`/v1/assets/${theirs}`)).status, 200);
    assert.deepEqual(await actions(foreign.client), []);
    const [one] = await change(client, { action: 'trash', ids: [theirs] });
    const single = await client.request('DELETE', `/v1/assets/${theirs}`);
    assert.equal(one?.problem?.detail, single.body.detail);
  });

  test('an id that is named twice, however it is written, is changed once', async () => {
    const { client, ids } = await callerWith(1);
    const [id = ''] = ids;
    const results = await change(client, { action: 'delete', permanent: true, ids: [id, id.toUpperCase(), id] });
    assert.deepEqual(results, Array(3).fill({ id, status: 200 }));
    assert.deepEqual(await actions(client), [['asset.deleted', 1]]);
    assert.equal((await client.get('/v1/quota')).body['fileCount'], 0);
    assert.deepEqual(statuses(await change(client, { action: 'delete', permanent: true, ids })), [404]);
  });

  test('a request that is not valid changes nothing', async () => {
    const { client, ids } = await callerWith(1);
    const many = Array.from({ length: 1001 }, () => randomUUID());
    for (const body of [
      {},
      { action: 'trash' },
      { ids },
      { action: 'trash', ids: [] },
      { action: 'trash', ids: [...ids, 'x'] },
      { action: 'trash', ids: [...ids, null] },
      { action: 'trash', ids: ids[0] },
      { action: 'trash', ids: { 0: ids[0] } },
      { action: 'trash', ids: many },
      { action: 'purge', ids },
      { action: 'trash', permanent: true, ids },
      { action: 'delete', permanent: 'true', ids },
      { action: 'delete', ids, force: true },
      [],
      'trash',
    ]) {
      const answer = await client.send('POST', '/v1/assets/bulk', body);
      assert.equal(answer.status, 400, JSON.stringify(body).slice(0, 200));
    }
    assert.equal(
      (await client.send('POST', '/v1/assets/bulk', { action: 'trash', ids: Array(5000).fill(ids[0]) })).status,
      413,
    );
    assert.equal((await client.get('/v1/assets')).body.data.length, 1);
  });

  test('a thousand are deleted, and the quota is free to the byte', async () => {
    const client = new Client(service.url, 'thousand');
    const ids = await insert('thousand', 1000);
    const results = await change(client, { action: 'delete', permanent: true, ids });
    assert.deepEqual(
      results,
      ids.map((id) => ({ id, status: 200 })),
    );
    assert.equal((await client.get('/v1/quota')).body['used'], 0);
    await waitUntil(
      async () => (await service.query("select from assets where owner_id = 'thousand' limit 1")).length === 0,
      { timeout: 30_000 },
    );
  });

  test('requests for the same assets at the same time change each once', async () => {
    const client = new Client(service.url, 'racer');
    const ids = await insert('racer', 200);
    const orders = [ids, ids.toReversed(), [...ids.slice(100), ...ids.slice(0, 100)], ids];
    const all = await Promise.all([
      ...orders.map((each) => change(client, { action: 'delete', permanent: true, ids: each })),
      ...ids.slice(0, 20).map(async (id) => {
        const { status } = await client.request('DELETE', `/v1/assets/${id}?permanent=true`);
        return [{ id, status: status === 204 ? 200 : status }];
      }),
    ]);
    const done = all.flat().filter(({ status }) => status === 200);
    assert.ok(all.flat().every(({ status }) => status === 200 || status === 404));
    assert.equal(done.length, ids.length);
    assert.deepEqual(new Set(done.map(({ id }) => id)), new Set(ids));
    assert.deepEqual(await actions(client), [['asset.deleted', 200]]);
    const { body } = await client.get('/v1/quota');
    assert.deepEqual([body['used'], body['fileCount']], [0, 0]);
  });

  test('a request that is sent again under its key has no further effect and the same answer', async () => {
    const { client, ids } = await callerWith(2);
    const body = { action: 'delete', permanent: true, ids: [...ids, randomUUID()] };
    const headers = { 'idempotency-key': randomUUID() };
    const first = await client.send('POST', '/v1/assets/bulk', body, headers);
    const second = await client.send('POST', '/v1/assets/bulk', body, headers);
    assert.equal(second.headers.get('idempotency-replayed'), 'true');
    assert.deepEqual(second.body, first.body);
    assert.deepEqual(statuses(first.body['results'] as Result[]), [200, 200, 404]);
    const other = await client.send('POST', '/v1/assets/bulk', { ...body, permanent: false }, headers);
    assert.equal(other.status, 422);
  });

  test('a commit whose answer is lost is not told as nothing', async () => {
    const { client, ids } = await callerWith(2);
    const { core } = service.service;
    const { transact } = core.database;
    let lost = 0;
    core.database.transact = async (work) => {
      const result = await transact(work);
      if (lost++ === 0) throw Object.assign(new Error('lost'), { code: 'ECONNRESET' });
      return result;
    };
    try {
      const results = await change(client, { action: 'delete', permanent: true, ids: [...ids, randomUUID()] });
      assert.deepEqual(statuses(results), [200, 200, 404]);
      assert.equal(lost, 2);
    } finally {
      core.database.transact = transact;
    }
    assert.deepEqual(await actions(client), [['asset.deleted', 2]]);
  });

  test('count as so many requests', async () => {
    const limited = await startService({ beside: service, env: { REQUESTS_PER_MINUTE: '50' } });
    try {
      const client = new Client(limited.url, 'counted');
      const ids = Array.from({ length: 30 }, () => randomUUID());
      assert.equal((await change(client, { action: 'trash', ids })).length, 30);
      assert.equal((await change(client, { action: 'trash', ids })).length, 30);
      const answer = await client.send('POST', '/v1/assets/bulk', { action: 'trash', ids });
      assert.equal(answer.status, 429);
      assert.ok(Number(answer.headers.get('retry-after')) > 0);
      assert.equal((await client.get('/v1/assets')).status, 429);
      assert.equal((await new Client(limited.url, 'other').get('/v1/assets')).status, 200);
    } finally {
      await limited.close();
    }
  });

  test('get and lose tags, those that have too many keep what they have', async () => {
    const { client, ids } = await callerWith(3);
    const [first = '', second = '', third = ''] = ids;
    const many = Array.from({ length: 49 }, (_, index) => `t${index}`);
    await client.send('PATCH', `/v1/assets/${second}`, { tags: many });
    await client.send('PATCH', `/v1/assets/${first}`, { tags: ['old', 'x'] });
    await client.request('DELETE', `/v1/assets/${third}`);
    const results = await change(client, { action: 'tag', addTags: ['New', 'x'], removeTags: ['old'], ids });
    assert.deepEqual(statuses(results), [200, 400, 409]);
    const tagsOf = async (id: string) => (await client.get(`/v1/assets/${id}`)).body.tags;
    assert.deepEqual(await tagsOf(first), ['new', 'x']);
    assert.equal((await tagsOf(second))?.length, 49);
    const before = (await client.get(`/v1/assets/${first}`)).headers.get('etag');
    assert.deepEqual(statuses(await change(client, { action: 'tag', addTags: ['x'], ids: [first] })), [200]);
    // Nothing was to be changed.
    assert.equal((await client.get(`/v1/assets/${first}`)).headers.get('etag'), before);
    const [row] = await service.query<{ detail: object }>(
      `select detail from audit_events where asset_id = $1 and action = 'asset.updated' order by id desc limit 1`,
      [first],
    );
    assert.deepEqual(row?.detail, { name: 'photo.png', addedTags: ['new'], removedTags: ['old'] });
  });

  test('are moved to a folder and into a project, whose quota takes all of them or none', async () => {
    const { client, ids } = await callerWith(3);
    const owner = client.headers['x-user-id'];
    assert.deepEqual(statuses(await change(client, { action: 'move', path: 'a/b', ids })), [200, 200, 200]);
    const records = async () => Promise.all(ids.map(async (id) => (await client.get(`/v1/assets/${id}`)).body));
    for (const { path } of await records()) assert.equal(path, 'a/b/');
    const projectId = `bulk-${randomUUID()}`;
    const moved = await change(client, { action: 'move', projectId, path: '', ids });
    assert.deepEqual(statuses(moved), [200, 200, 200]);
    for (const body of await records()) assert.deepEqual([body.path, body.projectId], [undefined, projectId]);
    const tight = `bulk-${randomUUID()}`;
    await client.send('POST', '/v1/projects', { id: tight, name: 'Tight' });
    const total = (await records()).reduce((sum, { size }) => sum + size, 0);
    const limit = (bytes: number) =>
      service.query(
        `insert into quotas (owner_id, limit_bytes) values ($1, $2) on conflict (owner_id) do update set limit_bytes = $2`,
        [`project:${tight}`, bytes],
      );
    await limit(total - 1);
    const refused = await change(client, { action: 'move', projectId: tight, ids });
    assert.deepEqual(statuses(refused), [403, 403, 403]);
    assert.equal(refused[0]?.problem?.type, 'urn:stowage:problem:quota-exceeded');
    await limit(total);
    assert.deepEqual(statuses(await change(client, { action: 'move', projectId: tight, ids })), [200, 200, 200]);
    const used = async () =>
      service.query<{ account: string; used: number }>(
        'select owner_id as account, used_bytes::integer as used from quotas where owner_id = any($1) order by 1',
        [[owner, `project:${tight}`]],
      );
    assert.deepEqual(
      await used(),
      [
        { account: owner, used: 0 },
        { account: `project:${tight}`, used: total },
      ].sort((a, b) => String(a.account).localeCompare(String(b.account))),
    );
    assert.deepEqual(statuses(await change(client, { action: 'move', projectId: null, ids })), [200, 200, 200]);
    assert.equal((await used()).find(({ account }) => account === owner)?.used, total);
    const stranger = await callerWith(0);
    const foreign = await change(stranger.client, { action: 'move', path: 'x/', ids });
    assert.deepEqual(statuses(foreign), [404, 404, 404]);
  });

  test('what does not belong to the action, or is missing, is named', async () => {
    const { client, ids } = await callerWith(1);
    for (const [body, pointer] of [
      [{ action: 'tag' }, '/action'],
      [{ action: 'move' }, '/action'],
      [{ action: 'trash', path: 'a/' }, '/path'],
      [{ action: 'tag', addTags: ['a'], projectId: 'p' }, '/projectId'],
      [{ action: 'move', path: '../a' }, '/path'],
    ] as const) {
      const { status, body: problem } = await client.send('POST', '/v1/assets/bulk', { ...body, ids });
      assert.deepEqual([status, problem.errors?.[0]?.pointer], [400, pointer], JSON.stringify(problem));
    }
  });
});
