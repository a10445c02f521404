/** Holds and retention over HTTP: who sets them and takes them off, what records tell, and what nobody does while one stands. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { SignJWT } from 'jose';
import { type Answer, type AnyBody, Client, SECRET } from '../support/client.ts';
import { png } from '../support/files.ts';
import { startService, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

const DAY = 24 * 3600 * 1000;
const inDays = (days: number) => new Date(Date.now() + days * DAY).toISOString();
const problem = ({ status, body }: Answer<AnyBody>) => [status, body.type?.split(':').at(-1)];
const env = {
  REQUESTS_PER_MINUTE: '0',
  UPLOADS_PER_HOUR: '0',
  MAX_RETENTION_DAYS: '100',
  AUTH_JWT_SECRET: SECRET,
  AUTH_PROJECTS_CLAIM: 'projects',
};

describe('holds', () => {
  let service: TestService;
  before(async () => {
    service = await startService({ env });
  });
  after(() => service.close());

  async function someone(claims: object = {}, subject = `user-${randomUUID()}`): Promise<Client> {
    const token = new SignJWT({ ...claims }).setProtectedHeader({ alg: 'HS256' }).setSubject(subject);
    const client = new Client(service.url);
    delete client.headers['x-user-id'];
    const signed = await token.setExpirationTime('2h').sign(Buffer.from(SECRET));
    client.headers['authorization'] = `Bearer ${signed}`;
    return client;
  }
  const administrator = () => someone({ scope: 'admin' });
  /** A project of its own with an asset in it. */
  async function place() {
    const project = `project-${randomUUID()}`;
    const by = (role: string) => someone({ projects: { [project]: role } });
    const [manager, editor, viewer] = await Promise.all([by('manager'), by('editor'), by('viewer')]);
    const uploaded = await editor.raw(png(300, 1), { fields: { projectId: project } });
    assert.equal(uploaded.status, 201, JSON.stringify(uploaded.body));
    return { project, manager, editor, viewer, id: uploaded.body.id };
  }
  /** Records like that of an asset, with their share of its quota. */
  async function copiesOf(id: string, count: number): Promise<string[]> {
    const ids = Array.from({ length: count }, () => randomUUID());
    await service.query(
      `insert into assets select (jsonb_populate_record(a, jsonb_build_object('id', copy, 'object_key', 'copies/' || copy))).*
        from assets a, unnest($2::uuid[]) as copy where a.id = $1`,
      [id, ids],
    );
    await service.query(
      `update quotas set used_bytes = used_bytes + $2 * a.size, file_count = file_count + $2
        from assets a where a.id = $1 and quotas.owner_id = coalesce(a.account, a.owner_id)`,
      [id, count],
    );
    return ids;
  }
  const hold = (client: Client, id: string, name = 'claim', reason = 'a claim', headers = {}) =>
    client.send('PUT', `/v1/assets/${id}/hold`, { name, reason }, headers);
  const remove = (client: Client, id: string, name = 'claim', query = '?reason=settled') =>
    client.request('DELETE', `/v1/assets/${id}/hold/${name}${query}`);
  const retain = (client: Client, id: string, retainUntil: string, mode = 'governance', query = '') =>
    client.send('PUT', `/v1/assets/${id}/retention${query}`, { retainUntil, mode });
  const erase = (client: Client, id: string) => client.request('DELETE', `/v1/assets/${id}?permanent=true`);

  test('are set by managers, and whoever deletes is told of them until they are off', async () => {
    const { manager, editor, viewer, id } = await place();
    const held = await hold(manager, id);
    assert.equal(held.status, 200, JSON.stringify(held.body));
    for (const client of [viewer, editor]) assert.deepEqual(problem(await hold(client, id)), [403, 'forbidden']);
    const refused = await erase(manager, id);
    assert.deepEqual(problem(refused), [409, 'held']);
    assert.deepEqual(refused.body['holds'], ['claim']);
    assert.deepEqual(problem(await editor.request('DELETE', `/v1/assets/${id}`)), [409, 'held']);
    for (const client of [viewer, editor]) assert.deepEqual(problem(await remove(client, id)), [403, 'forbidden']);
    assert.deepEqual(problem(await remove(manager, id, 'other')), [404, 'not-found']);
    assert.deepEqual(problem(await remove(manager, id, 'claim', '')), [400, 'invalid-parameter']);
    assert.equal((await remove(manager, id)).status, 204);
    assert.equal((await erase(manager, id)).status, 204);
  });

  test('tell in the record that they are there, and why only to those who set them', async () => {
    const { manager, viewer, id } = await place();
    await hold(manager, id, 'claim', 'a claim');
    const [seen, known] = await Promise.all(
      [viewer, manager].map(async (client) => (await client.get(`/v1/assets/${id}`)).body),
    );
    const at = known?.holds?.[0]?.setAt ?? '';
    assert.deepEqual(seen?.holds, [{ name: 'claim', setAt: at }]);
    const token = manager.headers['authorization']?.split('.')[1] ?? '';
    const { sub } = JSON.parse(Buffer.from(token, 'base64url').toString()) as { sub: string };
    assert.deepEqual(known?.holds, [{ name: 'claim', setAt: at, setBy: sub, reason: 'a claim' }]);
    const told = async (client: Client) => JSON.stringify((await client.get(`/v1/assets/${id}/history`)).body);
    assert.match(await told(manager), /"heldFor":"a claim"/);
    assert.match(await told(viewer), /"hold":"claim"/);
    assert.doesNotMatch(await told(viewer), /a claim/);
  });

  test('are found by the list, beside what is retained', async () => {
    const { project, manager, editor, id } = await place();
    const others = [];
    for (const fill of [2, 3])
      others.push((await editor.raw(png(300, fill), { fields: { projectId: project } })).body.id);
    await hold(manager, id);
    await retain(manager, others[0] ?? '', inDays(1));
    const { body } = await editor.get(`/v1/assets?projectId=${project}&held=true`);
    assert.deepEqual(body.data.map((each) => each.id).toSorted(), [id, others[0]].toSorted());
  });

  test('set twice are set once, with the last reason, and ten at most', async () => {
    const { manager, id } = await place();
    const first = await hold(manager, id, 'claim', 'one');
    const again = await hold(manager, id, 'claim', 'one');
    assert.deepEqual(again.body, first.body);
    assert.equal((await hold(manager, id, 'claim', 'two')).body.holds?.[0]?.reason, 'two');
    for (let number = 1; number < 10; number++) assert.equal((await hold(manager, id, `hold-${number}`)).status, 200);
    assert.deepEqual(problem(await hold(manager, id, 'one-more')), [409, 'too-many-holds']);
    assert.equal((await hold(manager, id, 'hold-9', 'another reason')).status, 200);
    const rows = await service.query<{ action: string; detail: { hold: string } }>(
      "select action, detail from audit_events where asset_id = $1 and action like 'asset.hold%' or action = 'asset.held' and asset_id = $1",
      [id],
    );
    assert.equal(rows.length, 12);
  });

  test('are kept with the answer to an Idempotency-Key', async () => {
    const { manager, id } = await place();
    const key = { 'idempotency-key': randomUUID() };
    const first = await hold(manager, id, 'claim', 'a claim', key);
    await remove(manager, id);
    const again = await hold(manager, id, 'claim', 'a claim', key);
    assert.deepEqual(again.body, first.body);
    assert.equal(again.headers.get('idempotency-replayed'), 'true');
    assert.equal((await manager.get(`/v1/assets/${id}`)).body.holds, undefined);
  });

  test('of an administrator are for administrators with a reason', async () => {
    const { manager, id } = await place();
    const root = await administrator();
    assert.equal((await hold(root, id, 'court', 'an order')).status, 200);
    assert.deepEqual(problem(await remove(manager, id, 'court')), [403, 'forbidden']);
    assert.deepEqual(problem(await hold(manager, id, 'court', 'nothing')), [403, 'forbidden']);
    assert.deepEqual(problem(await remove(root, id, 'court', '')), [404, 'not-found']);
    assert.deepEqual(problem(await root.request('DELETE', `/v1/assets/${id}?permanent=true&reason=cleaning`)), [
      409,
      'held',
    ]);
    assert.equal((await remove(root, id, 'court')).status, 204);
  });

  test('are not for the owner of an asset without a project, from whom they are to keep it', async () => {
    const owner = await someone();
    const { id } = (await owner.raw(png(300, 1))).body;
    assert.deepEqual(problem(await hold(owner, id)), [403, 'forbidden']);
    assert.equal((await hold(await administrator(), id)).status, 200);
    assert.deepEqual(problem(await remove(owner, id)), [403, 'forbidden']);
    assert.deepEqual(problem(await erase(owner, id)), [409, 'held']);
    // Nor by a detour: in his own project he would be a manager.
    const project = `project-${randomUUID()}`;
    assert.deepEqual(problem(await owner.send('PATCH', `/v1/assets/${id}`, { projectId: project })), [409, 'held']);
    const { body } = await owner.send('POST', '/v1/assets/bulk', { action: 'move', projectId: project, ids: [id] });
    const [result] = body['results'] as { problem: { type: string } }[];
    assert.equal(result?.problem.type, 'urn:stowage:problem:held');
  });

  test('go with the asset where a manager moves it, and everything else may be changed', async () => {
    const { manager, editor, id } = await place();
    await hold(manager, id);
    const changed = await editor.send('PATCH', `/v1/assets/${id}`, { name: 'other.png', tags: ['held'], path: 'a/' });
    assert.equal(changed.status, 200);
    assert.equal(changed.body.holds?.length, 1);
    const moved = await manager.send('PATCH', `/v1/assets/${id}`, { projectId: null });
    assert.equal(moved.status, 200, JSON.stringify(moved.body));
    assert.deepEqual(problem(await erase(editor, id)), [409, 'held']);
  });

  test('keep in the trash what was there, until they are off', async () => {
    const { project, manager, editor, id } = await place();
    assert.equal((await editor.request('DELETE', `/v1/assets/${id}`)).status, 204);
    assert.equal((await hold(manager, id)).status, 200);
    assert.equal((await editor.request('DELETE', `/v1/assets/${id}`)).status, 204, 'it is there already');
    await manager.request('DELETE', `/v1/trash?projectId=${project}`);
    const emptied = async () => (await manager.get(`/v1/trash?projectId=${project}`)).body as Record<string, unknown>;
    await waitUntil(async () => (await emptied())['state'] === 'done');
    const { found, deleted, held } = await emptied();
    assert.deepEqual({ found, deleted, held }, { found: 0, deleted: 0, held: 1 });
    assert.equal((await editor.request('POST', `/v1/assets/${id}/restore`)).status, 200);
    assert.equal((await remove(manager, id)).status, 204);
    assert.equal((await editor.request('DELETE', `/v1/assets/${id}`)).status, 204);
  });

  test('refuse in one request of many only what is held', async () => {
    const { project, manager, editor, id } = await place();
    const other = (await editor.raw(png(300, 2), { fields: { projectId: project } })).body.id;
    await hold(manager, id);
    for (const [body, status] of [
      [{ action: 'trash' }, 200],
      [{ action: 'delete', permanent: true }, 200],
    ] as const) {
      const answer = await manager.send('POST', '/v1/assets/bulk', { ...body, ids: [id, other] });
      assert.equal(answer.status, status);
      const results = answer.body['results'] as { status: number; problem?: { type: string } }[];
      assert.deepEqual(
        results.map((each) => [each.status, each.problem?.type]),
        [
          [409, 'urn:stowage:problem:held'],
          [200, undefined],
        ],
      );
    }
  });

  test('of a lost asset keep its record', async () => {
    const { manager, id } = await place();
    await service.query("update assets set state = 'lost' where id = $1", [id]);
    await hold(manager, id);
    assert.deepEqual(problem(await erase(manager, id)), [409, 'held']);
  });

  test('are told of by the metrics', async () => {
    const { manager, id } = await place();
    const held = async () => {
      const text = await service.service.metrics.registry.metrics();
      return Number(/^stowage_held_assets (\d+)$/m.exec(text)?.[1]);
    };
    const before = await held();
    await hold(manager, id);
    assert.equal(await held(), before + 1);
  });

  describe('retention', () => {
    test('of governance is made longer by managers and shorter by administrators with a reason', async () => {
      const { manager, editor, id } = await place();
      const root = await administrator();
      assert.deepEqual(problem(await retain(editor, id, inDays(10))), [403, 'forbidden']);
      const [ten, twenty, five] = [inDays(10), inDays(20), inDays(5)];
      const set = await retain(manager, id, ten);
      assert.deepEqual([set.status, set.body.retainUntil, set.body.retentionMode], [200, ten, 'governance']);
      assert.equal((await retain(manager, id, twenty)).status, 200);
      assert.equal((await retain(manager, id, twenty)).status, 200);
      assert.deepEqual(problem(await retain(manager, id, five)), [403, 'forbidden']);
      assert.deepEqual(problem(await retain(root, id, five)), [404, 'not-found']);
      assert.equal((await retain(root, id, five, 'governance', '?reason=mistaken')).status, 200);
      const refused = await erase(manager, id);
      assert.deepEqual([...problem(refused), refused.body['retainUntil']], [409, 'held', five]);
      assert.equal((await retain(root, id, inDays(-1), 'governance', '?reason=mistaken')).status, 200);
      assert.equal((await erase(manager, id)).status, 204);
    });

    test('of compliance is shortened by nobody, and made longer by managers', async () => {
      const { manager, id } = await place();
      const root = await administrator();
      const ten = inDays(10);
      assert.equal((await retain(manager, id, inDays(5))).status, 200);
      assert.equal((await retain(manager, id, ten, 'compliance')).status, 200);
      for (const [until, mode] of [
        [inDays(9), 'compliance'],
        [inDays(-9), 'compliance'],
        [inDays(11), 'governance'],
        [ten, 'governance'],
      ] as const)
        for (const client of [manager, root])
          assert.deepEqual(problem(await retain(client, id, until, mode, '?reason=please')), [409, 'held']);
      assert.equal((await retain(manager, id, inDays(11), 'compliance')).status, 200);
      await assert.rejects(service.query('update assets set retain_until = now() where id = $1', [id]), /is held/);
      await assert.rejects(service.query('update assets set retain_until = null where id = $1', [id]), /is held/);
      await assert.rejects(
        service.query("update assets set retention_mode = 'governance' where id = $1", [id]),
        /is held/,
      );
    });

    test('goes as far as the operator allows, and begins in the future', async () => {
      const { manager, id } = await place();
      for (const until of [inDays(101), inDays(-1), '2030', '0000-01-01T00:00:00Z'])
        assert.deepEqual(problem(await retain(manager, id, until)), [400, 'invalid-parameter'], until);
      assert.equal((await retain(manager, id, inDays(99))).status, 200);
    });

    test('ends by time', async () => {
      const { manager, id } = await place();
      await service.query(
        "update assets set retain_until = now() - interval '1 second', retention_mode = 'compliance' where id = $1",
        [id],
      );
      assert.equal((await retain(manager, id, inDays(1))).status, 200);
      const other = await place();
      await service.query(
        "update assets set retain_until = now() - interval '1 second', retention_mode = 'compliance' where id = $1",
        [other.id],
      );
      assert.equal((await erase(other.manager, other.id)).status, 204);
    });
  });

  test('and deletions that come at once never both succeed', async () => {
    const second = await startService({ beside: service, env });
    try {
      const { manager, id: first } = await place();
      const ids = await copiesOf(first, 200);
      const outcomes = { held: 0, deleted: 0 };
      const there = Object.assign(new Client(second.url), { headers: manager.headers });
      const race = async (id: string, index: number) => {
        const holding = () => hold(index % 2 === 0 ? there : manager, id);
        const deleting = () => erase(index % 4 < 2 ? manager : there, id);
        const begun = index % 3 === 0 ? [deleting(), holding()].reverse() : [holding(), deleting()];
        const [held, deleted] = await Promise.all(begun);
        const seen = [held?.status, deleted?.status];
        const [row] = await service.query("select from assets where id = $1 and state = 'ready'", [id]);
        const wins = row ? [200, 409] : [404, 204];
        assert.deepEqual(seen, wins, 'a hold and a deletion at once');
        outcomes[row ? 'held' : 'deleted'] += 1;
      };
      for (let begin = 0; begin < ids.length; begin += 10) await Promise.all(ids.slice(begin, begin + 10).map(race));
      assert.equal(outcomes.held + outcomes.deleted, 200);
    } finally {
      await second.close();
    }
  });
});
