import assert from 'node:assert/strict';
import { createHash, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import { Client } from 'pg';
import { userNamed } from '../../src/access/caller.ts';
import { AssetsRepository } from '../../src/assets/repository.ts';
import { openDatabase } from '../../src/database/client.ts';
import { prepareDatabase } from '../../src/prepare-database.ts';
import { UploadSessionsRepository } from '../../src/uploads/session-repository.ts';
import { createTestDatabase } from '../support/postgres.ts';

const migrations = new URL('../../migrations/', import.meta.url);
const journal: { entries: { idx: number; tag: string; when: number }[] } = JSON.parse(
  readFileSync(new URL('meta/_journal.json', migrations), 'utf8'),
);

async function database(context: TestContext): Promise<{ url: string; client: Client }> {
  const { url, drop } = await createTestDatabase();
  const client = new Client({ connectionString: url });
  context.after(async () => {
    await client.end();
    await drop();
  });
  await client.connect();
  return { url, client };
}

/** The database as the migration `last` left it. */
async function migrateTo(client: Client, last: number): Promise<void> {
  await client.query('create schema drizzle');
  await client.query(
    'create table drizzle.__drizzle_migrations (id serial primary key, hash text not null, created_at bigint)',
  );
  for (const { idx, tag, when } of journal.entries) {
    if (idx > last) continue;
    const text = readFileSync(new URL(`${tag}.sql`, migrations), 'utf8');
    for (const statement of text.split('--> statement-breakpoint')) await client.query(statement);
    await client.query('insert into drizzle.__drizzle_migrations (hash, created_at) values ($1, $2)', [
      createHash('sha256').update(text).digest('hex'),
      when,
    ]);
  }
}

async function applied(client: Client): Promise<object[]> {
  return (await client.query('select id, hash from drizzle.__drizzle_migrations order by id')).rows;
}

test('a database that is up to date stays as it is', async (context) => {
  const { url, client } = await database(context);
  await prepareDatabase(url);
  const before = await applied(client);
  assert.equal(before.length, journal.entries.length);
  await prepareDatabase(url);
  assert.deepEqual(await applied(client), before);
});

test('a database of an earlier version gets what is missing, and its uploads in progress go on', async (context) => {
  const { url, client } = await database(context);
  await migrateTo(client, 4);
  const [direct, resumable] = [randomUUID(), randomUUID()];
  for (const id of [direct, resumable])
    await client.query(
      `insert into assets (id, owner_id, name, state, object_key, created_at, updated_at, lease_expires_at)
       values ($1, 'owner', 'a.png', 'uploading', $2, now(), now(), now() + interval '1 hour')`,
      [id, `key/${id}`],
    );
  await client.query(
    `insert into multipart_uploads (asset_id, store_upload_id, part_size, size, declared_type, asset_type, expires_at)
     values ($1, 'store-1', 8388608, 20000000, 'image/png', 'image', now() + interval '1 hour')`,
    [direct],
  );
  await client.query(
    `insert into resumable_uploads (asset_id, store_upload_id, part_size, position, tail, media_type, policy, expires_at)
     values ($1, 'store-2', 8388608, 8388611, 'abc', 'image/png', 'image', now() + interval '1 hour')`,
    [resumable],
  );
  await client.query(`insert into resumable_parts values ($1, 1, 'etag', 8388608)`, [resumable]);

  await prepareDatabase(url);
  assert.equal((await applied(client)).length, journal.entries.length);
  const { rows: sessions } = await client.query(
    `select asset_id, kind, store_upload_id, size, position, tail, validated_type, validated_policy
     from upload_sessions order by kind`,
  );
  assert.deepEqual(sessions, [
    {
      asset_id: direct,
      kind: 'direct',
      store_upload_id: 'store-1',
      size: '20000000',
      position: '0',
      tail: null,
      validated_type: null,
      validated_policy: null,
    },
    {
      asset_id: resumable,
      kind: 'resumable',
      store_upload_id: 'store-2',
      size: null,
      position: '8388611',
      tail: Buffer.from('abc'),
      validated_type: 'image/png',
      validated_policy: 'image',
    },
  ]);
  const { rows: parts } = await client.query('select * from upload_parts');
  assert.deepEqual(parts, [{ asset_id: resumable, part_number: 1, etag: 'etag', size: '8388608' }]);
});

test('assets of an earlier version are counted, and their audit trail goes on in partitions', async (context) => {
  const { url, client } = await database(context);
  await migrateTo(client, 6);
  const add = (state: string, days: number, size: number) =>
    client.query(
      `insert into assets (id, owner_id, name, state, asset_type, media_type, size, object_key, created_at, updated_at)
       values ($1, 'owner', 'a.png', $2, 'image', 'image/png', $4, 'key', now() - make_interval(days => $3), now())`,
      [randomUUID(), state, days, size],
    );
  for (const [state, days, size] of [
    ['ready', 0, 100],
    ['lost', 90, 20],
    ['deleting', 0, 3],
  ] as const)
    await add(state, days, size);
  const write = () =>
    client.query("insert into audit_events (action, actor_id, owner_id) values ('asset.uploaded', 'owner', 'owner')");
  await client.query(
    "insert into audit_events (action, actor_id, owner_id, at) values ('asset.uploaded', 'owner', 'owner', '2025-01-01')",
  );
  await write();

  await prepareDatabase(url);
  const { rows: statistics } = await client.query(
    "select dimension, files, bytes from asset_statistics where owner_id = 'owner' order by dimension",
  );
  assert.deepEqual(statistics, [
    { dimension: 'assetType', files: '2', bytes: '120' },
    { dimension: 'day', files: '1', bytes: '100' },
    { dimension: 'mediaType', files: '2', bytes: '120' },
    { dimension: 'project', files: '2', bytes: '120' },
  ]);
  // An instance of the earlier version writes on, beside this one.
  await write();
  await add('ready', 0, 7);
  const { rows: events } = await client.query('select id from audit_events order by id');
  assert.deepEqual(
    events.map(({ id }) => id),
    ['1', '2', '3'],
  );
  const { rows: counted } = await client.query("select bytes from asset_statistics where dimension = 'day'");
  assert.deepEqual(counted, [{ bytes: '107' }]);
});

test('a tail that an earlier version has kept is gone on with, and that version cannot go on behind bytes that it does not see', async (context) => {
  const { url, client } = await database(context);
  await migrateTo(client, 6);
  const id = randomUUID();
  await client.query(
    `insert into assets (id, owner_id, name, state, object_key, created_at, updated_at, lease_expires_at)
     values ($1, 'owner', 'a.png', 'uploading', 'key', now(), now(), now() + interval '1 hour')`,
    [id],
  );
  const insert = `insert into upload_sessions (asset_id, kind, part_size, position, tail, expires_at)
    values ($1, 'resumable', 5242880, 3, 'abc', now() + interval '1 hour')`;
  await client.query(insert, [id]);
  await prepareDatabase(url);

  const handle = openDatabase({ url, connections: 2, timeout: 10_000, onError: () => {} });
  context.after(() => handle.close());
  const sessions = new UploadSessionsRepository(handle);
  const found = await sessions.find('resumable', userNamed('owner'), id);
  assert.ok(found && 'session' in found);
  const { session } = found;
  assert.deepEqual([session.position, session.inParts], [3, 0]);
  const from = { size: 6, lease: 1, expiresAt: new Date(Date.now() + 1000) };
  const holder = randomUUID();
  assert.ok(await sessions.take(session, holder, from));
  assert.equal(await sessions.take(session, randomUUID(), from), undefined, 'it is not as it was seen');
  const tail = { begin: 3, bytes: Buffer.from('def') };
  assert.ok(await sessions.advance(id, holder, { position: 6, inParts: 0, parts: [], tail, isLast: true }));
  const kept: Buffer[] = [];
  for await (const bytes of sessions.tail(id, { from: 0, to: 6 })) kept.push(bytes);
  assert.equal(Buffer.concat(kept).toString(), 'abcdef');
  // What version 0.1 would write: a tail of its own, and parts that lack the bytes before.
  for (const change of ["position = 7, tail = 'g'", 'position = 6 + 5242880, tail = null'])
    await assert.rejects(
      client.query(`update upload_sessions set ${change} where asset_id = $1`, [id]),
      /upload_sessions_tail/,
    );
});

test('labels of an earlier version become projects in which nobody sees what he could not see before', async (context) => {
  const { url, client } = await database(context);
  await migrateTo(client, 12);
  const labels: [owner: string, label: string | null, state: string][] = [
    ['alice', 'mine', 'ready'],
    ['alice', 'mine', 'uploading'],
    ['alice', 'shared', 'ready'],
    ['bob', 'shared', 'ready'],
    ['bob', 'shared', 'ready'],
    ['carol', 'shared', 'deleting'],
    ['bob', null, 'ready'],
  ];
  for (const [owner, label, state] of labels)
    await client.query(
      `insert into assets (id, owner_id, project_id, name, state, asset_type, media_type, size, object_key, created_at, updated_at)
       values ($1, $2, $3, 'a.png', $4, 'image', 'image/png', 100, 'key', now(), now())`,
      [randomUUID(), owner, label, state],
    );
  await prepareDatabase(url);

  const { rows: made } = await client.query('select id, name, separate, created_by from projects order by id');
  assert.deepEqual(made, [
    { id: 'mine', name: 'mine', separate: false, created_by: 'alice' },
    { id: 'shared', name: 'shared', separate: true, created_by: 'stowage:migration' },
  ]);
  const { rows: members } = await client.query(
    'select project_id, subject, role from project_members order by project_id, subject',
  );
  assert.deepEqual(
    members.map(({ project_id, subject, role }) => [project_id, subject, role]),
    [
      ['mine', 'alice', 'manager'],
      ['shared', 'alice', 'editor'],
      ['shared', 'bob', 'editor'],
      ['shared', 'carol', 'editor'],
    ],
  );
  const handle = openDatabase({ url, connections: 2, timeout: 10_000, onError: () => {} });
  context.after(() => handle.close());
  const assets = new AssetsRepository(handle);
  const { rows: all } = await client.query<{ id: string; owner_id: string }>(
    "select id, owner_id from assets where state = 'ready'",
  );
  for (const subject of ['alice', 'bob', 'carol', 'dave']) {
    const caller = userNamed(subject);
    const query = { trashed: false, sort: 'createdAt', order: 'desc', limit: 50 } as const;
    const { assets: listed } = await assets.list({ ...query, scope: { kind: 'own', caller } }, subject);
    const own = all.filter(({ owner_id }) => owner_id === subject).map(({ id }) => id);
    assert.deepEqual(new Set(listed.map(({ id }) => id)), new Set(own));
    for (const { id, owner_id } of all)
      assert.equal((await assets.find(caller, id)) !== undefined, owner_id === subject);
  }
});
