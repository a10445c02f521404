/** The audit trail as people read it, its seals, the counts of downloads, and what administrators do about owners. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { SignJWT } from 'jose';
import { Client as Connection } from 'pg';
import { foldDownloads } from '../../src/assets/download-counts.ts';
import { hasSeal, sealPastDays, verifyAudit } from '../../src/audit/seals.ts';
import { executorOn } from '../../src/database/client.ts';
import { type AnyBody, Client, SECRET } from '../support/client.ts';
import { png } from '../support/files.ts';
import { startService, type TestService } from '../support/service.ts';

interface Event {
  at: string;
  action: string;
  actorId: string;
  ownerId: string;
  assetId?: string;
  projectId?: string;
  reason?: string;
  detail: Record<string, unknown>;
}

describe('the audit trail for people', () => {
  let service: TestService;
  before(async () => {
    service = await startService({
      env: {
        REQUESTS_PER_MINUTE: '0',
        UPLOADS_PER_HOUR: '0',
        AUTH_JWT_SECRET: SECRET,
        AUTH_AUDIENCE: 'any',
      },
    });
  });
  after(() => service.close());

  async function someone(user = `user-${randomUUID()}`, scope?: string): Promise<Client> {
    const client = new Client(service.url);
    const claims = scope === undefined ? {} : { scope };
    const token = new SignJWT(claims).setProtectedHeader({ alg: 'HS256' }).setSubject(user).setExpirationTime('1h');
    delete client.headers['x-user-id'];
    client.headers['authorization'] = `Bearer ${await token.sign(Buffer.from(SECRET))}`;
    names.set(client, user);
    return client;
  }
  const names = new WeakMap<Client, string>();
  const nameOf = (client: Client) => names.get(client) ?? '';
  const eventsOf = ({ body }: { body: AnyBody }) => (body as unknown as { data: Event[] }).data;
  const actionsOf = (answer: { body: AnyBody }) => eventsOf(answer).map(({ action }) => action);
  const join = (projectId: string, client: Client, role: string) =>
    service.query('insert into project_members (project_id, subject, role) values ($1, $2, $3)', [
      projectId,
      nameOf(client),
      role,
    ]);
  /** A project of a manager with one asset in it. */
  async function projectWithAsset(manager: Client): Promise<{ projectId: string; id: string }> {
    const projectId = `p-${randomUUID()}`;
    const { body } = await manager.raw(png(500), { fields: { projectId } });
    return { projectId, id: body.id };
  }

  test('tells each what is about his own, and what a manager asks of his project', async () => {
    const [alice, bob, viewer] = [await someone(), await someone(), await someone()];
    const { projectId, id } = await projectWithAsset(alice);
    await join(projectId, bob, 'editor');
    await join(projectId, viewer, 'viewer');
    await bob.send('PATCH', `/v1/assets/${id}`, { name: 'renamed.png' });
    const own = await bob.raw(png(300));
    assert.deepEqual(actionsOf(await alice.get('/v1/audit')), ['asset.updated', 'asset.uploaded', 'project.created']);
    assert.deepEqual(
      eventsOf(await bob.get('/v1/audit')).map(({ assetId }) => assetId),
      [own.body.id],
    );
    assert.deepEqual(
      eventsOf(await alice.get(`/v1/audit?projectId=${projectId}`)).map(({ action, actorId }) => [action, actorId]),
      [
        ['asset.updated', nameOf(bob)],
        ['asset.uploaded', nameOf(alice)],
        ['project.created', nameOf(alice)],
      ],
    );
    // No manager: only what is about himself, as of a project that nobody has made.
    for (const client of [bob, viewer])
      assert.deepEqual(actionsOf(await client.get(`/v1/audit?projectId=${projectId}`)), []);
    assert.deepEqual(actionsOf(await bob.get(`/v1/audit?actor=${nameOf(bob)}`)), ['asset.uploaded', 'asset.updated']);
    // Who has left the project sees no more of it.
    await service.query('delete from project_members where project_id = $1 and subject = any ($2)', [
      projectId,
      [nameOf(bob), nameOf(alice)],
    ]);
    assert.deepEqual(actionsOf(await bob.get(`/v1/audit?actor=${nameOf(bob)}`)), ['asset.uploaded']);
    assert.deepEqual(actionsOf(await alice.get('/v1/audit')), []);
  });

  test('tells the manager of a project nothing of one that had its name before', async () => {
    const [alice, bob] = [await someone(), await someone()];
    const { projectId, id } = await projectWithAsset(alice);
    await alice.send('PATCH', `/v1/assets/${id}`, { projectId: null });
    await service.query('delete from projects where id = $1', [projectId]);
    await bob.raw(png(300), { fields: { projectId } });
    assert.deepEqual(
      eventsOf(await bob.get(`/v1/audit?projectId=${projectId}`)).map(({ actorId }) => actorId),
      [nameOf(bob), nameOf(bob)],
    );
  });

  test('is open as a whole to the scope audit alone, by asset, actor, action and time', async () => {
    const alice = await someone();
    const { body } = await alice.raw(png(400));
    await alice.request('DELETE', `/v1/assets/${body.id}`);
    const auditor = await someone('auditor', 'audit');
    const found = await auditor.get(`/v1/audit?assetId=${body.id}`);
    assert.deepEqual(actionsOf(found), ['asset.trashed', 'asset.uploaded']);
    const [trashed] = eventsOf(found);
    assert.deepEqual(actionsOf(await auditor.get(`/v1/audit?actor=${nameOf(alice)}&action=asset.trashed`)), [
      'asset.trashed',
    ]);
    const at = trashed?.at ?? '';
    const since = new URLSearchParams({ assetId: body.id, since: at });
    assert.deepEqual(actionsOf(await auditor.get(`/v1/audit?${since}`)), ['asset.trashed']);
    const until = new URLSearchParams({ assetId: body.id, until: at });
    assert.deepEqual(actionsOf(await auditor.get(`/v1/audit?${until}`)), ['asset.uploaded']);
    // An administrator is a user like others here.
    const admin = await someone('admin-without-audit', 'admin');
    assert.deepEqual(actionsOf(await admin.get(`/v1/audit?assetId=${body.id}`)), []);
    assert.equal((await (await someone('uploader', 'assets:write')).get('/v1/audit')).status, 403);
    assert.equal((await alice.get('/v1/audit?since=yesterday')).status, 400);
  });

  test('comes in pages without a gap, and as lines of JSON or CSV in one answer', async () => {
    const alice = await someone();
    const owner = nameOf(alice);
    await service.query(
      `insert into audit_events (action, actor_id, owner_id, detail)
       select 'asset.updated', $1, $1, jsonb_build_object('name', '=cmd("x"), ' || n) from generate_series(1, 1203) as n`,
      [owner],
    );
    const auditor = await someone('auditor', 'audit');
    for (const [client, query] of [
      [alice, 'limit=200'],
      [auditor, `limit=200&actor=${owner}`],
      [auditor, 'limit=200&action=asset.updated'],
    ] as const) {
      const seen: string[] = [];
      let path: string | undefined = `/v1/audit?${query}`;
      while (path !== undefined) {
        const answer: { body: AnyBody; headers: Headers } = await client.get(path);
        seen.push(
          ...eventsOf(answer)
            .filter(({ ownerId }) => ownerId === owner)
            .map(({ detail }) => String(detail['name'])),
        );
        path = /<([^>]+)>/.exec(answer.headers.get('link') ?? '')?.[1];
      }
      assert.equal(seen.length, 1203, query);
      assert.equal(new Set(seen).size, 1203, query);
    }
    const headers = { ...alice.headers, accept: 'application/x-ndjson' };
    const lines = await fetch(`${service.url}/v1/audit`, { headers });
    assert.match(lines.headers.get('content-type') ?? '', /x-ndjson/);
    const text = (await lines.text()).trimEnd().split('\n');
    assert.equal(text.length, 1203);
    assert.equal(JSON.parse(text[0] ?? '').detail.name, '=cmd("x"), 1203');
    const table = String((await alice.get('/v1/audit', { accept: 'text/csv' })).body)
      .trimEnd()
      .split('\r\n');
    assert.equal(table.length, 1204);
    assert.match(table[1] ?? '', /,"\{""name"": ""=cmd\(\\""x\\""\), 1203""\}"$|,"\{""name"":""=cmd/);
  });

  test('refuses a cursor that was made for another question, and one that was made by hand', async () => {
    const alice = await someone();
    for (let index = 0; index < 3; index++) await alice.raw(png(300 + index));
    const { body } = await alice.get('/v1/audit?limit=1');
    const cursor = body.page.nextCursor ?? '';
    assert.equal((await alice.get(`/v1/audit?limit=1&cursor=${cursor}`)).status, 200);
    assert.equal((await alice.get(`/v1/audit?actor=${nameOf(alice)}&cursor=${cursor}`)).status, 400);
    const forged = Buffer.from('["own",["2026-01-01T00:00:00.000Z","1; drop"]]').toString('base64url');
    assert.equal((await alice.get(`/v1/audit?cursor=${forged}`)).status, 400);
  });

  test('of an asset is its history: all of it for who uploaded it, for members what happened in the project', async () => {
    const [alice, viewer, stranger] = [await someone(), await someone(), await someone()];
    const other = await projectWithAsset(alice);
    const { body } = await alice.raw(png(400), { fields: { projectId: other.projectId } });
    const { projectId } = await projectWithAsset(alice);
    await join(projectId, viewer, 'viewer');
    const history = `/v1/assets/${body.id}/history`;
    assert.equal((await viewer.get(history)).status, 404);
    await alice.send('PATCH', `/v1/assets/${body.id}`, { projectId });
    const shared = eventsOf(await viewer.get(history));
    assert.deepEqual(
      shared.map(({ action, detail }) => [
        action,
        Object.hasOwn(detail, 'projectId'),
        Object.hasOwn(detail, 'previousProjectId'),
      ]),
      [['asset.updated', true, false]],
    );
    const whole = await alice.get(history);
    assert.deepEqual(actionsOf(whole), ['asset.updated', 'asset.uploaded']);
    assert.equal(eventsOf(whole)[0]?.detail['previousProjectId'], other.projectId);
    const foreign = await stranger.get(history);
    const unknown = await stranger.get(`/v1/assets/${randomUUID()}/history`);
    assert.deepEqual([foreign.status, foreign.body.detail], [unknown.status, unknown.body.detail]);
  });

  test('keeps which metadata changed, and the reason that was given', async () => {
    const alice = await someone();
    const { body } = await alice.upload(png(400), { fields: { metadata: '{"kept":"1","changed":"1","gone":"1"}' } });
    const path = `/v1/assets/${body.id}`;
    await alice.send('PATCH', `${path}?reason=tidying`, { metadata: { kept: '1', changed: '2', new: '1' } });
    await alice.request('DELETE', `${path}?reason=${encodeURIComponent('wegen Umzug – ältere Fassung')}`);
    await alice.request('POST', `${path}/restore`, { headers: { 'stowage-reason': 'a mistake' } });
    await alice.send('POST', '/v1/assets/bulk?reason=twice', { action: 'trash', ids: [body.id] });
    await alice.request('DELETE', `${path}?permanent=true&reason=enough`);
    const events = eventsOf(await alice.get(`/v1/audit?assetId=${body.id}`));
    assert.deepEqual(
      events.map(({ action, reason }) => [action, reason]),
      [
        ['asset.deleted', 'enough'],
        ['asset.trashed', 'twice'],
        ['asset.restored', 'a mistake'],
        ['asset.trashed', 'wegen Umzug – ältere Fassung'],
        ['asset.updated', 'tidying'],
        ['asset.uploaded', undefined],
      ],
    );
    assert.deepEqual(events[4]?.detail['changedMetadata'], ['changed', 'gone', 'new']);
    for (const reason of ['', 'x'.repeat(501), 'a\u0007b'])
      assert.equal((await alice.request('DELETE', `${path}?reason=${encodeURIComponent(reason)}`)).status, 400);
    assert.equal((await alice.get(path, { 'stowage-reason': 'x'.repeat(501) })).status, 400);
    for (const blank of ['', '   ']) {
      const { status, body: told } = await alice.get(path, { 'stowage-reason': blank });
      assert.deepEqual([status, told.errors?.[0]?.parameter], [400, 'Stowage-Reason'], JSON.stringify(blank));
      for (const [method, of] of [
        ['DELETE', path],
        ['GET', path],
        ['POST', '/v1/assets/bulk'],
      ] as const) {
        const { status, body: told } = await alice.send(
          method,
          `${of}?reason=${encodeURIComponent(blank)}`,
          method === 'POST' ? { action: 'trash', ids: [body.id] } : undefined,
        );
        assert.deepEqual([status, told.errors?.[0]?.parameter], [400, 'reason'], `${method} ${JSON.stringify(blank)}`);
      }
    }
  });

  test('tells managers that an asset has left their project, and not where it went', async () => {
    const [alice, bob] = [await someone(), await someone()];
    const [{ projectId, id }, other] = [await projectWithAsset(alice), await projectWithAsset(alice)];
    await alice.send('PUT', `/v1/projects/${projectId}/members/${nameOf(bob)}`, { role: 'manager' });
    const move = (to: string | null) => alice.send('PATCH', `/v1/assets/${id}?reason=wrong`, { projectId: to });
    assert.equal((await move(other.projectId)).status, 200);
    const [left] = eventsOf(await bob.get(`/v1/audit?projectId=${projectId}`));
    assert.deepEqual(
      [left?.action, left?.reason, left?.detail],
      ['project.asset-left', 'wrong', { assetId: id, name: 'photo.png' }],
    );
    assert.equal((await move(projectId)).status, 200);
    assert.equal((await move(projectId)).status, 200);
    assert.equal((await move(null)).status, 200);
    const actions = actionsOf(await bob.get(`/v1/audit?projectId=${projectId}`));
    assert.equal(actions.filter((action) => action === 'project.asset-left').length, 2);
    // The asset has one row for each change of it.
    assert.equal(actionsOf(await alice.get(`/v1/audit?assetId=${id}`)).length, 5);
  });

  test('keeps the reason for which a project and its members were changed', async () => {
    const [alice, bob] = [await someone(), await someone()];
    const { projectId } = await projectWithAsset(alice);
    const member = `/v1/projects/${projectId}/members/${nameOf(bob)}`;
    assert.equal((await alice.send('PUT', `${member}?reason=helps`, { role: 'editor' })).status, 200);
    assert.equal((await alice.request('DELETE', `${member}?reason=done`)).status, 204);
    assert.equal((await alice.send('PATCH', `/v1/projects/${projectId}?reason=typo`, { name: 'Right' })).status, 200);
    const events = eventsOf(await alice.get(`/v1/audit?projectId=${projectId}`));
    assert.deepEqual(
      events.slice(0, 3).map(({ action, reason }) => [action, reason]),
      [
        ['project.updated', 'typo'],
        ['project.member-removed', 'done'],
        ['project.member-set', 'helps'],
      ],
    );
  });

  test('lets an administrator do everything to any asset for a reason, and nothing without one', async () => {
    const [alice, admin] = [await someone(), await someone(`admin-${randomUUID()}`, 'admin')];
    const { body } = await alice.raw(png(400));
    const inProject = await projectWithAsset(alice);
    const because = { 'stowage-reason': 'claim 1711' };
    for (const id of [body.id, inProject.id]) {
      const path = `/v1/assets/${id}`;
      for (const [method, rest] of [
        ['GET', ''],
        ['GET', '/content'],
        ['GET', '/history'],
        ['DELETE', '?permanent=true'],
      ] as const)
        assert.equal((await admin.request(method, path + rest)).status, 404, `${method} ${rest}`);
      assert.equal((await alice.get(path, because)).status, 200);
      assert.equal((await (await someone()).get(path, because)).status, 404);
      assert.equal((await admin.get(path, because)).status, 200);
      assert.equal((await admin.content(id, because)).status, 200);
      assert.equal((await admin.send('PATCH', path, { name: 'taken.png' }, because)).status, 200);
      assert.equal((await admin.request('DELETE', path, { headers: because })).status, 204);
      assert.equal((await admin.request('DELETE', `${path}?permanent=true`, { headers: because })).status, 204);
      const events = eventsOf(await alice.get(`/v1/audit?assetId=${id}`));
      assert.deepEqual(
        events.map(({ action, actorId, reason }) => [action, actorId === nameOf(admin), reason]),
        [
          ['asset.deleted', true, 'claim 1711'],
          ['asset.trashed', true, 'claim 1711'],
          ['asset.updated', true, 'claim 1711'],
          ['asset.downloaded', true, 'claim 1711'],
          ['asset.inspected', true, 'claim 1711'],
          ['asset.uploaded', false, undefined],
        ],
      );
    }
    assert.equal((await admin.get(`/v1/assets?projectId=${inProject.projectId}`, because)).status, 200);
  });

  test('owners are listed by usage and by id, page by page, and their assets with a row in the trail', async () => {
    const admin = await someone(`admin-${randomUUID()}`, 'admin');
    const sizes = [300, 500, 400];
    const group = randomUUID();
    const owners = await Promise.all(sizes.map((_, index) => someone(`group-${group}-${index}`)));
    for (const [index, owner] of owners.entries()) await owner.raw(png(sizes[index] ?? 0));
    const listed = async (query: string) => {
      const all: { id: string; used: number; fileCount: number; lastActivityAt?: string }[] = [];
      for (let path: string | undefined = `/v1/admin/owners?limit=1&${query}`; path !== undefined; ) {
        const answer: { body: AnyBody; headers: Headers } = await admin.get(path);
        all.push(...(answer.body as unknown as { data: typeof all }).data);
        path = /<([^>]+)>/.exec(answer.headers.get('link') ?? '')?.[1];
      }
      return all.filter(({ id }) => id.startsWith(`group-${group}`));
    };
    assert.deepEqual(
      (await listed('')).map(({ used }) => used),
      [500, 400, 300],
    );
    assert.deepEqual(
      (await listed('order=asc')).map(({ used }) => used),
      [300, 400, 500],
    );
    assert.deepEqual(
      (await listed('sort=id')).map(({ used }) => used),
      sizes,
    );
    assert.deepEqual(
      (await listed('sort=id&order=desc')).map(({ used }) => used),
      sizes.toReversed(),
    );
    const [first] = await listed('');
    assert.ok(first?.fileCount === 1 && Date.parse(first.lastActivityAt ?? '') > Date.now() - 600_000);
    const path = `/v1/admin/owners/group-${group}-1/assets`;
    assert.deepEqual(
      (await admin.get(path)).body.data.map(({ size }) => size),
      [500],
    );
    assert.deepEqual(actionsOf(await (owners[1] ?? admin).get('/v1/audit')), ['owner.listed', 'asset.uploaded']);
    const user = await someone();
    for (const hidden of ['/v1/admin/owners', path]) assert.equal((await user.get(hidden)).status, 403);
  });

  test('counts downloads and the use of links through the service, exactly, without a change of the asset', async () => {
    const alice = await someone();
    const { body } = await alice.raw(png(4000));
    const path = `/v1/assets/${body.id}`;
    const record = async () => (await alice.get(path)).body;
    assert.equal((await record()).downloadCount, 0);
    assert.equal((await record()).lastDownloadedAt, undefined);
    const version = () => service.query('select xmin, version, updated_at from assets where id = $1', [body.id]);
    const before = await version();
    await Promise.all(Array.from({ length: 20 }, () => alice.content(body.id)));
    assert.equal((await record()).downloadCount, 20);
    assert.equal(await foldDownloads(service.database), 20);
    const folded = await record();
    assert.equal(folded.downloadCount, 20);
    assert.ok(Date.parse(folded.lastDownloadedAt ?? '') > Date.now() - 600_000);
    const { body: link } = await alice.get(`${path}/download`);
    assert.equal((await fetch(String(link['url']))).status, 200);
    // The second piece of a download is none of its own; what is only looked at is none at all.
    await alice.content(body.id, { range: 'bytes=0-99' });
    await alice.content(body.id, { range: 'bytes=100-199' });
    await alice.request('HEAD', `${path}/content`);
    assert.equal((await record()).downloadCount, 22);
    await Promise.all([foldDownloads(service.database), foldDownloads(service.database)]);
    assert.equal((await record()).downloadCount, 22);
    assert.deepEqual(await version(), before);
    assert.deepEqual(actionsOf(await alice.get(`/v1/audit?assetId=${body.id}`)).slice(0, 4), [
      'asset.downloaded',
      'asset.downloaded',
      'asset.link-followed',
      'asset.link-issued',
    ]);
    assert.equal(Object.hasOwn((await alice.get('/v1/assets')).body.data[0] ?? {}, 'downloadCount'), false);
  });

  test('is sealed day by day, and a row that is changed, removed or inserted is found', async () => {
    const { database } = service.database;
    const owner = `sealed-${randomUUID()}`;
    for (const ago of [3, 3, 2, 1])
      await service.query(
        `insert into audit_events (action, actor_id, owner_id, at, detail)
         values ('asset.updated', 'a', $1, date_trunc('day', now() - make_interval(days => $2 + 1)) + interval '5 hours', '{"n": 1}')`,
        [owner, ago],
      );
    const sealed = await sealPastDays(service.database);
    assert.ok(sealed.length >= 3);
    assert.deepEqual(await sealPastDays(service.database), []);
    const sound = await verifyAudit(database, 0);
    assert.deepEqual(sound.faults, []);
    assert.ok(sound.intact === sealed.length && sound.last);
    assert.equal(await hasSeal(database, sound.last.digest), 'has');
    assert.equal(await hasSeal(database, Buffer.alloc(32, 1)), undefined);

    const rows = 'from audit_events where owner_id = $1';
    const tampered = async (statement: string): Promise<string[]> => {
      const connection = new Connection({ connectionString: service.databaseUrl });
      await connection.connect();
      try {
        await connection.query('begin');
        // As who owns the database does it.
        await connection.query('set local session_replication_role = replica');
        await connection.query(statement.replaceAll('$1', `'${owner}'`));
        return (await verifyAudit(executorOn(connection), 0)).faults;
      } finally {
        await connection.query('rollback');
        await connection.end();
      }
    };
    assert.deepEqual(await tampered('select 1'), []);
    const one = `(select id ${rows} order by at limit 1)`;
    assert.match((await tampered(`update audit_events set actor_id = 'b' where id = ${one}`)).join(), /changed/);
    assert.match((await tampered(`update audit_events set detail = '{"n": 2}' where id = ${one}`)).join(), /changed/);
    assert.match((await tampered(`update audit_events set reason = 'none' where id = ${one}`)).join(), /changed/);
    assert.match((await tampered(`delete from audit_events where id = ${one}`)).join(), /1 of 2 rows were removed/);
    assert.match(
      (
        await tampered(`insert into audit_events (action, actor_id, owner_id, at) select 'a', 'b', 'c', at ${rows}`)
      ).join(),
      /rows were inserted/,
    );
    assert.match(
      (
        await tampered(
          "insert into audit_events (action, actor_id, owner_id, at) values ('a', 'b', 'c', now() - interval '300 days')",
        )
      ).join(),
      /inserted before/,
    );
    assert.match(
      (await tampered('delete from audit_seals where day = (select min(day) + 1 from audit_seals)')).join(),
      /seals between/,
    );
    assert.match(
      (
        await tampered("update audit_seals set digest = sha256('x') where day = (select min(day) from audit_seals)")
      ).join(),
      /changed.*changed/s,
    );
    for (const refused of ['update audit_seals set rows = 0', 'delete from audit_seals', 'truncate audit_seals'])
      await assert.rejects(service.query(refused), /append-only/);
  });
});
