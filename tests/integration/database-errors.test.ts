import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { Client, Pool } from 'pg';
import { isDatabaseUnavailable } from '../../src/database/client.ts';
import { createTestDatabase } from '../support/postgres.ts';

const rejection = (work: Promise<unknown>) =>
  work.then(
    () => assert.fail('it went well'),
    (error: unknown) => error,
  );

test('a connection that ended, was ended by the server, or cannot be had is the database being away', async (context) => {
  const database = await createTestDatabase();
  context.after(() => database.drop());
  const connect = async () => {
    const client = new Client({ connectionString: database.url });
    client.on('error', () => {});
    await client.connect();
    return client;
  };

  const ended = await connect();
  await ended.end();
  assert.ok(isDatabaseUnavailable(await rejection(ended.query('select 1'))));

  const [killed, other] = [await connect(), await connect()];
  const { rows } = await killed.query<{ pid: number }>('select pg_backend_pid() as pid');
  const running = rejection(killed.query('select pg_sleep(60)'));
  await other.query('select pg_terminate_backend($1)', [rows[0]?.pid]);
  assert.ok(isDatabaseUnavailable(await running));
  assert.ok(isDatabaseUnavailable(await rejection(killed.query('select 1'))));

  const fault = await rejection(other.query('select from nowhere'));
  assert.ok(!isDatabaseUnavailable(fault));
  await other.end();

  const nobody = new Pool({ connectionString: 'postgres://a:b@127.0.0.1:9/c' });
  assert.ok(isDatabaseUnavailable(await rejection(nobody.query('select 1'))));
  await nobody.end();
});

test('a transaction that the server ended, because the process stood still within it, is the database being away', async (context) => {
  const database = await createTestDatabase();
  context.after(() => database.drop());
  const client = new Client({ connectionString: database.url, idle_in_transaction_session_timeout: 50 });
  client.on('error', () => {});
  await client.connect();
  context.after(() => client.end().catch(() => {}));
  await client.query('begin');
  const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');

  // Nothing is read meanwhile, as in a process that was stopped: what the server said is found by the next statement.
  const watching = `
    import { Client } from 'pg';
    const client = new Client({ connectionString: process.argv[1] });
    await client.connect();
    const isThere = async () => (await client.query('select 1 from pg_stat_activity where pid = $1', [process.argv[2]])).rowCount;
    while (await isThere());
    await client.end();`;
  const { status } = spawnSync(process.execPath, [
    '--input-type=module',
    '-e',
    watching,
    database.url,
    String(rows[0]?.pid),
  ]);
  assert.equal(status, 0);
  const fault = await rejection(client.query('select 1'));
  assert.ok(isDatabaseUnavailable(fault), String(fault));
});
