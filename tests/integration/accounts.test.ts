/** Whose quota an upload takes of: that of the project where it has one of its own, else that of who uploads. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { startService, type TestService } from '../support/service.ts';

describe('accounts', () => {
  let one: TestService;
  let two: TestService;
  before(async () => {
    const env = { REQUESTS_PER_MINUTE: '0', UPLOADS_PER_HOUR: '0', IDEMPOTENCY_KEYS_PER_HOUR: '0' };
    one = await startService({ env });
    two = await startService({ env, beside: one });
  });
  after(async () => {
    await two.close();
    await one.close();
  });

  const fresh = (service = one) => new Client(service.url, `user-${randomUUID()}`);
  const nameOf = (client: Client) => client.headers['x-user-id'] ?? '';
  const setLimit = (account: string, limit?: number) =>
    new Client(one.url, 'administrator').send('PUT', `/v1/admin/quotas/${encodeURIComponent(account)}`, {
      ...(limit !== undefined && { limit }),
    });
  const used = async (account: string) => {
    const [row] = await one.query<{ used: string; reserved: string; files: string }>(
      'select used_bytes as used, reserved_bytes as reserved, file_count as files from quotas where owner_id = $1',
      [account],
    );
    return { used: Number(row?.used ?? 0), reserved: Number(row?.reserved ?? 0), files: Number(row?.files ?? 0) };
  };
  const join = (projectId: string, client: Client, role = 'editor') =>
    one.query('insert into project_members (project_id, subject, role) values ($1, $2, $3)', [
      projectId,
      nameOf(client),
      role,
    ]);
  /** A project of one manager. */
  async function project(manager: Client, limit?: number): Promise<string> {
    const id = `p-${randomUUID()}`;
    await one.query("insert into projects (id, name, created_by) values ($1, 'A project', $2)", [id, nameOf(manager)]);
    await join(id, manager, 'manager');
    if (limit !== undefined) await setLimit(`project:${id}`, limit);
    return id;
  }

  test('the project pays where it was given a quota, and who uploads elsewhere', async () => {
    const [manager, member] = [fresh(), fresh()];
    const projectId = await project(manager, 5000);
    await join(projectId, member);
    assert.equal((await member.raw(png(3000, 1), { fields: { projectId } })).status, 201);
    assert.equal((await member.raw(png(200, 2))).status, 201);
    assert.deepEqual(await used(`project:${projectId}`), { used: 3000, reserved: 0, files: 1 });
    assert.equal((await member.get('/v1/quota')).body['used'], 200);
    const told = await manager.get(`/v1/projects/${projectId}/quota`);
    assert.deepEqual(told.body as unknown, {
      projectId,
      isOwn: true,
      quota: { limit: 5000, used: 3000, reserved: 0, available: 2000, percent: 60, fileCount: 1 },
    });
    const refused = await member.raw(png(2001, 3), { fields: { projectId } });
    assert.equal(refused.status, 403);
    assert.match(
      refused.body.detail ?? '',
      new RegExp(`2000 of 5000 are available in the quota of the project ${projectId}`),
    );
    await setLimit(nameOf(member), 300);
    assert.match((await member.raw(png(200, 4))).body.detail ?? '', /100 of 300 are available in your quota/);
  });

  test('a project without a quota of its own says so, and who uploads pays', async () => {
    const manager = fresh();
    const projectId = await project(manager);
    await manager.raw(png(1000), { fields: { projectId } });
    assert.deepEqual((await manager.get(`/v1/projects/${projectId}/quota`)).body as unknown, {
      projectId,
      isOwn: false,
    });
    assert.equal((await manager.get('/v1/quota')).body['used'], 1000);
  });

  test('the quota of a project that is none for the caller cannot be told from that of an unknown one', async () => {
    const projectId = await project(fresh(), 5000);
    const stranger = fresh();
    const foreign = await stranger.get(`/v1/projects/${projectId}/quota`);
    const unknown = await stranger.get('/v1/projects/p-nobody-has-made/quota');
    const { requestId: _, ...told } = foreign.body;
    const { requestId: __, ...expected } = unknown.body;
    assert.equal(foreign.status, 404);
    assert.deepEqual(told, expected);
  });

  test('quota given and taken away leaves what was charged where it is', async () => {
    const manager = fresh();
    const projectId = await project(manager);
    const before = await manager.raw(png(1000, 1), { fields: { projectId } });
    await setLimit(`project:${projectId}`, 10_000);
    const during = await manager.raw(png(2000, 2), { fields: { projectId } });
    await setLimit(`project:${projectId}`);
    await manager.raw(png(500, 3), { fields: { projectId } });
    assert.equal((await manager.get('/v1/quota')).body['used'], 1500);
    assert.equal((await used(`project:${projectId}`)).used, 2000);
    for (const { body } of [before, during]) await manager.request('DELETE', `/v1/assets/${body.id}?permanent=true`);
    assert.equal((await manager.get('/v1/quota')).body['used'], 500);
    assert.equal((await used(`project:${projectId}`)).used, 0);
  });

  test('an asset that is moved is paid for where it goes, or is refused for want of room and stays', async () => {
    const manager = fresh();
    const [rich, poor] = [await project(manager, 10_000), await project(manager, 1500)];
    const { body } = await manager.raw(png(2000), { fields: { projectId: rich } });
    const move = (projectId: string | null) => manager.send('PATCH', `/v1/assets/${body.id}`, { projectId });
    const refused = await move(poor);
    assert.equal(refused.status, 403);
    assert.match(refused.body.detail ?? '', new RegExp(`in the quota of the project ${poor}`));
    assert.deepEqual(await used(`project:${rich}`), { used: 2000, reserved: 0, files: 1 });
    assert.equal((await move(null)).status, 200);
    assert.deepEqual(await used(`project:${rich}`), { used: 0, reserved: 0, files: 0 });
    assert.equal((await manager.get('/v1/quota')).body['used'], 2000);
    await setLimit(`project:${poor}`, 2000);
    assert.equal((await move(poor)).body.projectId, poor);
    assert.equal((await manager.get('/v1/quota')).body['used'], 0);
    assert.equal((await used(`project:${poor}`)).used, 2000);
  });

  test('what another member takes out of the project is paid by who has uploaded it', async () => {
    const [manager, member] = [fresh(), fresh()];
    const projectId = await project(manager, 10_000);
    await join(projectId, member);
    const { body } = await member.raw(png(2000), { fields: { projectId } });
    await setLimit(nameOf(member), 1000);
    const move = () => manager.send('PATCH', `/v1/assets/${body.id}`, { projectId: null });
    assert.match((await move()).body.detail ?? '', /in the quota of who has uploaded the asset/);
    await setLimit(nameOf(member), 3000);
    assert.equal((await move()).status, 200);
    assert.equal((await member.get('/v1/quota')).body['used'], 2000);
    assert.equal((await manager.get('/v1/quota')).body['used'], 0);
  });

  test('no project is made by moving an asset that is not there', async () => {
    const projectId = `p-${randomUUID()}`;
    const { status } = await fresh().send('PATCH', `/v1/assets/${randomUUID()}`, { projectId });
    assert.equal(status, 404);
    assert.deepEqual(await one.query('select 1 from projects where id = $1', [projectId]), []);
  });

  test('a project that is named behind the bytes has the reservation moved to its account', async () => {
    const manager = fresh();
    const projectId = await project(manager, 1500);
    const send = async (size: number) => {
      const form = new FormData();
      form.append('files', new Blob([png(size, size)]), 'a.png');
      form.append('projectId', projectId);
      const { body } = await manager.request('POST', '/v1/assets/batch', { body: form });
      return (body['results'] as { status: number }[])[0]?.status;
    };
    assert.equal(await send(1000), 201);
    assert.equal((await used(`project:${projectId}`)).used, 1000);
    assert.equal(await send(600), 403);
    assert.deepEqual(await used(`project:${projectId}`), { used: 1000, reserved: 0, files: 1 });
    assert.deepEqual(await used(nameOf(manager)), { used: 0, reserved: 0, files: 0 });
  });

  test('an owner whose id looks like a project has an account of his own', async () => {
    const manager = fresh();
    const projectId = await project(manager, 5000);
    const imitator = new Client(one.url, `project:${projectId}`);
    assert.equal((await imitator.raw(png(1000))).status, 201);
    assert.equal((await used(`project:${projectId}`)).used, 0);
    assert.equal((await imitator.get('/v1/quota')).body['used'], 1000);
    assert.notEqual((await imitator.get('/v1/quota')).body['limit'], 5000);
    await setLimit(`owner:project:${projectId}`, 1200);
    assert.equal((await imitator.get('/v1/quota')).body['limit'], 1200);
    assert.equal((await setLimit('project:no such id', 1)).status, 400);
    // What was done to the quota of the project is nothing of his.
    assert.deepEqual(
      await one.query("select owner_id from audit_events where action = 'quota.changed' and project_id = $1", [
        projectId,
      ]),
      [{ owner_id: 'administrator' }],
    );
  });

  test('of 200 uploads at once into two accounts exactly what has room is stored', async () => {
    const members = Array.from({ length: 4 }, () => fresh());
    const projectId = await project(members[0] ?? fresh(), 60_000);
    for (const member of members.slice(1)) await join(projectId, member);
    for (const member of members) await setLimit(nameOf(member), 10_000);
    const statuses = await Promise.all(
      Array.from({ length: 200 }, async (_, index) => {
        const member = members[index % 4] ?? fresh();
        const client = new Client(index % 8 < 4 ? one.url : two.url, nameOf(member));
        const intoProject = index >= 100;
        const { status } = await client.raw(png(1000, index), intoProject ? { fields: { projectId } } : {});
        return `${intoProject ? 'project' : 'own'} ${status}`;
      }),
    );
    const count = (outcome: string) => statuses.filter((status) => status === outcome).length;
    assert.deepEqual(
      [count('project 201'), count('project 403'), count('own 201'), count('own 403')],
      [60, 40, 40, 60],
      statuses.join(),
    );
    assert.deepEqual(await used(`project:${projectId}`), { used: 60_000, reserved: 0, files: 60 });
    for (const member of members)
      assert.deepEqual(await used(nameOf(member)), { used: 10_000, reserved: 0, files: 10 });
  });

  test('nothing drifts and no limit is passed while all is uploaded, moved both ways, deleted and given quota at once', async () => {
    const members = Array.from({ length: 3 }, () => fresh());
    const manager = members[0] ?? fresh();
    const projects = [await project(manager, 9000), await project(manager, 9000), await project(manager)];
    for (const projectId of projects) for (const member of members.slice(1)) await join(projectId, member, 'manager');
    const limits = new Map<string, number>();
    for (const projectId of projects.slice(0, 2)) limits.set(`project:${projectId}`, 9000);
    for (const member of members) {
      await setLimit(nameOf(member), 9000);
      limits.set(nameOf(member), 9000);
    }
    const statuses = new Set<number>();
    const told = (status: number) => {
      statuses.add(status);
      return status;
    };
    const clientOf = (index: number) =>
      new Client(index % 2 === 0 ? one.url : two.url, nameOf(members[index % 3] ?? manager));
    let over = false;
    const watching = (async () => {
      while (!over) {
        const rows = await one.query<{ account: string; taken: string }>(
          'select owner_id as account, used_bytes + reserved_bytes as taken from quotas where owner_id = any ($1)',
          [[...limits.keys()]],
        );
        for (const { account, taken } of rows)
          assert.ok(Number(taken) <= (limits.get(account) ?? 0), `${account} has taken ${taken}`);
      }
    })();
    const giving = (async () => {
      for (let round = 0; !over; round++)
        told((await setLimit(`project:${projects[2]}`, round % 2 === 0 ? 9000 : undefined)).status);
    })();
    try {
      await Promise.all(
        Array.from({ length: 24 }, async (_, index) => {
          const client = clientOf(index);
          const uploads = await Promise.all(
            [0, 1].map((nth) =>
              client.raw(png(700 + index, index * 2 + nth), {
                fields: index % 4 === 3 ? {} : { projectId: projects[index % 3] ?? '' },
              }),
            ),
          );
          const ids = uploads.filter(({ status }) => told(status) === 201).map(({ body }) => body.id);
          // In both directions at once.
          const places = index % 2 ? [0, 1, null, 2, 0] : [1, 0, 2, null, 1];
          for (const place of places)
            for (const id of ids) {
              const projectId = place === null ? null : projects[place];
              told((await clientOf(index + 1).send('PATCH', `/v1/assets/${id}`, { projectId })).status);
            }
          if (index % 3 === 0)
            told(
              (
                await client.send('POST', '/v1/assets/bulk', {
                  action: 'delete',
                  permanent: true,
                  ids: [...ids, ...ids],
                })
              ).status,
            );
        }),
      );
    } finally {
      over = true;
      await Promise.all([watching, giving]);
    }
    assert.deepEqual(
      [...statuses].filter((status) => ![200, 201, 400, 403, 404].includes(status)),
      [],
    );
    assert.ok(statuses.has(200) && statuses.has(201) && statuses.has(403));
    const { report } = await one.service.reconcile({ dryRun: true });
    assert.equal(report.driftedQuotas, 0);
    assert.equal(report.driftedStatistics, 0);
    const rows = await one.query<{ account: string }>(
      `select q.owner_id as account from quotas q
       where reserved_bytes <> 0 or used_bytes <> (select coalesce(sum(size), 0) from assets a
         where coalesce(a.account, a.owner_id) = q.owner_id and state <> 'deleting')`,
    );
    assert.deepEqual(rows, []);
  });

  test('the reconciler finds and mends the account of a project that is wrong', async () => {
    const manager = fresh();
    const projectId = await project(manager, 5000);
    await manager.raw(png(1000), { fields: { projectId } });
    await one.query('update quotas set used_bytes = 77 where owner_id = $1', [`project:${projectId}`]);
    assert.equal((await one.service.reconcile({})).report.driftedQuotas, 1);
    assert.deepEqual(await used(`project:${projectId}`), { used: 1000, reserved: 0, files: 1 });
  });
});
