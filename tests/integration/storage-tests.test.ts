/** POST /v1/admin/storage-tests, on the disk and on the real S3 server, whose policy denies one action after the other. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { DeleteBucketPolicyCommand, PutBucketPolicyCommand } from '@aws-sdk/client-s3';
import { S3Proxy } from '../faults/s3-proxy.ts';
import { type Answer, type AnyBody, Client } from '../support/client.ts';
import { contentsOf, s3Settings, s3Skip } from '../support/s3.ts';
import { startService, type TestService } from '../support/service.ts';

interface StorageTest {
  store: string;
  kind: string;
  ok: boolean;
  leftBehind: number;
  steps: { name: string; outcome: string; permission?: string; detail: string }[];
}

async function testStorage(service: TestService, body: object = {}): Promise<Answer<AnyBody>> {
  return new Client(service.url, 'local-user').send('POST', '/v1/admin/storage-tests', body);
}
const bodyOf = ({ status, body }: Answer<AnyBody>): StorageTest => {
  assert.equal(status, 200, JSON.stringify(body));
  return body as unknown as StorageTest;
};
const outcomes = ({ steps }: StorageTest) => Object.fromEntries(steps.map(({ name, outcome }) => [name, outcome]));

describe('a storage test of a disk', () => {
  let service: TestService;
  before(async () => {
    service = await startService();
  });
  after(() => service.close());

  test('does what the service does, leaves nothing, and is not done twice in a row', async () => {
    const [first, meanwhile] = await Promise.all([testStorage(service), testStorage(service)]);
    const [done, refused] = first.status === 200 ? [first, meanwhile] : [meanwhile, first];
    const report = bodyOf(done);
    assert.deepEqual([report.store, report.kind, report.ok, report.leftBehind], ['primary', 'disk', true, 0]);
    const { 'list-buckets': buckets, ...others } = outcomes(report);
    assert.equal(buckets, 'skipped');
    assert.deepEqual([...new Set(Object.values(others))], ['ok']);
    const files = readdirSync(join(service.config.DATA_DIR, 'objects'), { recursive: true, withFileTypes: true });
    assert.deepEqual(
      files.filter((file) => file.isFile()).map(({ name }) => name),
      [],
    );
    assert.ok(
      ['urn:stowage:problem:storage-test-running', 'urn:stowage:problem:too-many-requests'].includes(refused.body.type),
    );
    const again = await testStorage(service);
    assert.deepEqual([again.status, again.body.type], [429, 'urn:stowage:problem:too-many-requests']);
    assert.ok(Number(again.headers.get('retry-after')) >= 1);
  });

  test('names the stores that there are', async () => {
    const { status, body } = await testStorage(service, { store: 'elsewhere' });
    assert.deepEqual([status, body.errors?.[0]?.pointer], [400, '/store']);
    assert.match(body.errors?.[0]?.detail ?? '', /primary/);
  });
});

describe('a storage test of a bucket', { skip: s3Skip() }, () => {
  let service: TestService;
  let s3: S3Proxy;
  before(async () => {
    s3 = await new S3Proxy(s3Settings()?.endpoint ?? '').listen();
    service = await startService({ store: 's3', env: { S3_ENDPOINT: s3.url, S3_KEY_PREFIX: 'files/' } });
  });
  after(async () => {
    s3.heal();
    await service.close();
    await s3.close();
  });

  /** In a process of its own, as it were: without the pause. */
  async function run(env: Record<string, string> = {}): Promise<StorageTest> {
    const beside = await startService({
      beside: service,
      env: { S3_ENDPOINT: s3.url, S3_KEY_PREFIX: 'files/', ...env },
    });
    try {
      return bodyOf(await testStorage(beside));
    } finally {
      await beside.close();
    }
  }

  async function denying(actions: string[], work: () => Promise<void>): Promise<void> {
    const { client, bucket: Bucket } = service.bucket ?? assert.fail('there is no bucket');
    const Resource = [`arn:aws:s3:::${Bucket}`, `arn:aws:s3:::${Bucket}/*`];
    const Statement = [{ Effect: 'Deny', Principal: '*', Action: actions, Resource }];
    const Policy = JSON.stringify({ Version: '2012-10-17', Statement });
    await client.send(new PutBucketPolicyCommand({ Bucket, Policy }));
    try {
      await work();
    } finally {
      await client.send(new DeleteBucketPolicyCommand({ Bucket }));
    }
  }

  const contents = async () => contentsOf(service.bucket ?? assert.fail('there is no bucket'));

  test('finds that all is well, and leaves nothing', async () => {
    const report = await run();
    assert.deepEqual([...new Set(report.steps.map(({ outcome }) => outcome))], ['ok'], JSON.stringify(report.steps));
    assert.equal(report.ok, true);
    assert.deepEqual(await contents(), { keys: [], openUploads: [] });
  });

  for (const [action, failing] of [
    ['s3:ListBucket', ['list']],
    ['s3:GetObject', ['read', 'range']],
    ['s3:PutObject', ['write', 'multipart']],
    ['s3:ListMultipartUploadParts', ['list-parts']],
    ['s3:ListBucketMultipartUploads', ['list-uploads']],
    ['s3:AbortMultipartUpload', ['abort']],
    ['s3:DeleteObject', ['delete']],
  ] as const)
    test(`names ${action} when the bucket denies it, and nothing else`, async () => {
      let report: StorageTest | undefined;
      const earlier = await contents();
      const known = earlier.keys.length + earlier.openUploads.length;
      await denying([action], async () => {
        report = await run();
        const failed = report.steps.filter(({ outcome }) => outcome === 'failed');
        assert.deepEqual(
          failed.map(({ name, permission }) => [name, permission]),
          failing.map((name) => [name, action]),
          JSON.stringify(report.steps),
        );
        assert.ok(failed.every(({ detail }) => detail.includes(action)));
        assert.equal(report.ok, false);
      });
      const { keys, openUploads } = await contents();
      assert.equal(keys.length + openUploads.length, known + (report?.leftBehind ?? -1));
      if (action !== 's3:DeleteObject' && action !== 's3:AbortMultipartUpload') assert.equal(report?.leftBehind, 0);
      else assert.ok((report?.leftBehind ?? 0) > 0);
    });

  test('what a test could not remove is removed by the reconciler when it is old, and nothing like it', async () => {
    const { client } = service.bucket ?? assert.fail('there is no bucket');
    assert.ok(client);
    const { keys, openUploads } = await contents();
    assert.ok(keys.length > 0 && openUploads.length > 0, 'the tests before have left something');
    const sha256 = Buffer.alloc(32);
    const attributes = {
      contentType: 'text/plain',
      contentDisposition: 'inline',
      cacheControl: 'no-store',
      metadata: {},
    };
    const foreign = `files/storage-tests/of-somebody-else/${randomBytes(4).toString('hex')}`;
    await service.store.put(foreign, Buffer.alloc(0), attributes, { sha256 }).catch(() => undefined);
    const before = await contents();
    await service.service.reconcile({ dryRun: true });
    assert.deepEqual(await contents(), before);
    await service.service.reconcile({});
    assert.deepEqual(await contents(), before, 'they are not old');
    const later = await startService({
      beside: service,
      env: { S3_ENDPOINT: s3.url, S3_KEY_PREFIX: 'files/', RECONCILE_GRACE: '0s' },
    });
    await later.service.reconcile({});
    await later.close();
    const left = await contents();
    assert.deepEqual(left.openUploads, []);
    assert.ok(left.keys.every((key) => key === foreign));
  });

  for (const [title, operation, fault] of [
    ['the answer to a part is lost', 'UploadPart', 'reset after'],
    ['the completion is not answered', 'CompleteMultipartUpload', 'reset after'],
    ['an object is written, and nobody hears of it', 'PutObject', 'reset after'],
    ['an upload is begun, and nobody hears of it', 'CreateMultipartUpload', 'reset after'],
  ] as const)
    test(`leaves nothing when ${title}`, async () => {
      const before = await contents();
      s3.faultFor = (seen) => (seen.operation === operation ? fault : undefined);
      const report = await run({ S3_DEADLINE: '2s', S3_REQUEST_TIMEOUT: '1s' });
      s3.heal();
      assert.equal(report.ok, false, JSON.stringify(report.steps));
      const told = report.steps.find(({ outcome }) => outcome === 'failed')?.detail ?? '';
      assert.match(told, /does not answer/);
      assert.ok(!told.includes(s3.url.replace('http://', '')));
      assert.deepEqual(await contents(), before);
      assert.equal(report.leftBehind, 0);
    });

  test('tells wrong keys from missing rights', async () => {
    const report = await run({ S3_SECRET_ACCESS_KEY: 'another' });
    const failed = report.steps.filter(({ outcome }) => outcome === 'failed');
    assert.ok(failed.length > 0 && failed.every(({ permission }) => permission === undefined));
    assert.match(failed[0]?.detail ?? '', /credentials are not accepted/);
  });
});
