/** Backups that are damaged, half-written, locked, or of another version; and the commands, killed where it hurts. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { appendFileSync, cpSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Client as Postgres } from 'pg';
import { features } from '../../src/app.ts';
import { takeBackup } from '../../src/backups/backup.ts';
import { sealingFor } from '../../src/backups/encryption.ts';
import { openBackup } from '../../src/backups/opened-backup.ts';
import { openPlace } from '../../src/backups/place.ts';
import { rebuildDatabase } from '../../src/backups/restore.ts';
import { loadConfig } from '../../src/config.ts';
import { settingsOf } from '../../src/feature.ts';
import { installQueues } from '../../src/jobs/queue.ts';
import { prepareDatabase } from '../../src/prepare-database.ts';
import { PostgresProxy } from '../faults/postgres-proxy.ts';
import { createPreparedDatabase, createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { spawnService } from '../support/processes.ts';

const config = loadConfig({}, settingsOf(features));
const migrations = new URL('../../migrations/', import.meta.url);
const journal: { entries: { idx: number; tag: string; when: number }[] } = JSON.parse(
  readFileSync(new URL('meta/_journal.json', migrations), 'utf8'),
);
/** One of an earlier version: before the database knew of backups. */
const EARLIER = 24;
const OWNER = 'some body';
const ID = '01a20288-fda4-766f-9cdc-1497271383d1';

const closers: (() => Promise<unknown>)[] = [];
after(async () => {
  for (const close of closers.reverse()) await close();
});

async function query<Row extends object>(url: string, text: string): Promise<Row[]> {
  const client = new Postgres(url);
  await client.connect();
  try {
    return (await client.query<Row>(text)).rows;
  } finally {
    await client.end();
  }
}
const insertAsset = `insert into assets (id, owner_id, name, state, asset_type, media_type, size, sha256, object_key, created_at, updated_at)
  values ('${ID}', '${OWNER}', E'a\\t"b"\\\\\\n.png', 'ready', 'image', 'image/png', 5, '\\x00ff', 'users/x/assets/${ID}/original', now(), now())`;
const assetsIn = (url: string) => query(url, 'select id, owner_id, name, sha256 from assets');
const isEmpty = async (url: string) =>
  (await query(url, "select from pg_tables where schemaname in ('public', 'drizzle', 'pgboss')")).length === 0;

async function scratch(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'stowage-backups-'));
  closers.push(() => rm(directory, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 }));
  return directory;
}
async function emptyDatabase(): Promise<TestDatabase> {
  const database = await createTestDatabase();
  closers.push(() => database.drop());
  return database;
}
async function backUp(url: string, directory: string, passphrase?: string): Promise<string> {
  const sealing = await sealingFor({ passphrase, recipients: [] });
  return (await takeBackup({ url, place: openPlace(directory, config), sealing, keyPrefix: '' })).name;
}
const open = (name: string, passphrase?: string) => openBackup(openPlace(name, config), { passphrase, identities: [] });

describe('a backup', () => {
  let source: TestDatabase;
  let directory: string;
  let good: string;
  let target: TestDatabase;
  before(async () => {
    source = await createPreparedDatabase();
    closers.push(() => source.drop());
    await query(source.url, insertAsset);
    directory = await scratch();
    good = await backUp(source.url, directory);
    target = await emptyDatabase();
  });

  /** A copy of the good one, changed. */
  const damagedBy = (change: (folder: string) => void): string => {
    const folder = `${directory}/damaged-${readdirSync(directory).length}`;
    cpSync(good, folder, { recursive: true });
    change(folder);
    return folder;
  };
  const asset = 'tables/assets.copy.gz';

  test('that is damaged in any way changes nothing, and the database stays empty for a good one', async () => {
    const flip = (file: string, at: number) => (folder: string) => {
      const bytes = readFileSync(join(folder, file));
      bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
      writeFileSync(join(folder, file), bytes);
    };
    const cases: [string, (folder: string) => void, RegExp][] = [
      ['a bit of the rows', flip(asset, 60), /assets\.copy\.gz is damaged/],
      // The time in the head of gzip (RFC 1952): it unpacks, and only the digest tells.
      ['a bit that is not unpacked', flip(asset, 5), /its bytes are not those that were written/],
      [
        'a cut file',
        (folder) => writeFileSync(join(folder, asset), readFileSync(join(folder, asset)).subarray(0, 80)),
        /assets\.copy\.gz is damaged/,
      ],
      ['an empty file', (folder) => writeFileSync(join(folder, asset), ''), /assets\.copy\.gz is damaged/],
      [
        'a longer file',
        (folder) => appendFileSync(join(folder, asset), readFileSync(join(folder, asset))),
        /assets\.copy\.gz is damaged|instead of/,
      ],
      ['a missing file', (folder) => rmSync(join(folder, asset)), /assets\.copy\.gz is damaged: it is not there/],
      [
        'a file in the place of another',
        (folder) => cpSync(join(folder, 'tables/quotas.copy.gz'), join(folder, asset)),
        /assets\.copy\.gz|instead of/,
      ],
    ];
    for (const [what, change, says] of cases) {
      const opened = await open(damagedBy(change));
      await assert.rejects(rebuildDatabase(target.url, opened), says, what);
      assert.ok(await isEmpty(target.url), what);
    }
    assert.equal(await rebuildDatabase(target.url, await open(good)), 'restored');
    assert.deepEqual(await assetsIn(target.url), await assetsIn(source.url));
    assert.equal(await rebuildDatabase(target.url, await open(good)), 'resumed');
    const other = await backUp(source.url, directory);
    await assert.rejects(
      async () => rebuildDatabase(target.url, await open(other)),
      /the database is not empty.*CREATE DATABASE/,
    );
    await assert.rejects(async () => rebuildDatabase(source.url, await open(good)), /the database is not empty/);
  });

  test('that was not finished, or is none, is refused; where there are others, they are named', async () => {
    await assert.rejects(
      open(damagedBy((folder) => rmSync(join(folder, 'backup.json')))),
      /no complete backup: it has no backup\.json/,
    );
    await assert.rejects(
      open(damagedBy((folder) => writeFileSync(join(folder, 'backup.json'), '{"format":'))),
      /damaged/,
    );
    await assert.rejects(open(directory), new RegExp(`holds some\\. The latest:\\n.*${directory}/`, 's'));
    await assert.rejects(open(`${directory}/nowhere`), /there is no backup at/);
    assert.throws(() => openPlace('ftp://somewhere/else', config), /neither a directory nor s3:/);
  });

  test('of a newer version is refused with the way out', async () => {
    const rewrite = (changes: object) =>
      damagedBy((folder) => {
        const document = JSON.parse(readFileSync(join(folder, 'backup.json'), 'utf8'));
        writeFileSync(join(folder, 'backup.json'), JSON.stringify({ ...document, ...changes }));
      });
    const newest = Math.max(...journal.entries.map(({ when }) => when));
    await assert.rejects(
      open(rewrite({ newestMigration: newest + 1, madeBy: '9.9.9' })),
      /newer version of the service \(9\.9\.9\): restore it with that version/,
    );
    await assert.rejects(
      open(rewrite({ newestMigration: newest - 1 })),
      /does not know: restore it with the version that made it/,
    );
    await assert.rejects(open(rewrite({ formatVersion: 2 })), /a format that this version does not know/);
  });

  test('of an older version gets the migrations that it lacks', async () => {
    const older = await emptyDatabase();
    await query(
      older.url,
      'create schema drizzle; create table drizzle.__drizzle_migrations (id serial primary key, hash text not null, created_at bigint)',
    );
    for (const { idx, tag, when } of journal.entries) {
      if (idx > EARLIER) continue;
      const text = readFileSync(new URL(`${tag}.sql`, migrations), 'utf8');
      await query(older.url, text.replaceAll('--> statement-breakpoint', ';'));
      const hash = createHash('sha256').update(text).digest('hex');
      await query(older.url, `insert into drizzle.__drizzle_migrations (hash, created_at) values ('${hash}', ${when})`);
    }
    await installQueues(older.url, []);
    await query(older.url, insertAsset);
    const restored = await emptyDatabase();
    assert.equal(await rebuildDatabase(restored.url, await open(await backUp(older.url, directory))), 'restored');
    await prepareDatabase(restored.url);
    assert.deepEqual(await assetsIn(restored.url), await assetsIn(older.url));
    const hashes = 'select hash from drizzle.__drizzle_migrations order by id';
    assert.deepEqual(await query(restored.url, hashes), await query(source.url, hashes));
  });

  test('that is encrypted opens by its passphrase alone, and tells a flipped bit', async () => {
    const PASSPHRASE = 'correct horse battery staple';
    const name = await backUp(source.url, directory, PASSPHRASE);
    for (const file of readdirSync(name, { recursive: true, encoding: 'utf8' }))
      if (existsSync(join(name, file)) && /\.age$/.test(file))
        assert.match(readFileSync(join(name, file), 'latin1'), /^age-encryption\.org\/v1\n/, file);
    assert.ok(!readFileSync(join(name, `${asset}.age`), 'latin1').includes(OWNER));
    await assert.rejects(open(name), /it is encrypted|is encrypted: set BACKUP_PASSPHRASE/);
    await assert.rejects(open(name, 'another passphrase'), /BACKUP_PASSPHRASE does not open/);
    const opened = await open(name, PASSPHRASE);
    const restored = await emptyDatabase();
    const file = join(name, `${asset}.age`);
    const whole = readFileSync(file);
    await truncate(file, whole.length - 20);
    await assert.rejects(rebuildDatabase(restored.url, opened), /assets\.copy\.gz\.age is damaged/);
    writeFileSync(file, whole);
    await rebuildDatabase(restored.url, opened);
    assert.deepEqual(await assetsIn(restored.url), await assetsIn(source.url));
  });
});

describe('a command that is killed', () => {
  const script = (name: string) => new URL(`../../scripts/${name}.ts`, import.meta.url).pathname;
  let source: TestDatabase;
  let proxy: PostgresProxy;
  let directory: string;
  before(async () => {
    source = await createPreparedDatabase();
    closers.push(() => source.drop());
    await query(source.url, insertAsset);
    proxy = await new PostgresProxy(source.url).listen();
    closers.push(() => proxy.close());
    directory = await scratch();
  });

  /** Runs it, and kills it at the first statement that matches. */
  async function run(name: string, args: string[], url: string, at?: { before?: RegExp; after?: RegExp }) {
    const env = { DATABASE_URL: proxy.replaceIn(url), DATA_DIR: join(directory, 'data') };
    const { child, exit, output } = spawnService(env, script(name), args);
    let isKilled = false;
    const kill = (pattern: RegExp | undefined) => (statement: string) => {
      if (isKilled || !pattern?.test(statement)) return;
      isKilled = true;
      child.kill('SIGKILL');
      throw new Error('killed');
    };
    proxy.before = kill(at?.before);
    proxy.after = kill(at?.after);
    const code = await exit;
    proxy.heal();
    if (at) assert.ok(isKilled, `nothing matched ${at.before ?? at.after}: ${output()}`);
    return { code, output: output() };
  }

  test('while it takes a backup leaves none that could be taken for one', async () => {
    const folder = join(directory, 'killed');
    await run('backup', [folder], source.url, { before: /pg_sequences/ });
    for (const name of readdirSync(folder)) await assert.rejects(open(join(folder, name)), /no complete backup/);
    const { code, output } = await run('backup', [folder], source.url);
    assert.equal(code, 0, output);
    assert.equal(
      (await open(output.split('\n')[0] ?? '')).document.tables.find(({ table }) => table === 'assets')?.rows,
      1,
    );
  });

  test('while it restores goes on when it is run again, and does each thing once', async () => {
    await query(
      source.url,
      `insert into pgboss.job (name, data) select name, '{"assetId": "x"}' from pgboss.queue where name = 'facts'`,
    );
    const name = await backUp(source.url, join(directory, 'whole'));
    const target = await emptyDatabase();
    const steps: [at: { before?: RegExp; after?: RegExp }, isEmptyThen: boolean][] = [
      [{ after: /copy "?assets/ }, true],
      [{ after: /^commit/i }, false],
      [{ before: /listing_of_store/ }, false],
    ];
    for (const [at, isEmptyThen] of steps) {
      await run('restore', [name], target.url, at);
      assert.equal(await isEmpty(target.url), isEmptyThen, String(at.before ?? at.after));
    }
    const { code, output } = await run('restore', [name], target.url);
    // The object is in no store.
    assert.equal(code, 1, output);
    assert.match(output, /was rebuilt from this backup/);
    assert.deepEqual(await assetsIn(target.url), await assetsIn(source.url));
    const count = async (text: string) => (await query<{ count: number }>(target.url, text))[0]?.count;
    assert.equal(await count("select count(*)::int as count from pgboss.job where name = 'facts'"), 1);
    assert.equal(await count('select count(*)::int as count from restored_jobs'), 0);
    assert.equal(await count("select count(*)::int as count from audit_events where action = 'backup.restored'"), 1);
  });
});
