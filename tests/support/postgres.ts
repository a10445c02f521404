import { randomBytes } from 'node:crypto';
import { Client } from 'pg';
import { prepareDatabase } from '../../src/prepare-database.ts';

export interface TestDatabase {
  url: string;
  /** Disconnects whoever is still there. */
  drop(): Promise<void>;
}

/** A new, empty database with a random name on the server of TEST_DATABASE_URL, whose user may create databases. */
export function createTestDatabase(): Promise<TestDatabase> {
  return create('');
}

/** A new database with the tables of the service: a copy of TEST_DATABASE_TEMPLATE where there is one. */
export async function createPreparedDatabase(): Promise<TestDatabase> {
  const template = process.env['TEST_DATABASE_TEMPLATE'];
  if (template) return create(`template ${template}`);
  const database = await createTestDatabase();
  await prepareDatabase(database.url);
  return database;
}

/** A prepared database that nobody can connect to, so that it can be copied at any time. */
export async function createTemplate(): Promise<{ name: string; drop: () => Promise<void> }> {
  const { url, drop } = await createTestDatabase();
  await prepareDatabase(url);
  const name = new URL(url).pathname.slice(1);
  await onServer(`alter database ${name} allow_connections false`);
  return { name, drop };
}

async function create(how: string): Promise<TestDatabase> {
  const name = `test_${randomBytes(8).toString('hex')}`;
  await onServer(`create database ${name} ${how}`);
  const url = new URL(serverUrl());
  url.pathname = `/${name}`;
  return { url: url.href, drop: () => onServer(`drop database if exists ${name} with (force)`) };
}

async function onServer(statement: string): Promise<void> {
  const client = new Client({ connectionString: serverUrl(), connectionTimeoutMillis: 60_000, query_timeout: 120_000 });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}

function serverUrl(): string {
  const url = process.env['TEST_DATABASE_URL'];
  if (url) return url;
  throw new Error(
    'TEST_DATABASE_URL is not set: run with --test-global-setup=tests/support/global-setup.ts, or set it to a Postgres ' +
      'on which databases may be created.',
  );
}
