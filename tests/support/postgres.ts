import { randomBytes } from 'node:crypto';
import { Client } from 'pg';

export interface TestDatabase {
  url: string;
  /** Disconnects whoever is still there. */
  drop(): Promise<void>;
}

/** A new, empty database with a random name on the server of TEST_DATABASE_URL, whose user may create databases. */
export async function createTestDatabase(): Promise<TestDatabase> {
  const name = `test_${randomBytes(8).toString('hex')}`;
  await onServer(`create database ${name}`);
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
