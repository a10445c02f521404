/** The commands beside the service, as processes: what an operator types and reads. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import {
  GetBucketCorsCommand,
  GetBucketLifecycleConfigurationCommand,
  GetBucketVersioningCommand,
} from '@aws-sdk/client-s3';
import { Client as Postgres } from 'pg';
import { prepareDatabase } from '../../src/prepare-database.ts';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { launch, spawnService } from '../support/processes.ts';
import { createTestBucket, s3Settings, s3Skip, type TestBucket } from '../support/s3.ts';
import { startService } from '../support/service.ts';

async function runCommand(
  name: string,
  env: Record<string, string>,
  args: string[] = [],
): Promise<{ code: number | null; output: string }> {
  const script = new URL(`../../scripts/${name}.ts`, import.meta.url).pathname;
  const { exit, output } = spawnService(env, script, args);
  return { code: await exit, output: output() };
}

describe('the commands on the disk', () => {
  let directory: string;
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'stowage-commands-'));
  });
  after(() => rm(directory, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 }));

  test('reconcile and doctor use the embedded Postgres, with the service running beside them and without', async () => {
    const env = { DATA_DIR: directory };
    const service = await launch(env);
    await new Client(service.url).raw(png(500));
    const beside = await runCommand('reconcile', env, ['--dry-run']);
    assert.equal(beside.code, 0, beside.output);
    assert.match(beside.output, /^ +1 {2}objects in the store$/m);
    assert.match(beside.output, /^ +500 {2}their bytes$/m);
    assert.match(beside.output, /A dry run: nothing was changed/);
    const doctor = await runCommand('doctor', env);
    assert.equal(doctor.code, 0, doctor.output);
    service.child.kill('SIGTERM');
    await service.exit;
    const alone = await runCommand('reconcile', env);
    assert.equal(alone.code, 0, alone.output);
    assert.match(alone.output, /^ +1 {2}objects in the store$/m);
  });

  test('a faulty configuration and a faulty argument are told by name', async () => {
    for (const name of ['reconcile', 'doctor', 'setup-bucket']) {
      const { code, output } = await runCommand(name, { DATA_DIR: directory, PART_SIZE: '1KiB' });
      assert.equal(code, 1);
      assert.match(output, /PART_SIZE/, name);
    }
    const { code, output } = await runCommand('reconcile', { DATA_DIR: directory }, ['--max-delete', 'many']);
    assert.equal(code, 1);
    assert.match(output, /--max-delete must be a whole number/);
  });
});

describe('a database user without rights', () => {
  let database: TestDatabase;
  let url: string;
  const user = `plain_${randomBytes(4).toString('hex')}`;
  const run = async (statement: string) => {
    const client = new Postgres(database.url);
    await client.connect();
    await client.query(statement).finally(() => client.end());
  };
  before(async () => {
    database = await createTestDatabase();
    await run(`create user ${user} password 'plain'`);
    const address = new URL(database.url);
    address.username = user;
    address.password = 'plain';
    url = address.href;
  });
  after(async () => {
    await database.drop();
  });

  test('migrate tells the cause and what to do, and doctor does not send to migrate', async () => {
    const migrate = await runCommand('migrate', { DATABASE_URL: url });
    assert.equal(migrate.code, 1);
    assert.match(migrate.output, /permission denied for .*: the database user lacks the right: .*GRANT CREATE/);
    const directory = await mkdtemp(join(tmpdir(), 'stowage-commands-'));
    const doctor = await runCommand('doctor', { DATABASE_URL: url, DATA_DIR: directory });
    await rm(directory, { recursive: true });
    assert.equal(doctor.code, 1);
    assert.match(
      doctor.output,
      new RegExp(`FAILED +database migrations: .*the user ${user} of DATABASE_URL may not apply`),
    );
  });

  test('a wrong password is told with the setting that holds it', async () => {
    const { code, output } = await runCommand('migrate', { DATABASE_URL: url.replace(':plain@', ':wrong@') });
    assert.equal(code, 1);
    // Servers that trust local connections ask for none.
    assert.match(output, /correct it in DATABASE_URL|permission denied/);
  });
});

describe('npm run token', () => {
  const AUTH_JWT_SECRET = 'a secret of thirty-two bytes or more';
  test('makes a token that the service takes', async () => {
    const made = await runCommand('token', { AUTH_JWT_SECRET }, ['--sub', 'alice', '--scope', 'admin']);
    assert.equal(made.code, 0, made.output);
    const service = await startService({ env: { AUTH_JWT_SECRET } });
    try {
      const headers = { authorization: `Bearer ${made.output.trim()}` };
      assert.equal((await fetch(`${service.url}/v1/quota`, { headers })).status, 200);
      assert.equal((await fetch(`${service.url}/v1/admin/quotas/alice`, { headers })).status, 200);
    } finally {
      await service.close();
    }
  });

  test('says what is missing', async () => {
    for (const [env, args, says] of [
      [{ AUTH_JWT_SECRET }, [], /--sub is missing/],
      [{}, ['--sub', 'alice'], /AUTH_JWT_SECRET is not set: the service is in development mode/],
      [{ AUTH_JWT_SECRET }, ['--sub', 'alice', '--expires', 'soon'], /--expires must be a time/],
    ] as [Record<string, string>, string[], RegExp][]) {
      const { code, output } = await runCommand('token', env, args);
      assert.equal(code, 1);
      assert.match(output, says);
    }
  });
});

describe('the commands on S3', { skip: s3Skip() }, () => {
  let bucket: TestBucket;
  let database: TestDatabase;
  let env: Record<string, string>;
  before(async () => {
    const settings = s3Settings();
    assert.ok(settings);
    bucket = await createTestBucket();
    database = await createTestDatabase();
    await prepareDatabase(database.url);
    env = {
      DATABASE_URL: database.url,
      S3_BUCKET: bucket.bucket,
      S3_ENDPOINT: settings.endpoint,
      S3_REGION: settings.region,
      S3_ACCESS_KEY_ID: settings.accessKeyId,
      S3_SECRET_ACCESS_KEY: settings.secretAccessKey,
      S3_FORCE_PATH_STYLE: 'true',
      CORS_ORIGINS: 'https://app.example.com',
    };
  });
  after(async () => {
    await database.drop();
    await bucket.drop();
  });

  test('setup-bucket makes a bucket, sets CORS, lifecycle and versioning, prints policies, and may be run twice', async () => {
    const name = `test-${randomBytes(8).toString('hex')}`;
    const { client } = bucket;
    for (const run of [1, 2]) {
      const { code, output } = await runCommand('setup-bucket', { ...env, S3_BUCKET: name }, ['--versioning']);
      assert.equal(code, 0, output);
      assert.doesNotMatch(output, /failed/, `run ${run}`);
      assert.match(output, /"s3:PutObject"/);
      assert.match(output, /"aws:SecureTransport": "false"/);
    }
    const cors = await client.send(new GetBucketCorsCommand({ Bucket: name }));
    assert.deepEqual(cors.CORSRules?.[0]?.AllowedOrigins, ['https://app.example.com']);
    assert.ok(cors.CORSRules?.[0]?.AllowedMethods?.includes('PUT'));
    const lifecycle = await client.send(new GetBucketLifecycleConfigurationCommand({ Bucket: name }));
    assert.ok(lifecycle.Rules?.some((rule) => rule.AbortIncompleteMultipartUpload?.DaysAfterInitiation));
    const versioning = await client.send(new GetBucketVersioningCommand({ Bucket: name }));
    assert.equal(versioning.Status, 'Enabled');
  });

  test('doctor goes through it step by step, and ends well where the service can work', async () => {
    await runCommand('setup-bucket', env);
    const { code, output } = await runCommand('doctor', { ...env, S3_SIGN_NO_COPY: 'true' });
    assert.equal(code, 0, output);
    assert.match(output, /^ok +copy source on part links: /m);
    assert.match(output, /^ok +upload link over HTTP: works, and a body of another length is refused/m);
    assert.match(output, /Everything that the service needs works/);
    for (const step of [
      'settings',
      'database reachable',
      'migrations',
      'object store reachable',
      'multipart',
      'checksum',
      'conditional',
      'CORS',
      'clock',
      'link over HTTP',
    ])
      assert.match(output, new RegExp(`^(ok|missing|skipped) +.*${step}.*:`, 'im'), step);
    assert.doesNotMatch(output, new RegExp(env['S3_SECRET_ACCESS_KEY'] ?? ''));
  });

  for (const [what, change, advice] of [
    ['a missing bucket', { S3_BUCKET: 'stowage-has-no-such-bucket' }, /FAILED .*setup-bucket/],
    ['a wrong secret', { S3_SECRET_ACCESS_KEY: 'wrong-wrong-wrong-wrong' }, /FAILED .*S3_SECRET_ACCESS_KEY/],
    [
      'a server that acts on a copy source that no link signs',
      {},
      /FAILED +copy source on part links: .*S3_SIGN_NO_COPY/,
    ],
    ['a wrong key', { S3_ACCESS_KEY_ID: 'NOSUCHKEY' }, /FAILED .*S3_ACCESS_KEY_ID/],
    [
      'a host without the bucket in its name',
      { S3_ENDPOINT: 'http://rgw.invalid', S3_FORCE_PATH_STYLE: 'false' },
      /FAILED .*S3_FORCE_PATH_STYLE/,
    ],
    [
      'https where http is spoken',
      { S3_ENDPOINT: s3Settings()?.endpoint.replace('http:', 'https:') ?? '' },
      /FAILED .*says https.*S3_ENDPOINT/,
    ],
    ['a database that does not exist', { DATABASE_URL: 'NOWHERE' }, /FAILED .*does not exist.*DATABASE_URL/],
    [
      'a key set where nobody listens',
      { AUTH_JWKS_URL: 'http://127.0.0.1:9/keys', AUTH_AUDIENCE: 'stowage' },
      /FAILED +key set: .*AUTH_JWKS_URL/,
    ],
    ['an endpoint where nobody listens', { S3_ENDPOINT: 'http://127.0.0.1:9' }, /FAILED .*S3_ENDPOINT/],
    ['a database where nobody listens', { DATABASE_URL: 'postgres://a:b@127.0.0.1:9/c' }, /FAILED .*DATABASE_URL/],
  ] as const) {
    test(`doctor names ${what}, says what to do, and ends with 1`, async () => {
      const { code, output } = await runCommand('doctor', {
        ...env,
        ...change,
        ...('DATABASE_URL' in change &&
          change.DATABASE_URL === 'NOWHERE' && { DATABASE_URL: database.url.replace(/[^/]*$/, 'no_such_database') }),
      });
      assert.equal(code, 1, output);
      assert.match(output, advice);
      assert.match(output, /does not work/);
    });
  }
});
