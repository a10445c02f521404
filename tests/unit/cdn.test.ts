import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHmac, generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { ConfigError, loadConfig } from '../../src/config.ts';
import { CloudFrontCdn, HmacCdn, openCdn, sharedCacheControl } from '../../src/storage/cdn.ts';

const KEY = 'a key of the edge and the origin, 32 bytes';
const END = new Date(1_795_003_200_000);
const link = {
  key: 'files/users/u~1/assets/019aa1b2-7c3d-7e4f-8a5b-6c7d8e9fa0b1/original',
  contentType: 'image/png',
  contentDisposition: `inline; filename="it's (1)*.png"; filename*=UTF-8''%C3%A9.png`,
  cacheControl: 'private, max-age=3600, immutable',
  expiresAt: END,
  life: 3600,
};
const directory = mkdtempSync(join(tmpdir(), 'stowage-cdn-'));
after(() => rmSync(directory, { recursive: true }));
const fileWith = (name: string, text: string) => {
  const file = join(directory, name);
  writeFileSync(file, text);
  return file;
};
const pair = (modulusLength: number) => {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength });
  return {
    privatePem: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    publicPem: publicKey.export({ type: 'spki', format: 'pem' }).toString(),
  };
};
const { privatePem, publicPem } = pair(2048);

function faultsOf(environment: Record<string, string>): string {
  try {
    loadConfig(environment);
  } catch (error) {
    assert.ok(error instanceof ConfigError);
    return error.faults.join('\n');
  }
  return '';
}

describe('links to CloudFront', () => {
  const settings = {
    CDN_URL: 'https://d111.cloudfront.net/',
    CDN_KEY_PAIR_ID: 'K2JCJMDEHXQW5F',
    CDN_PRIVATE_KEY_FILE: fileWith('private.pem', privatePem),
    S3_BUCKET: 'bucket',
  };
  const cdn = openCdn(loadConfig(settings));
  assert.ok(cdn instanceof CloudFrontCdn);

  test('have a signature over the canned policy that openssl finds good', async () => {
    const url = await cdn.sign(link);
    const [resource = '', rest = ''] = url.split('&Expires=');
    const { searchParams: query, origin, pathname } = new URL(url);
    assert.equal(origin, 'https://d111.cloudfront.net');
    assert.equal(pathname, `/${link.key}`);
    assert.equal(query.get('response-content-type'), link.contentType);
    assert.equal(query.get('response-content-disposition'), link.contentDisposition);
    assert.equal(query.get('response-cache-control'), 'public, max-age=1800, immutable');
    assert.match(rest, /^1795003200&Signature=[A-Za-z0-9~_-]+&Key-Pair-Id=K2JCJMDEHXQW5F$/);
    // Written by hand from the Developer Guide, "Create a signed URL using a canned policy".
    const policy = `{"Statement":[{"Resource":"${resource}","Condition":{"DateLessThan":{"AWS:EpochTime":1795003200}}}]}`;
    const signature = (query.get('Signature') ?? '').replaceAll('-', '+').replaceAll('_', '=').replaceAll('~', '/');
    const files = [
      fileWith('public.pem', publicPem),
      fileWith('policy', policy),
      join(directory, 'signature'),
    ] as const;
    writeFileSync(files[2], Buffer.from(signature, 'base64'));
    const verify = ['dgst', '-sha1', '-verify', files[0], '-signature', files[2], files[1]];
    assert.match(execFileSync('openssl', verify).toString(), /Verified OK/);
    writeFileSync(files[1], policy.replace('1795003200', '1795003201'));
    assert.throws(() => execFileSync('openssl', verify, { stdio: 'pipe' }));
    assert.equal(await cdn.sign(link), url);
  });

  test('need a key that CloudFront takes, and settings that belong together', () => {
    const small = fileWith('small.pem', pair(1024).privatePem);
    const elliptic = fileWith(
      'elliptic.pem',
      generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    );
    const nothing = fileWith('nothing.pem', 'no key');
    const { CDN_URL, CDN_KEY_PAIR_ID, S3_BUCKET } = settings;
    for (const [file, why] of [
      [small, 'RSA of 2048 bits'],
      [elliptic, 'RSA of 2048 bits'],
      [nothing, 'no private key in PEM'],
      ['/nowhere/key.pem', 'ENOENT'],
    ] as const) {
      const faults = faultsOf({ ...settings, CDN_PRIVATE_KEY_FILE: file });
      assert.ok(faults.includes(file) && faults.includes(why), faults);
    }
    for (const url of [
      'ftp://cdn.example.com',
      'cdn.example.com',
      'https://cdn.example.com/?a=b',
      'https://cdn.example.com/#a',
    ])
      assert.match(
        faultsOf({ ...settings, CDN_URL: url }),
        new RegExp(`CDN_URL is ${JSON.stringify(url).replace('?', '\\?')}`),
      );
    assert.doesNotMatch(faultsOf({ ...settings, CDN_URL: 'https://u:hidden@cdn.example.com' }), /hidden/);
    assert.match(faultsOf({ CDN_URL }), /CDN_URL https:\/\/d111.cloudfront.net needs/);
    assert.match(faultsOf({ CDN_HMAC_KEY: KEY }), /CDN_URL is missing/);
    assert.match(faultsOf({ CDN_URL, CDN_HMAC_KEY: 'short' }), /CDN_HMAC_KEY must have at least 32 bytes/);
    assert.match(faultsOf({ ...settings, CDN_HMAC_KEY: KEY }), /exclude each other/);
    assert.match(faultsOf({ CDN_URL, CDN_KEY_PAIR_ID, S3_BUCKET }), /belong together/);
    assert.match(faultsOf({ ...settings, S3_BUCKET: '' }), /needs S3_BUCKET/);
    assert.equal(faultsOf({ CDN_URL, CDN_HMAC_KEY: KEY }), '');
  });
});

describe('links to a CDN by HMAC', () => {
  const cdn = new HmacCdn({ url: 'https://cdn.example.com/files', secret: KEY });
  const addressOf = async () => (await cdn.sign(link)).slice('https://cdn.example.com/files'.length);
  const before = new Date(END.getTime() - 1);

  test('are read as they were signed, until they end', async () => {
    const { life, ...permission } = link;
    assert.deepEqual(cdn.read(await addressOf(), before), permission);
    assert.equal(cdn.read(await addressOf(), END), 'expired');
  });

  test('are signed as docs/delivery.md tells edges', async () => {
    const [signed = '', signature] = (await addressOf()).split('&signature=');
    assert.equal(createHmac('sha256', KEY).update(`stowage cdn 1\n${signed}`).digest('base64url'), signature);
  });

  test('have one spelling, and none when a letter is another', async () => {
    const address = await addressOf();
    for (let index = 0; index < address.length; index++)
      for (const letter of ['A', '%41', '']) {
        const other = address.slice(0, index) + letter + address.slice(index + 1);
        if (other !== address) assert.equal(cdn.read(other, before), 'invalid', other);
      }
    for (const other of [
      `${address}&a=b`,
      `${address}#a`,
      address.replace('?', '?a=b&'),
      '',
      '/v1/cdn/',
      '/v1/cdn/%?a=b',
    ])
      assert.equal(cdn.read(other, before), 'invalid', other);
    assert.equal(new HmacCdn({ url: '', secret: `${KEY}.` }).read(address, before), 'invalid');
  });
});

test('shared caches are told as much as the policy allows, and no more than the link', () => {
  for (const [given, longest, told] of [
    ['private, max-age=3600, immutable', 7200, 'public, max-age=3600, immutable'],
    ['private, max-age=3600, immutable', 60, 'public, max-age=60, immutable'],
    ['private', 60, 'public, max-age=60'],
    ['private, no-cache', 60, 'public, no-cache'],
    ['private, no-store, max-age=60', 60, 'no-store'],
    ['public, max-age=60', -1, 'public, max-age=0'],
  ] as const)
    assert.equal(sharedCacheControl(given, longest), told);
});
