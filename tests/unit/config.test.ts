import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ConfigError, isLoopback, loadConfig, settings } from '../../src/config.ts';
import { misspelled } from '../../src/unknown-variables.ts';

function faultsOf(environment: Record<string, string>): string[] {
  try {
    loadConfig(environment);
  } catch (error) {
    assert.ok(error instanceof ConfigError);
    return error.faults;
  }
  return [];
}

describe('configuration', () => {
  test('an empty environment gives a configuration that runs on this machine alone', () => {
    const config = loadConfig({});
    assert.equal(config.HOST, '127.0.0.1');
    assert.equal(config.PORT, 3000);
    assert.equal(config.DEFAULT_QUOTA, 1024 ** 3);
    assert.equal(config.PART_SIZE, 8 * 1024 ** 2);
    assert.equal(config.LINK_TTL, 3_600_000);
    assert.equal(config.developmentMode, true);
    assert.equal(config.S3_BUCKET, undefined);
  });

  test('an empty variable counts as absent', () => {
    assert.equal(loadConfig({ PORT: '', AUTH_JWT_SECRET: '  ' }).PORT, 3000);
  });

  test('sizes and durations are written with units', () => {
    const config = loadConfig({
      UPLOAD_MEMORY: '1 GiB',
      PART_SIZE: '16mib',
      LINK_TTL: '90',
      UPLOAD_WAIT: '1500ms',
      BODY_TIMEOUT: '2m',
    });
    assert.equal(config.UPLOAD_MEMORY, 1024 ** 3);
    assert.equal(config.PART_SIZE, 16 * 1024 ** 2);
    assert.equal(config.LINK_TTL, 90_000);
    assert.equal(config.UPLOAD_WAIT, 1500);
    assert.equal(config.BODY_TIMEOUT, 120_000);
  });

  test('every fault is listed by the name of its variable, and no value is told', () => {
    const wrong = {
      PORT: '99999',
      LOG_LEVEL: 'loud-value',
      PART_SIZE: '1MiB',
      LINK_TTL: '8d',
      AUTH_JWT_SECRET: 'short-secret',
      AUTH_CLOCK_SKEW: '2m',
      DATABASE_URL: 'mysql://secret-host',
      S3_FORCE_PATH_STYLE: 'maybe-value',
      DEFAULT_QUOTA: 'plenty-value',
      PUBLIC_URL: 'ftp://secret-place',
    };
    try {
      loadConfig(wrong);
      assert.fail('it was accepted');
    } catch (error) {
      assert.ok(error instanceof ConfigError);
      for (const name of Object.keys(wrong)) assert.ok(error.message.includes(`${name} `), `${name} is not told`);
      for (const value of Object.values(wrong)) assert.ok(!error.message.includes(value), `the value ${value} is told`);
    }
  });

  const contradictions: [string, Record<string, string>, string][] = [
    ['a memory smaller than one part', { UPLOAD_MEMORY: '6MiB', PART_SIZE: '8MiB' }, 'UPLOAD_MEMORY'],
    ['files that S3 does not take', { MAX_FILE_SIZE: '6TiB' }, 'MAX_FILE_SIZE'],
    ['more uploads per caller than in all', { UPLOADS_PER_CALLER: '9', UPLOADS_AT_ONCE: '8' }, 'UPLOADS_PER_CALLER'],
    ['one try longer than all tries', { S3_REQUEST_TIMEOUT: '50s', S3_DEADLINE: '40s' }, 'S3_REQUEST_TIMEOUT'],
    [
      'two kinds of keys',
      { AUTH_JWT_SECRET: 'x'.repeat(32), AUTH_JWKS_URL: 'https://keys.example' },
      'AUTH_JWT_SECRET',
    ],
    ['S3 settings without a bucket', { S3_ENDPOINT: 'http://127.0.0.1:1' }, 'S3_BUCKET'],
    ['half a pair of S3 keys', { S3_BUCKET: 'abc', S3_ACCESS_KEY_ID: 'a' }, 'S3_ACCESS_KEY_ID'],
    ['a KMS key without KMS', { S3_BUCKET: 'abc', S3_SSE_KMS_KEY_ID: 'k' }, 'S3_SSE_KMS_KEY_ID'],
    ['an open address without keys', { HOST: '0.0.0.0' }, 'HOST'],
    ['a public URL without keys', { PUBLIC_URL: 'https://files.example' }, 'PUBLIC_URL'],
    ['a proxy without keys', { TRUST_PROXY: 'loopback' }, 'TRUST_PROXY'],
    ['production without keys', { NODE_ENV: 'production' }, 'NODE_ENV'],
    ['a key set without an audience', { AUTH_JWKS_URL: 'https://keys.example' }, 'AUTH_AUDIENCE'],
  ];
  for (const [what, environment, variable] of contradictions) {
    test(`${what} is a contradiction`, () => {
      assert.ok(
        faultsOf(environment).some((fault) => fault.startsWith(variable)),
        JSON.stringify(faultsOf(environment)),
      );
    });
  }

  test('a key set is taken with an audience, or with the word for each of them', () => {
    for (const AUTH_AUDIENCE of ['stowage', 'any'])
      assert.deepEqual(faultsOf({ AUTH_JWKS_URL: 'https://keys.example', AUTH_AUDIENCE }), []);
  });

  test('limits at their bounds are accepted', () => {
    assert.deepEqual(
      faultsOf({
        PART_SIZE: '5MiB',
        LINK_TTL: '7d',
        AUTH_JWT_SECRET: 'x'.repeat(32),
        AUTH_CLOCK_SKEW: '60s',
        HOST: '0.0.0.0',
      }),
      [],
    );
  });

  test('proxies are addresses, subnets with a mask of their family, or names of ranges', () => {
    for (const proxies of [
      'loopback',
      'linklocal, uniquelocal',
      '10.0.0.1',
      '10.0.0.0/8',
      '10.0.0.1/32',
      '::1',
      'fd00::/8',
      '::1/128',
    ])
      assert.deepEqual(faultsOf({ AUTH_JWT_SECRET: 'x'.repeat(32), TRUST_PROXY: proxies }), [], proxies);
    for (const proxies of [
      '10.0.0.0/33',
      '10.0.0.0/64',
      '10.0.0.0/128',
      '::1/129',
      '10.0.0.0/',
      '10.0.0.0/8/8',
      '10.0.0.0/-1',
      'proxy',
      'true',
      '*',
      '10.0.0.1, 10.0.0.0/33',
    ])
      assert.match(faultsOf({ TRUST_PROXY: proxies }).join(), /^TRUST_PROXY must be addresses or subnets/, proxies);
  });

  test('loopback is 127.0.0.0/8, ::1 and localhost, and nothing that only looks like it', () => {
    for (const host of ['127.0.0.1', '127.9.9.9', '::1', 'localhost']) assert.ok(isLoopback(host), host);
    for (const host of ['0.0.0.0', '127.0.0.1.example.com', '128.0.0.1', '::', 'example.com'])
      assert.ok(!isLoopback(host), host);
  });
});

describe('variables that are no settings', () => {
  const meantBy = (name: string) => misspelled([name], Object.keys(settings))[0]?.[1];

  test('are told with the setting that was meant, when they look like one', () => {
    for (const [given, meant] of [
      ['UPLOAD_MEMROY', 'UPLOAD_MEMORY'],
      ['UPLOADS_MEMORY', 'UPLOAD_MEMORY'],
      ['DATABASE_ULR', 'DATABASE_URL'],
      ['S3_SECRET_KEY', 'S3_SECRET_ACCESS_KEY'],
      ['S3_BUCKT', 'S3_BUCKET'],
      ['S3BUCKET', 'S3_BUCKET'],
      ['JWT_SECRET', 'AUTH_JWT_SECRET'],
      ['DATABASE_POOL_SIZE', 'DATABASE_POOL'],
      ['STOWAGE_PORT', 'PORT'],
      ['STOWAGE_LOG_LEVEL', 'LOG_LEVEL'],
      ['LOGLEVEL', 'LOG_LEVEL'],
      ['CORS_ORIGIN', 'CORS_ORIGINS'],
    ])
      assert.equal(meantBy(given ?? ''), meant, given);
  });

  test('are left alone when they are those of others', () => {
    for (const name of [
      ...['HOME', 'PATH', 'HOSTNAME', 'USER', 'PWD', 'SHELL', 'LANG', 'TERM', 'LC_ALL', 'NODE_ENV', 'NODE_OPTIONS'],
      ...[
        'AWS_REGION',
        'AWS_ACCESS_KEY_ID',
        'AWS_SECRET_ACCESS_KEY',
        'PGHOST',
        'PGPASSWORD',
        'KUBERNETES_SERVICE_HOST',
      ],
      ...[
        'DATABASE_HOST',
        'npm_config_port',
        'SSL_CERT_FILE',
        'HTTP_PROXY',
        'NO_PROXY',
        'TZ',
        'CI',
        'MALLOC_ARENA_MAX',
      ],
      ...['TEST_S3_ENDPOINT', 'PORT', 'S3_BUCKET'],
    ])
      assert.equal(meantBy(name), undefined, name);
  });
});
