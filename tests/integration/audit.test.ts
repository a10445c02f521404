import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { Client as Connection } from 'pg';
import { audit } from '../../src/audit/index.ts';
import { MAX_REFUSALS } from '../../src/database/audit.ts';
import { maintainAuditPartitions } from '../../src/database/audit-partitions.ts';
import { prepareDatabase } from '../../src/prepare-database.ts';
import { Client } from '../support/client.ts';
import { pdf, png } from '../support/files.ts';
import { createPreparedDatabase } from '../support/postgres.ts';
import { startService, type TestService } from '../support/service.ts';
import { serviceRole } from '../support/service-role.ts';

describe('the audit trail', () => {
  let service: TestService;
  before(async () => {
    service = await startService({
      env: { REQUESTS_PER_MINUTE: '0', UPLOADS_PER_HOUR: '0', AUDIT_RETENTION: '60d' },
    });
  });
  after(() => service.close());

  const fresh = () => new Client(service.url, `user-${randomUUID()}`);
  const partitions = async () =>
    (await service.query<{ name: string }>('select name::text from audit_events_partitions() order by since')).map(
      ({ name }) => name,
    );
  const write = (at: string) =>
    service.query("insert into audit_events (action, actor_id, owner_id, at) values ('a', 'b', 'partitions', $1)", [
      at,
    ]);
  const maintain = (days: number) => maintainAuditPartitions(service.database.database, days);
  /** A month of the past or the future, as the service would have made it. */
  const makePartition = (month: string) =>
    service.query("select audit_events_attach($1, $2::timestamptz, $2::timestamptz + interval '1 month')", [
      `audit_events_${month.replace('-', '_')}`,
      `${month}-01 00:00:00+00`,
    ]);

  test('has partitions for this month and the next two, and a partition that is missing fails no write', async () => {
    const ahead = await partitions();
    const [last] = ahead.slice(-1);
    assert.ok(ahead.length >= 3 && last);
    await service.query(`drop table ${last}`);
    const month = last.replace('audit_events_', '').replace('_', '-');
    await write(`${month}-10T00:00:00Z`);
    const whereIs = async () =>
      (
        await service.query<{ name: string }>(
          "select tableoid::regclass::text as name from audit_events where owner_id = 'partitions'",
        )
      ).map(({ name }) => name);
    assert.deepEqual(await whereIs(), ['audit_events_default']);
    await maintain(0);
    // The row lies where it lay; its table is the partition of the month now.
    assert.deepEqual(await whereIs(), [`audit_events_since_${month.replace('-', '_')}`]);
    await write(`${month}-11T00:00:00Z`);
    assert.equal(new Set(await whereIs()).size, 1);
    await maintain(0);
    assert.equal((await partitions()).length, ahead.length);
  });

  test('loses whole months that are older than AUDIT_RETENTION, and nothing else', async () => {
    const [before] = await partitions();
    // What was there before partitions is the partition of all the past; here, the past is to have months.
    await service.query(`drop table ${before}`);
    const month = (ago: number) =>
      new Date(Date.UTC(new Date().getUTCFullYear(), new Date().getUTCMonth() - ago)).toISOString().slice(0, 7);
    for (const ago of [15, 3, 0]) await makePartition(month(ago));
    await write(`${month(15)}-05T00:00:00Z`);
    await write(`${month(3)}-05T00:00:00Z`);
    assert.equal(await maintain(0), 0);
    assert.equal(await maintain(400), 1);
    const left = await service.query<{ at: Date }>(
      "select at from audit_events where owner_id = 'partitions' and at < now() - interval '1 month'",
    );
    assert.deepEqual(
      left.map(({ at }) => at.toISOString().slice(0, 7)),
      [month(3)],
    );
    await assert.rejects(maintain(1), /30 days/);
  });

  test('is kept for AUDIT_RETENTION by a job of every night', async () => {
    const job = audit.jobs?.find(({ name }) => name === 'maintain-audit');
    assert.match(job?.schedule ?? '', /^\d+ \d+ \* \* \*$/);
    const [old, kept] = [200, 50].map((days) => new Date(Date.now() - days * 86_400_000).toISOString().slice(0, 7));
    for (const month of [old, kept]) await makePartition(month ?? '');
    const { signal } = new AbortController();
    const context = { signal, fence: async (_transaction: unknown, ids: readonly string[]) => new Set(ids) };
    const failed = await job?.runBatch([{ id: randomUUID(), data: {}, signal }], context, service.service.core);
    assert.deepEqual(failed, new Map());
    const left = await partitions();
    assert.ok(left.includes(`audit_events_${kept?.replace('-', '_')}`));
    assert.ok(!left.includes(`audit_events_${old?.replace('-', '_')}`));
  });

  test('refuses TRUNCATE, UPDATE and DELETE, each partition by itself too', async () => {
    await write(new Date().toISOString());
    for (const table of ['audit_events', 'audit_events_default', ...(await partitions())])
      await assert.rejects(service.query(`truncate ${table}`), /append-only/, table);
    const [{ name } = { name: '' }] = await service.query<{ name: string }>(
      "select tableoid::regclass::text as name from audit_events where owner_id = 'partitions' limit 1",
    );
    for (const table of ['audit_events', name]) {
      await assert.rejects(service.query(`update ${table} set action = 'x'`), /append-only/, table);
      await assert.rejects(service.query(`delete from ${table}`), /append-only/, table);
    }
  });

  test('has a bounded number of refusals of one caller in an hour, and the last one says so', async () => {
    const client = fresh();
    const owner = client.headers['x-user-id'];
    const refuse = async () => assert.equal((await client.raw(pdf(), { name: 'a.png' })).status, 415);
    await refuse();
    await service.query("update caller_counts set count = $2 where caller_id = $1 and kind = 'refusal'", [
      owner,
      MAX_REFUSALS - 2,
    ]);
    for (let times = 0; times < 4; times++) await refuse();
    const rows = await service.query<{ detail: Record<string, unknown> }>(
      'select detail from audit_events where owner_id = $1 order by id',
      [owner],
    );
    assert.deepEqual(
      rows.map(({ detail }) => detail['furtherRefusals']),
      [undefined, undefined, 'not recorded'],
    );
    // Another caller has a count of their own, and an hour later so has this one.
    assert.equal((await fresh().raw(pdf(), { name: 'a.png' })).status, 415);
    await service.query('update caller_counts set window_ends_at = now() where caller_id = $1', [owner]);
    await refuse();
    assert.equal((await service.query('select 1 from audit_events where owner_id = $1', [owner])).length, 4);
    // What changes something is always written.
    assert.equal((await client.raw(png())).status, 201);
    assert.equal((await service.query('select 1 from audit_events where owner_id = $1', [owner])).length, 5);
  });

  test('has nothing of what is refused for an id that nobody has', async () => {
    const client = fresh();
    const id = randomUUID();
    const tus = { 'tus-resumable': '1.0.0' };
    const chunk = { ...tus, 'upload-offset': '0', 'content-type': 'application/offset+octet-stream' };
    const answers = [
      await client.request('PATCH', `/v1/resumable/${id}`, { headers: chunk, body: png() }),
      await client.request('DELETE', `/v1/resumable/${id}`, { headers: tus }),
      await client.request('DELETE', `/v1/assets/${id}?permanent=true`),
      await client.request('POST', `/v1/uploads/${id}/complete`),
      await client.request('DELETE', `/v1/uploads/${id}`),
      await client.request('POST', `/v1/assets/${id}/restore`),
      await client.get(`/v1/assets/${id}/download`),
    ];
    for (const { status } of answers) assert.equal(status, 404);
    assert.deepEqual(
      await service.query('select * from audit_events where owner_id = $1', [client.headers['x-user-id']]),
      [],
    );
  });
});

describe('a role of the service beside the one that migrates', () => {
  let owner: Connection;
  let drop: () => Promise<void>;
  let service: TestService;
  let asService: Connection;
  before(async () => {
    const fresh = await createPreparedDatabase();
    owner = new Connection({ connectionString: fresh.url });
    await owner.connect();
    const role = `stowage_service_${randomBytes(6).toString('hex')}`;
    const password = randomBytes(12).toString('hex');
    await owner.query(`create role ${role} login password '${password}'`);
    await owner.query(serviceRole(role));
    const url = new URL(fresh.url);
    url.username = role;
    url.password = password;
    drop = async () => {
      await owner.query(`drop owned by ${role}`);
      await owner.query(`drop role ${role}`);
      await owner.end();
      await fresh.drop();
    };
    // What the service does when it starts, as that role.
    await prepareDatabase(url.href);
    service = await startService({ databaseUrl: url.href, env: { REQUESTS_PER_MINUTE: '0' } });
    asService = new Connection({ connectionString: url.href });
    await asService.connect();
  });
  after(async () => {
    await asService.end();
    await service.close();
    await drop();
  });

  test('does everything the service does', async () => {
    const client = new Client(service.url);
    const { body, status } = await client.raw(png(), { headers: { 'idempotency-key': randomUUID() } });
    assert.equal(status, 201);
    assert.equal((await client.raw(pdf(), { name: 'a.png' })).status, 415);
    assert.equal((await client.get('/v1/statistics')).status, 200);
    assert.equal((await client.send('PATCH', `/v1/assets/${body.id}`, { name: 'b.png' })).status, 200);
    assert.equal((await client.send('PUT', '/v1/admin/quotas/somebody', { limit: 5 })).status, 200);
    assert.equal((await client.request('DELETE', `/v1/assets/${body.id}?permanent=true`)).status, 204);
    assert.equal((await service.service.reconcile({})).outcome, 'done');
    assert.equal(await maintainAuditPartitions(service.database.database, 400), 0);
  });

  test('cannot take anything from the audit trail, nor from the tables', async () => {
    const { rows } = await owner.query<{ name: string }>(
      "select 'audit_events' as name union select name::text from audit_events_partitions()",
    );
    assert.ok(rows.length > 3);
    for (const { name } of rows)
      for (const statement of [
        `update ${name} set action = 'x'`,
        `delete from ${name}`,
        `truncate ${name}`,
        `drop table ${name}`,
        `alter table ${name} disable trigger all`,
      ])
        await assert.rejects(asService.query(statement), /permission denied|must be owner/, statement);
    for (const statement of [
      'drop table assets',
      'truncate assets cascade',
      'alter table assets disable trigger all',
      'drop function audit_events_refuse_change() cascade',
      'create or replace function audit_events_refuse_change() returns trigger language plpgsql as $$ begin return null; end $$',
      "set session_replication_role = 'replica'",
      'create table mine ()',
      'select audit_events_maintain(1)',
    ])
      await assert.rejects(asService.query(statement), /permission denied|must be owner|30 days/, statement);
  });
});
