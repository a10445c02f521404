/** Finding assets again: parts of names, tags, metadata, ranges, folders; by pages that together have each match once. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { userNamed } from '../../src/access/caller.ts';
import { lookupStatement, scanStatement } from '../../src/assets/list.ts';
import { AssetSearch, LONG_SCAN, SHORT_SCAN } from '../../src/assets/search.ts';
import { buildIndexes, missingIndexes } from '../../src/database/built-indexes.ts';
import type { DatabaseHandle } from '../../src/database/client.ts';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { startService, type TestService } from '../support/service.ts';

interface Row {
  name: string;
  tags?: string[];
  metadata?: Record<string, string>;
  path?: string;
  size?: number;
  projectId?: string;
  /** Seconds ago. */
  age?: number;
}

describe('finding assets', () => {
  let service: TestService;
  before(async () => {
    service = await startService({ env: { REQUESTS_PER_MINUTE: '0', UPLOADS_PER_HOUR: '0' } });
  });
  after(() => service.close());

  /** Records without bytes, of a new owner. */
  async function ownerOf(rows: Row[]): Promise<Client> {
    const owner = `finder-${randomUUID()}`;
    await service.query(
      `insert into assets (id, owner_id, project_id, name, state, asset_type, media_type, size, object_key, created_at, updated_at, tags, metadata, path)
       select gen_random_uuid(), $1, "projectId", name, 'ready', 'image', 'image/png', coalesce(size, 10), 'k', date_trunc('second', now()) - make_interval(secs => coalesce(age, 0)), now(),
         coalesce(tags, '{}'), coalesce(metadata, '{}'), coalesce(path, '')
       from jsonb_to_recordset($2::jsonb) as rows (name text, tags text[], metadata jsonb, path text, size bigint, "projectId" text, age integer)`,
      [owner, JSON.stringify(rows)],
    );
    return new Client(service.url, owner);
  }

  /** Names on all pages, and the folders. */
  async function found(
    client: Client,
    query: [string, string][] | Record<string, string>,
    limit = 3,
  ): Promise<{ names: string[]; folders: string[]; pages: number }> {
    const names: string[] = [];
    const folders: string[] = [];
    const search = new URLSearchParams([...new URLSearchParams(query), ['limit', String(limit)]]);
    let next: string | undefined = `/v1/assets?${search}`;
    let pages = 0;
    while (next !== undefined) {
      const { status, body, headers } = await client.get(next);
      assert.equal(status, 200, JSON.stringify(body));
      assert.ok(body.data.length + ((body['folders'] as string[] | undefined)?.length ?? 0) <= limit);
      names.push(...body.data.map(({ name }) => name));
      folders.push(...((body['folders'] as string[] | undefined) ?? []));
      next = /^<([^>]+)>/.exec(headers.get('link') ?? '')?.[1];
      assert.equal(body.page.hasMore, next !== undefined);
      pages += 1;
    }
    return { names, folders, pages };
  }
  const namesBy = async (client: Client, query: [string, string][] | Record<string, string>) =>
    (await found(client, query)).names.toSorted((a, b) => (a < b ? -1 : 1));

  test('by part of the name, whatever its case and accents, and wildcards stand for themselves', async () => {
    const names = ['Café 100%.png', 'CAFE_menu.png', 'Straße.png', 'Übersicht.png', 'a\\b.png', 'menu 1000.png'];
    const client = await ownerOf(names.map((name) => ({ name })));
    assert.deepEqual(await namesBy(client, { nameContains: 'cafe' }), ['CAFE_menu.png', 'Café 100%.png']);
    assert.deepEqual(await namesBy(client, { nameContains: 'CAFÉ' }), ['CAFE_menu.png', 'Café 100%.png']);
    // As two code points, it is the same letter.
    assert.deepEqual(await namesBy(client, { nameContains: 'U\u0308BER' }), ['Übersicht.png']);
    assert.deepEqual(await namesBy(client, { nameContains: '0%' }), ['Café 100%.png']);
    assert.deepEqual(await namesBy(client, { nameContains: 'e_m' }), ['CAFE_menu.png']);
    assert.deepEqual(await namesBy(client, { nameContains: 'a\\b' }), ['a\\b.png']);
    assert.deepEqual(await namesBy(client, { nameContains: '%' }), ['Café 100%.png']);
    assert.deepEqual(await namesBy(client, { nameContains: 'menu', name: 'caf' }), ['CAFE_menu.png']);
  });

  test('by tags, metadata, time and size, all of which must hold', async () => {
    const client = await ownerOf([
      { name: 'a', tags: ['beach', 'summer'], metadata: { album: 'one', order: '7' }, size: 5, age: 100 },
      { name: 'b', tags: ['summer'], metadata: { album: 'one' }, size: 50, age: 200 },
      { name: 'c', tags: ['beach'], metadata: { album: 'a:b' }, size: 500, age: 300 },
      { name: 'd', metadata: { album: 'One' }, size: 5000, age: 400 },
    ]);
    assert.deepEqual(await namesBy(client, { tag: 'Summer ' }), ['a', 'b']);
    assert.deepEqual(
      await namesBy(client, [
        ['tag', 'beach'],
        ['tag', 'summer'],
      ]),
      ['a'],
    );
    assert.deepEqual(await namesBy(client, { metadata: 'album:one' }), ['a', 'b']);
    assert.deepEqual(await namesBy(client, { metadata: 'album:a:b' }), ['c']);
    assert.deepEqual(
      await namesBy(client, [
        ['metadata', 'album:one'],
        ['metadata', 'order:7'],
      ]),
      ['a'],
    );
    assert.deepEqual(await namesBy(client, { metadata: 'nobody:has' }), []);
    assert.deepEqual(await namesBy(client, { minSize: '50', maxSize: '500' }), ['b', 'c']);
    assert.deepEqual(await namesBy(client, { minSize: '50', sort: 'size', order: 'asc' }), ['b', 'c', 'd']);
    const [oldest] = (await client.get('/v1/assets?order=asc&limit=1')).body.data;
    const from = oldest?.createdAt ?? '';
    assert.deepEqual(await namesBy(client, { createdFrom: from }), ['a', 'b', 'c', 'd']);
    assert.deepEqual(await namesBy(client, { createdBefore: from }), []);
    assert.deepEqual(
      await namesBy(client, { createdBefore: '2999-01-01T00:00:00+02:00', tag: 'beach', maxSize: '10' }),
      ['a'],
    );
  });

  const refused: [string, string][] = [
    ['metadata=album', 'metadata'],
    ['metadata=a:1&metadata=a:2', 'metadata'],
    ['tag=a,b', 'tag'],
    [Array.from({ length: 11 }, (_, index) => `tag=t${index}`).join('&'), 'tag'],
    ['createdFrom=yesterday', 'createdFrom'],
    ['createdBefore=0000-01-01T00:00:00Z', 'createdBefore'],
    ['minSize=-1', 'minSize'],
    ['nameContains=', 'nameContains'],
    ['nameContains=%00', 'nameContains'],
    ['path=a/../b', 'path'],
    ['delimiter=.', 'delimiter'],
    ['delimiter=/&trashed=true', 'delimiter'],
    ['name=a&name=b', 'name'],
  ];
  for (const [query, parameter] of refused)
    test(`what cannot be looked for is named: ${query.slice(0, 40)}`, async () => {
      const { status, body } = await new Client(service.url).get(`/v1/assets?${query}`);
      assert.equal(status, 400);
      assert.match(String(body.errors?.[0]?.parameter), new RegExp(`^${parameter}`));
    });

  for (const [query, from, to] of [
    ['minSize=2&maxSize=1', 'minSize', 'maxSize'],
    ['createdFrom=2026-01-02T00:00:00Z&createdBefore=2026-01-02T01:00:00%2B01:00', 'createdFrom', 'createdBefore'],
  ] as const)
    test(`ends of a range between which there is nothing are both named: ${query}`, async () => {
      const { status, body } = await new Client(service.url).get(`/v1/assets?${query}`);
      assert.equal(status, 400);
      assert.deepEqual(
        body.errors?.map(({ parameter }) => parameter),
        [from, to],
      );
      assert.match(String(body.errors?.[0]?.detail), new RegExp(`contradict each other: ${from} is .* ${to}`));
    });

  test('labels are the same by every way of uploading, normalised, and shown', async () => {
    const client = new Client(service.url, `finder-${randomUUID()}`);
    const fields = { path: 'photos/2026', tags: ' Summer,beach,SUMMER,U\u0308ber  all' };
    const labels = { path: 'photos/2026/', tags: ['beach', 'summer', 'über all'] };
    const shown = ({ path, tags }: { path?: string | undefined; tags?: string[] | undefined }) => ({ path, tags });
    const bytes = () => png(100 + Math.floor(Math.random() * 1000));
    assert.deepEqual(shown((await client.upload(bytes(), { fields })).body), labels);
    assert.deepEqual(shown((await client.raw(bytes(), { fields })).body), labels);
    const form = new FormData();
    form.append('files', new Blob([bytes()]), 'a.png');
    for (const [name, value] of Object.entries(fields)) form.append(name, value);
    const batch = await client.request('POST', '/v1/assets/batch', { body: form });
    const [result] = batch.body['results'] as { asset: typeof labels }[];
    assert.deepEqual(result && shown(result.asset), labels);
    const file = bytes();
    const text = (value: string) => Buffer.from(value).toString('base64');
    const tus = await client.request('POST', '/v1/resumable', {
      headers: {
        'tus-resumable': '1.0.0',
        'upload-length': String(file.length),
        'content-type': 'application/offset+octet-stream',
        'upload-metadata': `filename ${text('a.png')},path ${text(fields.path)},tags ${text(fields.tags)}`,
      },
      body: file,
    });
    assert.equal(tus.status, 201);
    const created = await client.get(`/v1/assets/${tus.headers.get('asset-id')}`);
    assert.deepEqual(shown(created.body), labels);
    const direct = await client.send('POST', '/v1/uploads', {
      fileName: 'a.png',
      contentType: 'image/png',
      size: file.length,
      path: fields.path,
      tags: fields.tags.split(','),
    });
    const [part] = direct.body['parts'] as { url: string }[];
    await fetch(part?.url ?? '', { method: 'PUT', body: file });
    const completed = await client.request('POST', `/v1/uploads/${direct.body['uploadId']}/complete`);
    assert.deepEqual(shown(completed.body), labels);
    assert.equal((await found(client, { tag: 'über all', path: 'photos' })).names.length, 5);
  });

  test('PATCH sets and removes them, the audit row tells what changed, and faults are named', async () => {
    const client = new Client(service.url, `finder-${randomUUID()}`);
    const { body } = await client.raw(png(), { fields: { tags: 'a,b' } });
    const patch = async (changes: object) => client.send('PATCH', `/v1/assets/${body.id}`, changes);
    const changed = await patch({ tags: ['c', 'B'], path: 'x/y' });
    assert.deepEqual([changed.body.tags, changed.body.path], [['b', 'c'], 'x/y/']);
    const [row] = await service.query<{ detail: object }>(
      `select detail from audit_events where asset_id = $1 and action = 'asset.updated'`,
      [body.id],
    );
    assert.deepEqual(row?.detail, {
      name: 'photo.png',
      path: 'x/y/',
      previousPath: '',
      addedTags: ['c'],
      removedTags: ['a'],
    });
    const none = await patch({ tags: null, path: null });
    assert.deepEqual([none.body.tags, none.body.path], [undefined, undefined]);
    const many = Array.from({ length: 51 }, (_, index) => `t${index}`);
    const deep = 'a/'.repeat(21);
    const faults = [{ tags: many }, { tags: ['a,b'] }, { tags: ['x'.repeat(65)] }, { tags: [''] }, { path: '/a' }];
    const more = [{ path: 'a//b' }, { path: 'a/./b' }, { path: deep }, { path: 'a\u202eb' }, { path: 'x'.repeat(600) }];
    for (const fault of [...faults, ...more]) {
      const refused = await patch(fault);
      assert.equal(refused.status, 400, JSON.stringify(fault));
      assert.match(String(refused.body.errors?.[0]?.pointer), /^\/(tags|path)/);
    }
  });

  test('folders come first, each once, and then what lies in the folder itself', async () => {
    const client = await ownerOf([
      { name: 'top-1' },
      { name: 'top-2' },
      ...['a', 'b', 'b', 'b0', 'b-', 'c'].map((folder, index) => ({
        name: `in-${folder}-${index}`,
        path: `${folder}/`,
      })),
      { name: 'deep', path: 'b/inner/most/' },
      { name: 'inner', path: 'b/inner/' },
    ]);
    const top = { delimiter: '/', sort: 'name', order: 'asc' };
    for (const limit of [1, 2, 5, 7, 50]) {
      const all = await found(client, top, limit);
      assert.deepEqual(all.folders, ['a/', 'b-/', 'b/', 'b0/', 'c/'], `pages of ${limit}`);
      assert.deepEqual(all.names, ['top-1', 'top-2']);
      const inB = await found(client, { ...top, path: 'b' }, limit);
      assert.deepEqual([inB.folders, inB.names], [['b/inner/'], ['in-b-1', 'in-b-2']]);
    }
    assert.deepEqual(await namesBy(client, { path: 'b/' }), ['deep', 'in-b-1', 'in-b-2', 'inner']);
    const filtered = await found(client, { ...top, path: 'b/', nameContains: 'b-2', sort: 'createdAt' });
    assert.deepEqual([filtered.folders, filtered.names], [['b/inner/'], ['in-b-2']]);
    // A folder of which all is in the trash is there no more.
    const { body } = await client.get('/v1/assets?path=a/');
    assert.equal((await client.request('DELETE', `/v1/assets/${body.data[0]?.id}`)).status, 204);
    assert.deepEqual((await found(client, top)).folders, ['b-/', 'b/', 'b0/', 'c/']);
  });

  test('folders of a project are those of all its members, and nobody else sees them', async () => {
    const projectId = `finding-${randomUUID()}`;
    const manager = new Client(service.url, `finder-${randomUUID()}`);
    await manager.send('POST', '/v1/projects', { id: projectId, name: 'Finding' });
    const member = await ownerOf([
      { name: 'in-project', path: 'p/', projectId },
      { name: 'own', path: 'o/' },
    ]);
    const subject = member.headers['x-user-id'] ?? '';
    const list = async (client: Client, query: object) =>
      (await found(client, { delimiter: '/', ...query } as Record<string, string>)).folders;
    assert.deepEqual(await list(manager, { projectId }), ['p/']);
    assert.deepEqual(await list(member, { projectId }), []);
    await manager.send('PUT', `/v1/projects/${projectId}/members/${subject}`, { role: 'viewer' });
    assert.deepEqual(await list(member, { projectId }), ['p/']);
    assert.deepEqual(await list(member, {}), ['o/']);
    await manager.send('PATCH', `/v1/projects/${projectId}`, { separate: true });
    await service.query(`update assets set owner_id = 'somebody' where project_id = $1`, [projectId]);
    assert.deepEqual(await list(member, { projectId }), []);
    assert.deepEqual(await list(manager, { projectId }), ['p/']);
  });

  test('who has left a project finds nothing there any more, by no step of a search', async () => {
    const projectId = `finding-${randomUUID()}`;
    const manager = new Client(service.url, `finder-${randomUUID()}`);
    await manager.send('POST', '/v1/projects', { id: projectId, name: 'Finding' });
    const member = await ownerOf([{ name: 'left there', tags: ['left'], projectId }]);
    const subject = member.headers['x-user-id'] ?? '';
    const path = `/v1/projects/${projectId}/members/${subject}`;
    await manager.send('PUT', path, { role: 'editor' });
    assert.deepEqual(await namesBy(member, { tag: 'left' }), ['left there']);
    assert.equal((await manager.request('DELETE', path)).status, 204);
    for (const query of [{ tag: 'left' }, { tag: 'left', projectId }, { nameContains: 'left', sort: 'size' }])
      assert.deepEqual(await namesBy(member, query), []);
    const caller = userNamed(subject);
    const query = {
      scope: { kind: 'own', caller },
      tags: ['left'],
      trashed: false,
      sort: 'name',
      order: 'asc',
    } as const;
    for (const { statement, values } of [
      lookupStatement({ ...query, limit: 9 }),
      scanStatement({ ...query, limit: 9 }, 9),
    ])
      assert.deepEqual((await service.database.database.run(statement, values)).rows, []);
    assert.deepEqual(await namesBy(manager, { tag: 'left', projectId }), ['left there']);
  });

  describe('among many', () => {
    const many = SHORT_SCAN + 2 * LONG_SCAN + 1000;
    let client: Client;
    before(async () => {
      const owner = `finder-${randomUUID()}`;
      client = new Client(service.url, owner);
      // The rare ones lie at the far end.
      await service.query(
        `insert into assets (id, owner_id, name, state, asset_type, media_type, size, object_key, created_at, updated_at, path)
         select gen_random_uuid(), $1, case when n > $2::integer - 3 then 'needle qq ' || n else 'hay ' || n end, 'ready', 'image', 'image/png', n, 'k',
           now() - make_interval(secs => n), now(), case when n % 2 = 0 then 'one/' else '' end
         from generate_series(1, $2::integer) as n`,
        [owner, many],
      );
      await service.query('analyze assets');
    });

    test('what few have is on the first page', async () => {
      const needles = await found(client, { nameContains: 'needle' }, 50);
      assert.deepEqual([needles.names.length, needles.pages], [3, 1]);
      const none = await found(client, { metadata: 'nobody:has' }, 50);
      assert.deepEqual([none.names.length, none.pages], [0, 1]);
    });

    test('a lookup that does not end is replaced by scans, whose pages have every match once', async () => {
      const query = { trashed: false, sort: 'createdAt', order: 'desc', limit: 2 } as const;
      const caller = userNamed(client.headers['x-user-id'] ?? '');
      const search = new AssetSearch(withSlowLookups(service.database));
      const names: string[] = [];
      const sizes: number[] = [];
      let page = await search.page({ ...query, scope: { kind: 'own', caller }, nameContains: 'needle' }, caller.id);
      for (;;) {
        names.push(...page.rows.map(({ name }) => name));
        sizes.push(page.rows.length);
        const { next } = page;
        if (!next) break;
        const { scans = false, ...after } = next;
        page = await search.page(
          { ...query, scope: { kind: 'own', caller }, nameContains: 'needle', after, scans },
          caller.id,
        );
      }
      assert.deepEqual(
        names,
        [many - 2, many - 1, many].map((n) => `needle qq ${n}`),
      );
      assert.deepEqual(sizes.slice(0, 2), [0, 0]);
      assert.ok(sizes.length <= 5, String(sizes));
    });

    test('a folder of many costs one step of the walk', async () => {
      const { status, body } = await client.get('/v1/assets?delimiter=/&limit=2');
      assert.equal(status, 200);
      assert.deepEqual(body['folders'], ['one/']);
      assert.equal(body.data.length, 1);
    });
  });

  test('the indexes are there after the start, and one that was broken off is built again', async () => {
    await service.query(`update pg_index set indisvalid = false where indexrelid = 'assets_search'::regclass`);
    assert.deepEqual(await missingIndexes(service.database.database), ['assets_search']);
    const built = await service.database.alone((executor) =>
      buildIndexes(executor, { atMost: Number.POSITIVE_INFINITY }),
    );
    assert.deepEqual(built, ['assets_search']);
    assert.deepEqual(await missingIndexes(service.database.database), []);
    assert.deepEqual(await service.database.alone((executor) => buildIndexes(executor, { atMost: 0 })), []);
  });
});

/** As if the table were so large that no lookup ends in its time: Postgres cancels it. */
function withSlowLookups(handle: DatabaseHandle): DatabaseHandle {
  return {
    ...handle,
    transact: (work) =>
      handle.transact((transaction) =>
        work({
          ...transaction,
          run: (statement, values) =>
            statement.text.includes('interval')
              ? Promise.reject(Object.assign(new Error('canceling statement'), { code: '57014' }))
              : transaction.run(statement, values),
        }),
      ),
  };
}
