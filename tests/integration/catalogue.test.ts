import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { Client } from '../support/client.ts';
import { pdf, png } from '../support/files.ts';
import { startService, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

describe('the catalogue', () => {
  let service: TestService;
  before(async () => {
    service = await startService({ env: { UPLOADS_PER_HOUR: '0', REQUESTS_PER_MINUTE: '0' } });
  });
  after(() => service.close());

  /** A caller of its own for each test, with assets of these names and sizes. */
  async function callerWith(names: string[], fields: Record<string, string> = {}): Promise<Client> {
    const client = new Client(service.url, `user-${Math.random()}`);
    for (const [index, name] of names.entries()) {
      const { status } = await client.raw(png(200 + index * 10, index), { name, fields });
      assert.equal(status, 201);
    }
    return client;
  }

  async function namesOf(client: Client, query: string): Promise<string[]> {
    const { status, body } = await client.get(`/v1/assets${query}`);
    assert.equal(status, 200, JSON.stringify(body));
    return body.data.map(({ name }) => name);
  }

  test('the newest comes first, and each sort has both orders', async () => {
    const client = await callerWith(['b.png', 'A.png', 'c.png']);
    assert.deepEqual(await namesOf(client, ''), ['c.png', 'A.png', 'b.png']);
    assert.deepEqual(await namesOf(client, '?order=asc'), ['b.png', 'A.png', 'c.png']);
    assert.deepEqual(await namesOf(client, '?sort=name&order=asc'), ['A.png', 'b.png', 'c.png']);
    assert.deepEqual(await namesOf(client, '?sort=name&order=desc'), ['c.png', 'b.png', 'A.png']);
    assert.deepEqual(await namesOf(client, '?sort=size&order=desc'), ['c.png', 'A.png', 'b.png']);
  });

  test('filters narrow by project, asset type, media type, family, state and beginning of the name', async () => {
    const client = await callerWith(['Holiday-1.png', 'holiday-2.png', 'work.png']);
    const document = await client.raw(pdf(), { name: 'Holiday.pdf', fields: { projectId: 'p1' } });
    assert.equal(document.status, 201);
    const sorted = (query: string) => namesOf(client, `?sort=name&order=asc${query}`);
    assert.deepEqual(await sorted('&projectId=p1'), ['Holiday.pdf']);
    assert.deepEqual(await sorted('&assetType=document'), ['Holiday.pdf']);
    assert.deepEqual(await sorted('&mediaType=application/pdf'), ['Holiday.pdf']);
    assert.deepEqual(await sorted('&mediaType=image/*'), ['Holiday-1.png', 'holiday-2.png', 'work.png']);
    assert.deepEqual(await sorted('&name=HOLIDAY'), ['Holiday-1.png', 'holiday-2.png', 'Holiday.pdf']);
    assert.deepEqual(await sorted('&name=oliday'), []);
    assert.deepEqual(await sorted('&name=%25'), []);
    assert.deepEqual(await sorted('&state=ready&name=work'), ['work.png']);
    assert.deepEqual(await sorted('&state=lost'), []);
  });

  test('pages of any size, in any order, give every asset exactly once', async () => {
    const names = [
      'a.png',
      'B.png',
      'ä.png',
      'Z.png',
      'a.png',
      'same.png',
      'same.png',
      '01.png',
      '日本.png',
      'é.png',
      '😀.png',
    ];
    const client = await callerWith(names);
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom('createdAt', 'name', 'size'),
        fc.constantFrom('asc', 'desc'),
        fc.integer({ min: 1, max: 13 }),
        async (sort, order, limit) => {
          const seen: string[] = [];
          let cursor: string | undefined;
          do {
            const { status, body } = await client.get(
              `/v1/assets?sort=${sort}&order=${order}&limit=${limit}${cursor ? `&cursor=${cursor}` : ''}`,
            );
            assert.equal(status, 200, JSON.stringify(body));
            assert.ok(body.data.length <= limit);
            assert.equal(body.page.hasMore, body.page.nextCursor !== undefined);
            seen.push(...body.data.map(({ id }) => id));
            cursor = body.page.nextCursor;
          } while (cursor);
          assert.equal(seen.length, names.length);
          assert.equal(new Set(seen).size, names.length);
        },
      ),
      { numRuns: 25 },
    );
  });

  test('the Link header leads to the next page with the same filters', async () => {
    const client = await callerWith(['1.png', '2.png', '3.png']);
    const first = await client.get('/v1/assets?limit=2&sort=name&order=asc');
    const next = /^<([^>]+)>; rel="next"$/.exec(first.headers.get('link') ?? '')?.[1] ?? '';
    const second = await client.get(next);
    assert.deepEqual(
      second.body.data.map(({ name }) => name),
      ['3.png'],
    );
    assert.equal(second.headers.get('link'), null);
  });

  test('a cursor is refused when it is forged, cut, or of another order', async () => {
    const client = await callerWith(['1.png', '2.png']);
    const { body } = await client.get('/v1/assets?limit=1&sort=name');
    const forge = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
    const id = '019aa1b2-7c3d-7e4f-8a5b-6c7d8e9fa0b1';
    const cursors = [
      body.page.nextCursor ?? '',
      'x',
      forge(['size.desc', 'abc', id]),
      forge(['createdAt.desc', 'yesterday', id]),
      forge(['createdAt.desc', '0', id]),
      forge(['createdAt.desc', '2026-02-30 00:00:00+00', id]),
      forge(['createdAt.desc', '0000-01-01 00:00:00+00', id]),
      forge(['createdAt.desc', '999999-01-01 00:00:00+00', id]),
      forge(['name.desc', 'a\0', id]),
      forge(['name.desc', 'a', 'no-uuid']),
      forge({}),
      body.page.nextCursor?.slice(0, -4) ?? '',
    ];
    for (const cursor of cursors) {
      for (const sort of ['createdAt', 'size', ...(cursor === cursors[0] ? [] : ['name'])]) {
        const answer = await client.get(`/v1/assets?sort=${sort}&cursor=${cursor}`);
        assert.equal(answer.status, 400, `${sort} ${cursor}`);
        assert.equal(answer.body.errors?.[0]?.parameter, 'cursor');
      }
    }
  });

  test('a cursor that was changed anywhere is refused or leads on, and never is a fault', async () => {
    const client = await callerWith(['1.png', '2.png', '3.png']);
    for (const sort of ['createdAt', 'name', 'size']) {
      const { body } = await client.get(`/v1/assets?limit=1&sort=${sort}`);
      const cursor = body.page.nextCursor ?? '';
      await fc.assert(
        fc.asyncProperty(
          fc.nat(cursor.length - 1),
          fc.stringMatching(/^[A-Za-z0-9_-]{0,3}$/),
          fc.nat(2),
          async (at, added, removed) => {
            const changed = cursor.slice(0, at) + added + cursor.slice(at + removed);
            const { status } = await client.get(`/v1/assets?sort=${sort}&cursor=${changed}`);
            assert.ok(status === 400 || status === 200, `${status} for ${changed}`);
          },
        ),
        { numRuns: 150 },
      );
      // The ends of what is taken for a moment or a number are within what Postgres takes.
      for (const value of [
        '1000-01-01 00:00:00-15:59:59',
        '9999-12-31 23:59:59.999-15',
        '9999999999999999',
        '\u{10ffff}'.repeat(600),
      ]) {
        const forged = Buffer.from(JSON.stringify([`${sort}.desc`, value, body.data[0]?.id])).toString('base64url');
        assert.ok([200, 400].includes((await client.get(`/v1/assets?sort=${sort}&cursor=${forged}`)).status));
      }
    }
  });

  test('a rename changes the name and the entity tag and leaves the bytes alone', async () => {
    const client = await callerWith(['old.png']);
    const { body } = await client.get('/v1/assets');
    const id = body.data[0]?.id ?? '';
    const before = await client.get(`/v1/assets/${id}`);
    const renamed = await client.send(
      'PATCH',
      `/v1/assets/${id}`,
      { name: 'new.png', projectId: 'p2', metadata: { a: 'b' } },
      { 'if-match': before.headers.get('etag') ?? '' },
    );
    assert.equal(renamed.status, 200);
    assert.equal(renamed.body.name, 'new.png');
    assert.equal(renamed.body.projectId, 'p2');
    assert.deepEqual(renamed.body.metadata, { a: 'b' });
    assert.notEqual(renamed.headers.get('etag'), before.headers.get('etag'));
    assert.equal((await client.get(`/v1/assets/${id}`)).headers.get('etag'), renamed.headers.get('etag'));
    const content = await client.content(id);
    assert.equal(content.status, 200);
    assert.match(content.headers.get('content-disposition') ?? '', /new\.png/);
    const cleared = await client.send('PATCH', `/v1/assets/${id}`, { projectId: null, metadata: null });
    assert.equal(cleared.body.projectId, undefined);
    assert.deepEqual(cleared.body.metadata, {});
  });

  test('of twenty renames with the same If-Match exactly one succeeds', async () => {
    const client = await callerWith(['x.png']);
    const id = (await client.get('/v1/assets')).body.data[0]?.id ?? '';
    const etag = (await client.get(`/v1/assets/${id}`)).headers.get('etag') ?? '';
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        client.send('PATCH', `/v1/assets/${id}`, { name: `${index}.png` }, { 'if-match': etag }),
      ),
    );
    assert.deepEqual(answers.map(({ status }) => status).sort(), [200, ...Array(19).fill(412)]);
  });

  test('a bad name, a foreign extension and an unknown field are refused by JSON pointer', async () => {
    const client = await callerWith(['x.png']);
    const id = (await client.get('/v1/assets')).body.data[0]?.id ?? '';
    for (const [patch, pointer] of [
      [{ name: '../x.png' }, '/name'],
      [{ name: 'x.exe' }, '/name'],
      [{ name: 'a\u202Egnp.exe' }, '/name'],
      [{ colour: 'red' }, '/colour'],
      [{ metadata: { a: 1 } }, '/metadata/a'],
      [{ metadata: { a: 'x\0' } }, '/metadata/a'],
      [{ projectId: 'a b' }, '/projectId'],
    ] as const) {
      const answer = await client.send('PATCH', `/v1/assets/${id}`, patch);
      assert.equal(answer.status, 400, JSON.stringify(patch));
      assert.equal(answer.body.errors?.[0]?.pointer, pointer);
    }
    assert.equal((await client.send('PATCH', `/v1/assets/${id}`, {})).status, 400);
    assert.equal((await client.get(`/v1/assets/${id}`)).body.name, 'x.png');
  });

  test('the trash hides an asset from lists and downloads until it is restored', async () => {
    const client = await callerWith(['t.png']);
    const id = (await client.get('/v1/assets')).body.data[0]?.id ?? '';
    const used = (await client.get('/v1/quota')).body['used'];
    assert.equal((await client.request('DELETE', `/v1/assets/${id}`)).status, 204);
    assert.equal((await client.request('DELETE', `/v1/assets/${id}`)).status, 204);
    assert.deepEqual(await namesOf(client, ''), []);
    assert.deepEqual(await namesOf(client, '?trashed=true'), ['t.png']);
    assert.ok((await client.get(`/v1/assets/${id}`)).body.trashedAt);
    assert.equal((await client.content(id)).status, 409);
    assert.equal((await client.get(`/v1/assets/${id}/download`)).status, 409);
    assert.equal((await client.send('PATCH', `/v1/assets/${id}`, { name: 'n.png' })).status, 409);
    assert.equal((await client.get('/v1/quota')).body['used'], used);
    const restored = await client.request('POST', `/v1/assets/${id}/restore`);
    assert.equal(restored.status, 200);
    assert.equal(restored.body.trashedAt, undefined);
    assert.equal((await client.request('POST', `/v1/assets/${id}/restore`)).status, 409);
    assert.deepEqual(await namesOf(client, ''), ['t.png']);
    assert.equal((await client.content(id)).status, 200);
  });

  test('a permanent deletion leaves neither record nor bytes, and frees the quota', async () => {
    const client = await callerWith(['d.png']);
    const id = (await client.get('/v1/assets')).body.data[0]?.id ?? '';
    const link = (await client.get(`/v1/assets/${id}/download`)).body['url'];
    assert.equal((await fetch(String(link))).status, 200);
    assert.equal((await client.request('DELETE', `/v1/assets/${id}?permanent=true`)).status, 204);
    for (const path of ['', '/download', '/content'])
      assert.equal((await client.get(`/v1/assets/${id}${path}`)).status, 404);
    assert.equal((await client.request('DELETE', `/v1/assets/${id}?permanent=true`)).status, 404);
    assert.equal((await client.get('/v1/quota')).body['used'], 0);
    await waitUntil(async () => (await fetch(String(link))).status === 404);
    await waitUntil(async () => (await service.query('select id from assets where id = $1', [id])).length === 0);
  });

  test('statistics count what is there by asset type, media type, project and day', async () => {
    const client = await callerWith(['1.png', '2.png'], { projectId: 'web' });
    await client.raw(pdf(), { name: 'd.pdf' });
    const { body } = await client.get('/v1/statistics');
    const bytes = 200 + 210;
    assert.deepEqual(body['byAssetType'], [
      { value: 'document', count: 1, bytes: pdf().length },
      { value: 'image', count: 2, bytes },
    ]);
    assert.deepEqual(body['byProject'], [
      { value: 'web', count: 2, bytes },
      { count: 1, bytes: pdf().length },
    ]);
    assert.deepEqual(body['byDay'], [
      { value: new Date().toISOString().slice(0, 10), count: 3, bytes: bytes + pdf().length },
    ]);
  });

  test('each change writes exactly one audit row, and the audit table refuses changes', async () => {
    const client = await callerWith(['a.png']);
    const id = (await client.get('/v1/assets')).body.data[0]?.id ?? '';
    await client.send('PATCH', `/v1/assets/${id}`, { name: 'b.png' });
    await client.get(`/v1/assets/${id}/download?disposition=attachment&expiresIn=60`);
    await client.content(id, { range: 'bytes=0-3' });
    await client.request('DELETE', `/v1/assets/${id}`);
    await client.request('DELETE', `/v1/assets/${id}`);
    await client.request('POST', `/v1/assets/${id}/restore`);
    await client.request('DELETE', `/v1/assets/${id}?permanent=true`);
    const rows = await service.query<{ action: string; actor_id: string; detail: Record<string, unknown> }>(
      'select action, actor_id, detail from audit_events where asset_id = $1 order by id',
      [id],
    );
    assert.deepEqual(
      rows.map(({ action }) => action),
      [
        'asset.uploaded',
        'asset.updated',
        'asset.link-issued',
        'asset.downloaded',
        'asset.trashed',
        'asset.restored',
        'asset.deleted',
      ],
    );
    assert.ok(rows.every(({ actor_id }) => actor_id === client.headers['x-user-id']));
    assert.deepEqual(rows[2]?.detail, { expiresIn: 60, disposition: 'attachment' });
    assert.deepEqual(rows[3]?.detail, { range: 'bytes=0-3' });
    await assert.rejects(service.query('delete from audit_events'), /append-only/);
    await assert.rejects(service.query("update audit_events set action = 'x'"), /append-only/);
  });

  test('a refused upload and a changed quota are in the audit table too', async () => {
    const client = new Client(service.url, 'audited');
    assert.equal((await client.raw(Buffer.from('plain text'), { name: 'x.png' })).status, 415);
    assert.equal((await client.upload(png(), { name: '../..' })).status, 400);
    await client.send('PUT', '/v1/admin/quotas/audited', { limit: 5 });
    assert.equal((await client.raw(png(), { name: 'x.png' })).status, 403);
    const rows = await service.query<{ action: string; reason: string }>(
      "select action, detail->>'reason' as reason from audit_events where owner_id = 'audited' order by id",
    );
    assert.deepEqual(rows, [
      { action: 'upload.refused', reason: 'undetected-type' },
      { action: 'upload.refused', reason: 'invalid-name' },
      { action: 'quota.changed', reason: null },
      { action: 'upload.refused', reason: 'quota-exceeded' },
    ]);
  });
});
