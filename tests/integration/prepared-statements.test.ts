import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openDatabase } from '../../src/database/client.ts';
import { sql } from '../../src/database/sql.ts';
import { createTestDatabase } from '../support/postgres.ts';

test('a statement with a name is prepared once per connection, unless that is switched off', async (context) => {
  const { url, drop } = await createTestDatabase();
  context.after(() => drop());
  for (const prepare of [true, false]) {
    const handle = openDatabase({ url, connections: 1, timeout: 60_000, prepare, onError: () => {} });
    for (const value of [1, 2]) {
      const { rows } = await handle.database.execute(sql`select ${value}::int as value`, 'a-name');
      assert.deepEqual(rows, [{ value }]);
    }
    await handle.transact(async (transaction) => {
      const { rows } = await transaction.execute(sql`select ${3}::int as value`, 'a-name');
      assert.deepEqual(rows, [{ value: 3 }]);
    });
    const { rows } = await handle.database.execute(sql`select name from pg_prepared_statements`);
    assert.deepEqual(rows, prepare ? [{ name: 'a-name' }] : []);
    await handle.close();
  }
});

test('a statement that fails leaves the connection and its prepared statements sound', async (context) => {
  const { url, drop } = await createTestDatabase();
  context.after(() => drop());
  const handle = openDatabase({ url, connections: 1, timeout: 60_000, onError: () => {} });
  context.after(() => handle.close());
  const divide = (by: number) =>
    handle.database.execute<{ value: number }>(sql`select 6 / ${by}::int as value`, 'divide');
  await assert.rejects(divide(0));
  assert.equal((await divide(2)).rows[0]?.value, 3);
  await assert.rejects(divide(0));
  assert.equal((await divide(3)).rows[0]?.value, 2);
});
