import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sql } from 'drizzle-orm';
import { openDatabase } from '../../src/database/client.ts';
import { build, compile, nowhere, type Parameter } from '../../src/database/statements.ts';
import { createTestDatabase } from '../support/postgres.ts';

const echo = compile('a-name', (p: Parameter<'value'>) =>
  build.select({ value: sql<number>`${p('value')}::integer`.as('value') }).from(nowhere),
);
const divide = compile('divide', (p: Parameter<'by'>) =>
  build.select({ value: sql<number>`6 / ${p('by')}::integer`.as('value') }).from(nowhere),
);
const prepared = compile(
  'list-prepared',
  () => build.select({ name: sql<string>`name`.as('name') }).from(sql`pg_prepared_statements`),
  { named: false },
);

test('a statement with a name is prepared once per connection, unless that is switched off', async (context) => {
  const { url, drop } = await createTestDatabase();
  context.after(() => drop());
  for (const prepare of [true, false]) {
    const handle = openDatabase({ url, connections: 1, timeout: 60_000, prepare, onError: () => {} });
    for (const value of [1, 2]) assert.deepEqual((await handle.database.run(echo, { value })).rows, [{ value }]);
    await handle.transact(async (transaction) => {
      assert.deepEqual((await transaction.run(echo, { value: 3 })).rows, [{ value: 3 }]);
    });
    const { rows } = await handle.database.run(prepared, {});
    assert.deepEqual(rows, prepare ? [{ name: 'a-name' }] : []);
    await handle.close();
  }
});

test('a statement that fails leaves the connection and its prepared statements sound', async (context) => {
  const { url, drop } = await createTestDatabase();
  context.after(() => drop());
  const handle = openDatabase({ url, connections: 1, timeout: 60_000, onError: () => {} });
  context.after(() => handle.close());
  const sixBy = (by: number) => handle.database.run(divide, { by });
  await assert.rejects(sixBy(0));
  assert.equal((await sixBy(2)).rows[0]?.value, 3);
  await assert.rejects(sixBy(0));
  assert.equal((await sixBy(3)).rows[0]?.value, 2);
});
