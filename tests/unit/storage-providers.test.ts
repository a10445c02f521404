/** What is known of S3 servers, and the faults of settings that it finds before anything is asked of a server. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ConfigError, loadConfig } from '../../src/config.ts';
import { s3Options } from '../../src/storage/open.ts';
import { S3ObjectStore } from '../../src/storage/s3/s3-object-store.ts';
import { maxPartsOf, providerOf } from '../../src/storage-providers.ts';
import { partSizeFor } from '../../src/uploads/direct-uploads.ts';

const base = { S3_BUCKET: 'my-files', S3_ACCESS_KEY_ID: 'k', S3_SECRET_ACCESS_KEY: 's' };
const faultsOf = (environment: Record<string, string>): string[] => {
  try {
    loadConfig({ ...base, ...environment });
    return [];
  } catch (error) {
    if (error instanceof ConfigError) return error.faults;
    throw error;
  }
};

describe('providers', () => {
  for (const [endpoint, name, region] of [
    [undefined, 'AWS S3', undefined],
    ['https://s3.eu-central-1.amazonaws.com', 'AWS S3', 'eu-central-1'],
    ['https://s3.dualstack.us-gov-west-1.amazonaws.com', 'AWS S3', 'us-gov-west-1'],
    ['https://0123456789abcdef0123456789abcdef.r2.cloudflarestorage.com', 'Cloudflare R2', 'auto'],
    ['https://0123456789abcdef0123456789abcdef.eu.r2.cloudflarestorage.com', 'Cloudflare R2', 'auto'],
    ['https://s3.wasabisys.com', 'Wasabi', 'us-east-1'],
    ['https://s3.eu-central-2.wasabisys.com', 'Wasabi', 'eu-central-2'],
    ['https://s3.nl-1.wasabisys.com', 'Wasabi', 'eu-central-1'],
    ['https://s3.us-west-004.backblazeb2.com', 'Backblaze B2', 'us-west-004'],
    ['https://fra1.digitaloceanspaces.com', 'DigitalOcean Spaces', undefined],
    ['https://s3.fr-par.scw.cloud', 'Scaleway', 'fr-par'],
    ['https://storage.googleapis.com', 'Google Cloud Storage', undefined],
    ['https://fsn1.your-objectstorage.com', 'Hetzner', 'fsn1'],
    ['https://s3.eu-west-par.io.cloud.ovh.net', 'OVHcloud', 'eu-west-par'],
    ['https://s3.us-east-va.io.cloud.ovh.us', 'OVHcloud', 'us-east-va'],
  ] as const)
    test(`${name} is known by ${endpoint ?? 'no endpoint'}, and its region is ${region ?? 'not told'}`, () => {
      const found = providerOf(endpoint);
      assert.deepEqual([found?.provider.name, found?.region], [name, region]);
      const { S3_REGION } = loadConfig({ ...base, ...(endpoint && { S3_ENDPOINT: endpoint }) });
      assert.equal(S3_REGION, region ?? 'us-east-1', 'the region of the endpoint is taken where none is set');
    });

  for (const endpoint of [
    'http://127.0.0.1:9000',
    'https://rgw.example.com',
    'https://s3.eu-central-1.wasabisys.com.example.com',
    'https://wasabisys.com',
  ])
    test(`${endpoint} is taken for nobody's, and nothing is held against it`, () => {
      assert.equal(providerOf(endpoint), undefined);
      assert.deepEqual(faultsOf({ S3_ENDPOINT: endpoint, S3_STORAGE_CLASS: 'OWN', S3_REGION: 'anywhere' }), []);
    });

  test('a store takes as many parts as its provider, and parts are as large as that asks for', async () => {
    assert.equal(maxPartsOf('https://s3.nl-ams.scw.cloud'), 1000);
    assert.equal(maxPartsOf('http://127.0.0.1:9000'), 10_000);
    const options = s3Options(loadConfig({ ...base, S3_ENDPOINT: 'https://s3.nl-ams.scw.cloud' }));
    const store = new S3ObjectStore(options);
    assert.equal(store.maxParts, 1000);
    await store.close();
    const size = 100 * 1024 ** 3;
    for (const maxParts of [1000, 10_000]) {
      const partSize = partSizeFor(size, 8 * 1024 ** 2, maxParts);
      assert.ok(Math.ceil(size / partSize) <= maxParts);
      assert.equal(partSize > 100 * 1024 ** 2, maxParts === 1000);
    }
  });
});

describe('the settings of a store', () => {
  const r2 = { S3_ENDPOINT: 'https://0123456789abcdef0123456789abcdef.r2.cloudflarestorage.com' };
  for (const [title, environment, fault] of [
    ['a bucket of two letters', { S3_BUCKET: 'ab' }, /^S3_BUCKET must have 3 to 63 characters$/],
    ['a bucket of 64 letters', { S3_BUCKET: 'a'.repeat(64) }, /^S3_BUCKET must have 3 to 63 characters$/],
    ['capitals', { S3_BUCKET: 'My-Files' }, /^S3_BUCKET must be in small letters$/],
    ['an underscore', { S3_BUCKET: 'my_files' }, /^S3_BUCKET must not have an underscore: take a hyphen$/],
    ['a path', { S3_BUCKET: 'files/photos' }, /^S3_BUCKET .*a path belongs into the key prefix$/],
    ['a hyphen at the end', { S3_BUCKET: 'files-' }, /^S3_BUCKET must begin and end with a letter or a digit$/],
    ['two dots', { S3_BUCKET: 'my..files' }, /^S3_BUCKET must not have two dots/],
    ['an IP address', { S3_BUCKET: '192.168.5.4' }, /^S3_BUCKET must not look like an IP address$/],
    ['a prefix of AWS', { S3_BUCKET: 'sthree-files' }, /^S3_BUCKET must not begin with/],
    ['an alias', { S3_BUCKET: 'files-s3alias' }, /^S3_BUCKET is the alias/],
    ['a directory bucket', { S3_BUCKET: 'files--use1-az4--x-s3' }, /^S3_BUCKET is a directory bucket/],
    ['another region than R2 has', { ...r2, S3_REGION: 'eu-central-1' }, /^S3_REGION must be auto/],
    [
      'a class that R2 has not',
      { ...r2, S3_STORAGE_CLASS: 'GLACIER_IR' },
      /^S3_STORAGE_CLASS must be one of STANDARD, /,
    ],
    ['encryption that R2 has not', { ...r2, S3_SSE: 'AES256' }, /^S3_SSE must be none: Cloudflare R2/],
    [
      'a region of AWS at Wasabi',
      { S3_ENDPOINT: 'https://s3.eu-central-2.wasabisys.com', S3_REGION: 'us-east-1' },
      /^S3_REGION must be eu-central-2, that of S3_ENDPOINT at Wasabi/,
    ],
    [
      'a region of AWS at B2',
      { S3_ENDPOINT: 'https://s3.us-west-004.backblazeb2.com', S3_REGION: 'us-west-2' },
      /^S3_REGION must be us-west-004/,
    ],
    [
      'plain http at B2',
      { S3_ENDPOINT: 'http://s3.us-west-004.backblazeb2.com' },
      /^S3_ENDPOINT must begin with https/,
    ],
    [
      'the bucket before the endpoint',
      { S3_ENDPOINT: 'https://my-files.s3.fr-par.scw.cloud' },
      /^S3_ENDPOINT must not name the bucket: set S3_ENDPOINT=https:\/\/s3\.fr-par\.scw\.cloud$/,
    ],
    [
      'the bucket behind the endpoint',
      { S3_ENDPOINT: 'https://s3.fr-par.scw.cloud/my-files' },
      /^S3_ENDPOINT must end after the host/,
    ],
    ['a class that has to be restored', { S3_STORAGE_CLASS: 'GLACIER' }, /^S3_STORAGE_CLASS .*has to be restored/],
    ['a class of another provider', { S3_STORAGE_CLASS: 'COLDLINE' }, /^S3_STORAGE_CLASS must be one of STANDARD, /],
    [
      'encryption at Hetzner',
      { S3_ENDPOINT: 'https://fsn1.your-objectstorage.com', S3_SSE: 'AES256' },
      /^S3_SSE must be none: Hetzner/,
    ],
  ] as const)
    test(`are refused with the name of the variable and the way out: ${title}`, () => {
      const [first, ...more] = faultsOf(environment);
      assert.match(first ?? 'nothing', fault);
      assert.deepEqual(more, []);
    });

  for (const environment of [
    { S3_BUCKET: 'my.files' },
    { S3_BUCKET: '3-files' },
    { ...r2, S3_REGION: 'auto', S3_STORAGE_CLASS: 'STANDARD_IA' },
    { ...r2, S3_REGION: 'us-east-1' },
    { S3_ENDPOINT: 'https://s3.nl-1.wasabisys.com', S3_REGION: 'eu-central-1' },
    { S3_ENDPOINT: 'https://fra1.digitaloceanspaces.com', S3_REGION: 'us-east-1' },
    { S3_ENDPOINT: 'https://storage.googleapis.com', S3_REGION: 'auto', S3_STORAGE_CLASS: 'NEARLINE' },
    { S3_ENDPOINT: 'http://rgw.local:8080', S3_BUCKET: 'sthree-files', S3_STORAGE_CLASS: 'GLACIER' },
    { S3_REGION: 'eu-central-1', S3_SSE: 'aws:kms', S3_STORAGE_CLASS: 'INTELLIGENT_TIERING' },
  ])
    test(`are taken: ${Object.values(environment).join(', ')}`, () => assert.deepEqual(faultsOf(environment), []));
});
