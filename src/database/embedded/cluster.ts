/** The data directory of Postgres, and what is in it from the start. */
import * as fs from 'node:fs';
import { dirname, join } from 'node:path';
import { eq, sql } from 'drizzle-orm';
import { Client } from 'pg';
import { executorOn } from '../client.ts';
import { build, compile } from '../statements.ts';
import { pgDatabases } from '../tables/catalogs.ts';
import type { Account } from './account.ts';
import { runGuarded } from './guard.ts';
import type { Programs } from './programs.ts';

export const USER = 'stowage';
export const DATABASE = 'stowage';

const findDatabase = compile(
  'find-database',
  () => build.select().from(pgDatabases).where(eq(pgDatabases.name, DATABASE)),
  { named: false },
);
const makeDatabase = compile('make-database', () => sql`create database ${sql.identifier(DATABASE)}`, { named: false });

/** Makes the cluster, whole or not at all. @throws with the words of initdb */
export async function createCluster(
  cluster: string,
  { initdb }: Programs,
  account: Account,
  password: string,
): Promise<void> {
  const scratch = fs.mkdtempSync(join(dirname(cluster), 'initializing-'));
  try {
    const passwordFile = join(scratch, 'password');
    const fresh = join(scratch, 'cluster');
    fs.writeFileSync(passwordFile, `${password}\n`, { mode: 0o600 });
    fs.mkdirSync(fresh, { mode: 0o700 });
    for (const path of [scratch, passwordFile, fresh]) {
      if (account.owner) fs.chownSync(path, account.owner.uid, account.owner.gid);
    }
    const initialization = runGuarded(account, [
      initdb,
      `--pgdata=${fresh}`,
      `--username=${USER}`,
      `--pwfile=${passwordFile}`,
      '--auth=scram-sha-256',
      '--encoding=UTF8',
      '--no-locale',
      '--locale-provider=builtin',
      '--builtin-locale=C.UTF-8',
      '--no-instructions',
    ]);
    const status = await initialization.exited;
    if (status !== 0) throw new Error(`initdb failed (${status}): ${initialization.lastLines()}`);
    fs.renameSync(fresh, cluster);
    syncDirectory(dirname(cluster));
  } finally {
    removeDirectory(scratch);
  }
}

/** A rename is durable when the directory that holds the name is. */
function syncDirectory(directory: string): void {
  const descriptor = fs.openSync(directory, 'r');
  fs.fsyncSync(descriptor);
  fs.closeSync(descriptor);
}

/** Called when the server runs: by then an initdb whose owner was killed writes no more. */
export function removeLeftovers(directory: string): void {
  for (const name of fs.readdirSync(directory)) {
    if (name.startsWith('initializing-')) removeDirectory(join(directory, name));
  }
}

function removeDirectory(directory: string): void {
  fs.rmSync(directory, { recursive: true, force: true, maxRetries: 5 });
}

/** Makes the database of the service, unless it is there. */
export async function createDatabase(url: string): Promise<void> {
  const client = new Client({ connectionString: url, connectionTimeoutMillis: 10_000, query_timeout: 30_000 });
  await client.connect();
  try {
    const executor = executorOn(client);
    const { rows } = await executor.run(findDatabase, {});
    if (rows.length === 0) await executor.run(makeDatabase, {});
  } finally {
    await client.end();
  }
}
