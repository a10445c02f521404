/** Emptying the trash: a job that deletes what was there, and nothing else, also when its worker dies on the way. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { AssetDeletions } from '../../src/assets/deletions.ts';
import { emptyTrash } from '../../src/trash/jobs/empty-trash.ts';
import { TrashRepository } from '../../src/trash/repository.ts';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { startService, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

describe('the trash', () => {
  let service: TestService;
  before(async () => {
    service = await startService({ env: { UPLOADS_PER_HOUR: '0', REQUESTS_PER_MINUTE: '0' } });
  });
  after(() => service.close());

  const someone = () => new Client(service.url, `trasher-${randomUUID()}`);
  const subjectOf = (client: Client) => client.headers['x-user-id'] ?? '';

  /** Records without bytes, counted in the quota. */
  async function insert(
    owner: string,
    count: number,
    { projectId, trashed = true }: { projectId?: string; trashed?: boolean } = {},
  ) {
    await service.query(
      `insert into assets (id, owner_id, project_id, name, state, asset_type, media_type, size, object_key, created_at, updated_at, stored_whole, trashed_at)
       select gen_random_uuid(), $1, $3, 'f.png', 'ready', 'image', 'image/png', 10, 'users/x/assets/' || gen_random_uuid() || '/original', now() - make_interval(secs => n), now(), true,
         case when $4::boolean then now() - interval '1 minute' end
       from generate_series(1, $2::integer) as n`,
      [owner, count, projectId ?? null, trashed],
    );
    await service.query(
      `insert into quotas (owner_id, used_bytes, file_count) values ($1, $2::bigint * 10, $2::bigint)
       on conflict (owner_id) do update set used_bytes = quotas.used_bytes + excluded.used_bytes, file_count = quotas.file_count + excluded.file_count`,
      [owner, count],
    );
  }
  const left = async (owner: string) =>
    (
      await service.query<{ count: number }>(
        `select count(*)::integer from assets where owner_id = $1 and state <> 'deleting'`,
        [owner],
      )
    )[0]?.count;

  async function emptied(client: Client, query = ''): Promise<object> {
    let last: object = {};
    await waitUntil(async () => {
      const { status, body } = await client.get(`/v1/trash${query}`);
      assert.equal(status, 200, JSON.stringify(body));
      last = body;
      return body.state === ('done' as string);
    });
    return last;
  }

  test('of a caller is emptied as a job: all that was in it, and nothing else', async () => {
    const client = someone();
    const owner = subjectOf(client);
    assert.equal((await client.get('/v1/trash')).status, 404);
    const projectId = `trash-${randomUUID()}`;
    await client.send('POST', '/v1/projects', { id: projectId, name: 'Trash' });
    await insert(owner, 1203);
    await insert(owner, 3, { projectId });
    await insert(owner, 2, { trashed: false });
    const { body: real } = await client.raw(png());
    await client.request('DELETE', `/v1/assets/${real.id}`);
    const begun = await client.request('DELETE', '/v1/trash');
    assert.equal(begun.status, 202);
    assert.equal(begun.headers.get('location'), '/v1/trash');
    assert.equal(begun.body.state, 'running');
    const { state, found, deleted } = (await emptied(client)) as Record<string, unknown>;
    assert.deepEqual({ state, found, deleted }, { state: 'done', found: 1204, deleted: 1204 });
    assert.equal(await left(owner), 5);
    const [quota] = await service.query<{ used: string; files: string }>(
      'select used_bytes as used, file_count as files from quotas where owner_id = $1',
      [owner],
    );
    assert.deepEqual(quota, { used: '50', files: '5' });
    const audited = await service.query<{ action: string; count: number; requests: number }>(
      `select action, count(*)::integer, count(distinct request_id)::integer as requests from audit_events
       where actor_id = $1 and action in ('asset.deleted', 'trash.emptying-started', 'trash.emptied') group by 1 order by 1`,
      [owner],
    );
    assert.deepEqual(audited, [
      { action: 'asset.deleted', count: 1204, requests: 1 },
      { action: 'trash.emptied', count: 1, requests: 1 },
      { action: 'trash.emptying-started', count: 1, requests: 1 },
    ]);
    const again = await client.request('DELETE', '/v1/trash');
    assert.deepEqual([again.status, again.body['deleted']], [202, 0]);
    await emptied(client);
  });

  test('of a project is emptied by its managers', async () => {
    const [manager, editor, stranger] = [someone(), someone(), someone()];
    const projectId = `trash-${randomUUID()}`;
    await manager.send('POST', '/v1/projects', { id: projectId, name: 'Trash' });
    await manager.send('PUT', `/v1/projects/${projectId}/members/${subjectOf(editor)}`, { role: 'editor' });
    await insert(subjectOf(editor), 4, { projectId });
    await insert(subjectOf(editor), 1);
    const query = `?projectId=${projectId}`;
    assert.equal((await editor.request('DELETE', `/v1/trash${query}`)).status, 403);
    const foreign = await stranger.request('DELETE', `/v1/trash${query}`);
    const unknown = await stranger.request('DELETE', '/v1/trash?projectId=nobody-made-this');
    assert.deepEqual([foreign.status, foreign.body.detail], [404, unknown.body.detail]);
    const begun = await manager.request('DELETE', `/v1/trash${query}`);
    assert.deepEqual([begun.status, begun.headers.get('location')], [202, `/v1/trash${query}`]);
    const done = (await emptied(manager, query)) as Record<string, unknown>;
    assert.deepEqual([done['deleted'], done['projectId']], [4, projectId]);
    assert.equal(await left(subjectOf(editor)), 1);
  });

  test('is emptied once however often it is asked for, and under an Idempotency-Key the answer is the first', async () => {
    const client = someone();
    await insert(subjectOf(client), 30);
    const key = { 'idempotency-key': randomUUID() };
    const ask = (headers = {}) => client.request('DELETE', '/v1/trash', { headers });
    const [first, ...others] = await Promise.all([ask(key), ...Array.from({ length: 5 }, () => ask())]);
    for (const { status } of others) assert.equal(status, 202);
    await emptied(client);
    assert.equal(await left(subjectOf(client)), 0);
    const [count] = await service.query<{ count: number }>(
      `select count(*)::integer from audit_events where actor_id = $1 and action = 'asset.deleted'`,
      [subjectOf(client)],
    );
    assert.equal(count?.count, 30);
    assert.deepEqual((await ask(key)).body, first?.body);
  });

  test('is emptied to its end by the next worker when one has died, and every asset is counted once', async () => {
    const owner = `trasher-${randomUUID()}`;
    await insert(owner, 1100);
    const noOutbox = {
      send: async () => {},
      sendAll: async () => {},
      wake: () => {},
      publish: async () => {},
      hasSubscribers: () => false,
    };
    const trash = new TrashRepository(service.database, noOutbox);
    const deletions = new AssetDeletions(service.database, noOutbox);
    const actor = { callerId: owner, requestId: 'r', via: null, because: null };
    const { account, id } = await trash.begin({ ownerId: owner }, actor, async () => {});
    const context = { id: 'job', signal: new AbortController().signal, fence: async () => {} };
    let transactions = 0;
    const dies = async () => {
      transactions += 1;
      if (transactions === 2) throw new Error('the worker has died');
    };
    await assert.rejects(emptyTrash({ trash, deletions }, { account, id }, { ...context, fence: dies }), /has died/);
    assert.equal(await left(owner), 600);
    // What came into the trash since is not meant, unless somebody asks again.
    await service.query(
      "update assets set trashed_at = now() + interval '1 hour' where id in (select id from assets where owner_id = $1 and state = 'ready' limit 7)",
      [owner],
    );
    await emptyTrash({ trash, deletions }, { account, id }, context);
    const emptying = await trash.find({ ownerId: owner });
    assert.deepEqual([emptying?.state, emptying?.found, emptying?.deleted], ['done', 1100, 1093]);
    assert.equal(await left(owner), 7);
    await emptyTrash({ trash, deletions }, { account, id }, context);
    assert.equal(await left(owner), 7);
  });
});
