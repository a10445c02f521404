import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Client } from 'pg';
import { prepareDatabase } from '../../src/prepare-database.ts';
import { createTestDatabase } from '../support/postgres.ts';

test('a database of the version before gets what is missing, and one that is up to date stays as it is', async (context) => {
  const { url, drop } = await createTestDatabase();
  const client = new Client({ connectionString: url });
  context.after(async () => {
    await client.end();
    await drop();
  });
  await prepareDatabase(url);
  await client.connect();
  const applied = async () =>
    (await client.query('select id, hash from drizzle.__drizzle_migrations order by id')).rows;
  const before = await applied();
  await prepareDatabase(url);
  assert.deepEqual(await applied(), before);

  // As it was before the last migration.
  await client.query('drop table resumable_parts, resumable_uploads');
  await client.query(
    'delete from drizzle.__drizzle_migrations where created_at = (select max(created_at) from drizzle.__drizzle_migrations)',
  );
  await prepareDatabase(url);
  assert.deepEqual(
    (await applied()).map(({ hash }) => hash),
    before.map(({ hash }) => hash),
  );
  await client.query('select from resumable_uploads, resumable_parts');
});
