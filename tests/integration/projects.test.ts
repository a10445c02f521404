/** Projects and their members over HTTP. Who may do what is in access-matrix.test.ts. */
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';
import { type JWTPayload, SignJWT } from 'jose';
import { userNamed } from '../../src/access/caller.ts';
import { AssetsRepository } from '../../src/assets/repository.ts';
import { Places } from '../../src/projects/places.ts';
import { type AnyBody, Client, SECRET } from '../support/client.ts';
import { png } from '../support/files.ts';
import { startService, type TestService } from '../support/service.ts';

interface Project {
  id: string;
  name: string;
  metadata: Record<string, string>;
  separate: boolean;
  role: string;
}
const problem = (name: string) => `urn:stowage:problem:${name}`;

describe('projects', () => {
  let service: TestService;
  let manager: Client;
  let id: string;
  let numbers = 0;
  before(async () => {
    service = await startService({
      env: {
        AUTH_JWT_SECRET: SECRET,
        AUTH_PROJECTS_CLAIM: 'projects',
        PROJECTS_PER_CALLER: '3',
        MEMBERS_PER_PROJECT: '3',
        REQUESTS_PER_MINUTE: '0',
        UPLOADS_PER_HOUR: '0',
      },
    });
  });
  after(() => service.close());

  async function clientOf(subject: string, claims: JWTPayload = {}): Promise<Client> {
    const token = new SignJWT(claims).setProtectedHeader({ alg: 'HS256' }).setSubject(subject).setExpirationTime('2h');
    const client = new Client(service.url);
    delete client.headers['x-user-id'];
    client.headers['authorization'] = `Bearer ${await token.sign(Buffer.from(SECRET))}`;
    return client;
  }
  const make = (client: Client, body: object) => client.send('POST', '/v1/projects', { name: 'A project', ...body });
  const member = (subject: string, role?: string, by = manager) => {
    const path = `/v1/projects/${id}/members/${encodeURIComponent(subject)}`;
    return role === undefined ? by.request('DELETE', path) : by.send('PUT', path, { role });
  };
  const actions = async (project = id) => {
    const rows = await service.query<{ action: string; actor_id: string; via: string | null; detail: object }>(
      'select action, actor_id, via, detail from audit_events where project_id = $1 order by id',
      [project],
    );
    return rows.map(({ action, actor_id, detail }) => [action, actor_id, detail]);
  };
  const outcome = ({ status, body }: { status: number; body: AnyBody }) => [status, body.type];

  beforeEach(async () => {
    id = `project-${++numbers}`;
    manager = await clientOf(`manager-${numbers}`);
    assert.equal((await make(manager, { id })).status, 201);
  });

  test('are made, read, changed under a condition and deleted, each with one audit row', async () => {
    const subject = `manager-${numbers}`;
    const first = await manager.get(`/v1/projects/${id}`);
    const { createdAt, updatedAt, ...told } = first.body;
    assert.deepEqual(told, { id, name: 'A project', metadata: {}, separate: false, gallery: false, role: 'manager' });
    const etag = first.headers.get('etag') ?? '';
    assert.equal((await manager.get(`/v1/projects/${id}`, { 'if-none-match': etag })).status, 304);
    const change = (headers: Record<string, string>) =>
      manager.send('PATCH', `/v1/projects/${id}`, { name: 'B', metadata: { a: 'b' } }, headers);
    const changed = await change({ 'if-match': etag });
    assert.deepEqual([changed.status, changed.body.name, changed.body.metadata], [200, 'B', { a: 'b' }]);
    const again = await change({ 'if-match': etag });
    assert.deepEqual(outcome(again), [412, problem('precondition-failed')]);
    assert.equal(again.headers.get('etag'), changed.headers.get('etag'));
    assert.equal(
      (await manager.request('DELETE', `/v1/projects/${id}`, { headers: { 'if-match': etag } })).status,
      412,
    );
    assert.equal((await manager.request('DELETE', `/v1/projects/${id}`)).status, 204);
    assert.equal((await manager.get(`/v1/projects/${id}`)).status, 404);
    assert.deepEqual(await actions(), [
      ['project.created', subject, { name: 'A project' }],
      ['project.updated', subject, { name: 'B', separate: false, gallery: false }],
      ['project.deleted', subject, { name: 'B' }],
    ]);
  });

  test('have an id that is made where none is named, and are told of where it is taken', async () => {
    const made = await make(manager, {});
    assert.match(made.body.id, /^[0-9a-f-]{36}$/);
    assert.equal(made.headers.get('location'), `/v1/projects/${made.body.id}`);
    assert.deepEqual(outcome(await make(await clientOf('somebody'), { id })), [409, problem('project-exists')]);
  });

  test('are made once under an Idempotency-Key', async () => {
    const headers = { 'idempotency-key': `make-${id}` };
    const send = () => manager.send('POST', '/v1/projects', { name: 'once' }, headers);
    const [first, second] = [await send(), await send()];
    assert.deepEqual([second.status, second.body], [201, first.body]);
    assert.equal(second.headers.get('idempotency-replayed'), 'true');
  });

  test('are listed page by page to their members, and to whose token names them', async () => {
    const reader = await clientOf(`reader-${numbers}`, { projects: { [`${id}-b`]: 'viewer', 'not-made': 'manager' } });
    for (const suffix of ['-a', '-b']) assert.equal((await make(manager, { id: id + suffix })).status, 201);
    for (const each of [id, `${id}-a`]) {
      const path = `/v1/projects/${each}/members/reader-${numbers}`;
      assert.equal((await manager.send('PUT', path, { role: 'editor' })).status, 200);
    }
    const seen: [string, string][] = [];
    for (let path: string | undefined = '/v1/projects?limit=1'; path !== undefined; ) {
      const { status, body, headers } = await reader.get(path);
      assert.equal(status, 200);
      const data = body.data as unknown as Project[];
      assert.equal(data.length, 1);
      seen.push(...data.map((project): [string, string] => [project.id, project.role]));
      path = /^<(.+)>; rel="next"$/.exec(headers.get('link') ?? '')?.[1];
      assert.equal(body.page.hasMore, path !== undefined);
    }
    assert.deepEqual(seen, [
      [id, 'editor'],
      [`${id}-a`, 'editor'],
      [`${id}-b`, 'viewer'],
    ]);
    for (const cursor of ['x', Buffer.from('["members.subject","a"]').toString('base64url')])
      assert.equal((await reader.get(`/v1/projects?cursor=${cursor}`)).status, 400);
  });

  test('are deleted when nothing is in them, be it trash or an open upload, with their quota', async () => {
    const admin = await clientOf('root', { scope: 'admin' });
    await admin.send('PUT', `/v1/admin/quotas/project:${id}`, { limit: 100_000 });
    const remove = () => manager.request('DELETE', `/v1/projects/${id}`);
    const stored = await manager.raw(png(), { fields: { projectId: id } });
    await manager.request('DELETE', `/v1/assets/${stored.body.id}`);
    const open = { fileName: 'a.png', contentType: 'image/png', size: 200, projectId: id };
    const upload = await manager.send('POST', '/v1/uploads', open);
    assert.equal(upload.status, 201, JSON.stringify(upload.body));
    const refused = await remove();
    assert.deepEqual(outcome(refused), [409, problem('project-not-empty')]);
    assert.match(refused.body.detail ?? '', /^It has 1 assets, 1 of them in the trash, and 1 open uploads\./);
    assert.equal((await manager.request('DELETE', `/v1/assets/${stored.body.id}?permanent=true`)).status, 204);
    assert.equal((await remove()).status, 409);
    assert.equal((await manager.request('DELETE', `/v1/uploads/${upload.body['uploadId']}`)).status, 204);
    assert.equal((await remove()).status, 204);
    const left = await service.query('select 1 from quotas where owner_id = $1', [`project:${id}`]);
    assert.deepEqual(left, [], 'who makes a project of this id next has not its quota');
  });

  test('of uploads and the deletion of their project at once, one is refused, and nothing is lost', async () => {
    const uploads = Array.from({ length: 8 }, (_, index) =>
      manager.raw(png(200, index), { fields: { projectId: id } }),
    );
    const deletions = Array.from({ length: 8 }, () => manager.request('DELETE', `/v1/projects/${id}`));
    const stored = (await Promise.all(uploads)).map(({ status }) => status);
    for (const status of stored) assert.ok(status === 201 || status === 404, stored.join());
    for (const { status } of await Promise.all(deletions)) assert.ok([204, 404, 409].includes(status), String(status));
    const { body } = await manager.get(`/v1/assets?projectId=${id}`);
    assert.equal(body.data.length, stored.filter((status) => status === 201).length);
  });

  test('that were deleted while an upload was on its way tell it so', async () => {
    const places = new Places({ database: service.database.database, creation: 'admin', perCaller: 0 });
    const caller = userNamed(`manager-${numbers}`);
    const to = await places.of(caller, id);
    const { body } = await manager.raw(png());
    assert.equal((await manager.request('DELETE', `/v1/projects/${id}`)).status, 204);
    const assets = new AssetsRepository(service.database);
    const actor = { callerId: caller.id, requestId: 'a', via: null, because: null };
    await assert.rejects(
      assets.update(
        caller,
        body.id,
        { move: { to, caller, limits: { defaultLimit: 100_000, tierQuotas: null } } },
        undefined,
        actor,
      ),
      /There is no such project/,
    );
    assert.equal((await manager.get(`/v1/assets/${body.id}`)).body.projectId, undefined);
  });

  test('are no more than a caller may make, by whatever way and however many at once', async () => {
    const maker = await clientOf(`maker-${numbers}`);
    const tries = Array.from({ length: 12 }, (_, index) =>
      index % 2 === 0
        ? make(maker, {})
        : maker.raw(png(200, index), { fields: { projectId: `${id}-${index}` }, name: `${index}.png` }),
    );
    const made = await Promise.all(tries);
    assert.equal(made.filter(({ status }) => status === 201).length, 3, made.map(outcome).join(' '));
    for (const answer of made)
      if (answer.status !== 201) assert.deepEqual(outcome(answer), [403, problem('too-many-projects')]);
    const named = await clientOf(`maker-${numbers}`, { projects: { [`${id}-named`]: 'editor' } });
    assert.equal((await named.raw(png(), { fields: { projectId: `${id}-named` } })).status, 201);
    const admin = await clientOf(`maker-${numbers}`, { scope: 'admin' });
    assert.equal((await make(admin, {})).status, 201);
  });

  test('keep a manager, also when two leave at once', async () => {
    const second = await clientOf(`second-${numbers}`);
    assert.equal((await member(`second-${numbers}`, 'manager')).status, 200);
    const gone = await Promise.all([
      member(`manager-${numbers}`),
      member(`second-${numbers}`, undefined, second),
      member(`manager-${numbers}`, 'viewer', second),
    ]);
    const { rows } = await service.database.pool.query(
      "select subject from project_members where project_id = $1 and role = 'manager'",
      [id],
    );
    assert.equal(rows.length, 1, JSON.stringify(gone.map(outcome)));
    const [last] = rows;
    const by = last.subject === `manager-${numbers}` ? manager : second;
    for (const answer of [await member(last.subject, undefined, by), await member(last.subject, 'editor', by)])
      assert.deepEqual(outcome(answer), [409, problem('last-manager')]);
  });

  test('have members of any subject that tokens may have', async () => {
    const subjects = ['a/b', 'ü%2F+ ?#&', `${'ü'.repeat(127)}x`];
    for (const [index, subject] of subjects.entries()) {
      assert.equal((await member(subject, 'viewer')).status, 200, subject);
      const other = await clientOf(subject);
      assert.equal((await other.get(`/v1/projects/${id}`)).status, 200, subject);
      assert.equal((await member(subject, undefined, index === 0 ? other : manager)).status, 204, subject);
      assert.equal((await other.get(`/v1/projects/${id}`)).status, 404, subject);
    }
    for (const bad of ['x'.repeat(256), 'a\nb']) assert.equal((await member(bad, 'viewer')).status, 400);
    assert.equal((await member('nobody')).status, 404);
  });

  test('have as many members as they may, and one row of audit for each change', async () => {
    const statuses = await Promise.all(['b', 'c', 'd', 'e'].map(async (name) => outcome(await member(name, 'viewer'))));
    assert.deepEqual(statuses.filter(([status]) => status === 200).length, 2);
    assert.deepEqual(
      statuses.find(([status]) => status !== 200),
      [403, problem('too-many-members')],
    );
    const { body } = await manager.get(`/v1/projects/${id}/members?limit=1`);
    const [first] = body.data as unknown as { subject: string; role: string }[];
    assert.ok(first && body.page.nextCursor !== undefined);
    const rest = await manager.get(`/v1/projects/${id}/members?cursor=${body.page.nextCursor}`);
    assert.equal(rest.body.data.length, 2);
    assert.equal(rest.body.page.hasMore, false);
    // A role that he has is no change; another one needs no room.
    for (const role of ['viewer', 'editor', 'editor']) assert.equal((await member(first.subject, role)).status, 200);
    const told = (await actions()).filter(([, , detail]) => Object(detail).subject === first.subject);
    assert.deepEqual(
      told.map(([action, , detail]) => [action, detail]),
      [
        ['project.member-set', { subject: first.subject, role: 'viewer' }],
        ['project.member-set', { subject: first.subject, role: 'editor', previousRole: 'viewer' }],
      ],
    );
  });

  test('that are separate show who is no manager his own assets and himself alone', async () => {
    await manager.send('PATCH', `/v1/projects/${id}`, { separate: true });
    const [first, second] = [await clientOf(`first-${numbers}`), await clientOf(`second-${numbers}`)];
    for (const name of ['first', 'second']) assert.equal((await member(`${name}-${numbers}`, 'editor')).status, 200);
    for (const client of [first, second])
      assert.equal((await client.raw(png(), { fields: { projectId: id } })).status, 201);
    const seenBy = async (client: Client) => {
      const list = await client.get(`/v1/assets?projectId=${id}`);
      const members = await client.get(`/v1/projects/${id}/members`);
      return [new Set(list.body.data.map(({ uploadedBy }) => uploadedBy)), members.body.data.length];
    };
    assert.deepEqual(await seenBy(first), [new Set([`first-${numbers}`]), 1]);
    assert.deepEqual(await seenBy(second), [new Set([`second-${numbers}`]), 1]);
    assert.deepEqual(await seenBy(manager), [new Set([`first-${numbers}`, `second-${numbers}`]), 3]);
    const [foreign] = (await manager.get(`/v1/assets?projectId=${id}&limit=1`)).body.data;
    const other = foreign?.uploadedBy === `first-${numbers}` ? second : first;
    assert.equal((await other.get(`/v1/assets/${foreign?.id}`)).status, 404);
    await manager.send('PATCH', `/v1/projects/${id}`, { separate: false });
    assert.deepEqual(await seenBy(first), [new Set([`first-${numbers}`, `second-${numbers}`]), 3]);
  });

  test('keep what a member has uploaded who leaves, and show it to him no more', async () => {
    const editor = await clientOf(`editor-${numbers}`);
    await member(`editor-${numbers}`, 'editor');
    const { body } = await editor.raw(png(), { fields: { projectId: id } });
    const listed = async (client: Client, query: string) =>
      (await client.get(`/v1/assets${query}`)).body.data.map((asset) => asset.id);
    assert.deepEqual(await listed(editor, ''), [body.id]);
    assert.equal((await member(`editor-${numbers}`, undefined, editor)).status, 204);
    for (const query of ['', `?projectId=${id}`]) assert.deepEqual(await listed(editor, query), []);
    assert.deepEqual(await listed(manager, `?projectId=${id}`), [body.id]);
    assert.equal((await manager.get(`/v1/assets/${body.id}`)).body.uploadedBy, `editor-${numbers}`);
  });

  test('take assets from where who moves them is a manager to where he may upload', async () => {
    const editor = await clientOf(`editor-${numbers}`);
    const other = await clientOf(`other-${numbers}`);
    assert.equal((await make(other, { id: `${id}-other` })).status, 201);
    await member(`editor-${numbers}`, 'editor');
    const { body } = await manager.raw(png(), { fields: { projectId: id } });
    const move = (projectId: string) => editor.send('PATCH', `/v1/assets/${body.id}`, { projectId });
    assert.equal((await move(`${id}-other`)).status, 404);
    const path = `/v1/projects/${id}-other/members/editor-${numbers}`;
    await other.send('PUT', path, { role: 'viewer' });
    assert.deepEqual(outcome(await move(`${id}-other`)), [403, problem('forbidden')]);
    await other.send('PUT', path, { role: 'editor' });
    assert.deepEqual(outcome(await move(`${id}-other`)), [403, problem('forbidden')]);
    assert.equal((await move(id)).status, 200, 'where it is already, nobody takes it away');
    await member(`editor-${numbers}`, 'manager');
    const moved = await move(`${id}-other`);
    assert.deepEqual(
      [moved.status, moved.body.projectId, moved.body.uploadedBy],
      [200, `${id}-other`, `manager-${numbers}`],
    );
    assert.equal((await manager.get(`/v1/assets/${body.id}`)).status, 404);
    assert.equal((await other.get(`/v1/assets/${body.id}`)).status, 200);
  });
});
