import { randomBytes } from 'node:crypto';
import {
  AbortMultipartUploadCommand,
  CreateBucketCommand,
  DeleteBucketCommand,
  DeleteObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectVersionsCommand,
  PutObjectLegalHoldCommand,
  paginateListObjectsV2,
  S3Client,
} from '@aws-sdk/client-s3';

export interface S3Settings {
  endpoint: string;
  region: string;
  accessKeyId: string;
  secretAccessKey: string;
}

export interface TestBucket {
  bucket: string;
  client: S3Client;
  /** With all objects and unfinished uploads that are in it. Closes the client. */
  drop(): Promise<void>;
}

/** Begins the reason of every test that is skipped for want of an S3 server; the summary counts by it. */
export const S3_SKIP_PREFIX = 'no S3 server: ';

/** The S3 server of the tests; undefined where there is none. Throws when it is named by halves. */
export function s3Settings(): S3Settings | undefined {
  return process.env['TEST_S3_ENDPOINT'] ? requireS3Settings() : undefined;
}

/** For the `skip` option of tests that need an S3 server: `test('...', { skip: s3Skip() }, ...)`. */
export function s3Skip(): string | false {
  if (isQuick()) return 'not in the quick run';
  if (process.env['TEST_S3_ENDPOINT']) return false;
  const reason = s3SkipReason();
  if (reason) return `${S3_SKIP_PREFIX}${reason}`;
  throw new Error(
    'Neither TEST_S3_ENDPOINT nor TEST_S3_SKIP is set: run with --test-global-setup=tests/support/global-setup.ts.',
  );
}

/** Whether this is `npm run test:quick`. */
export function isQuick(): boolean {
  return process.env['TEST_QUICK'] === 'true';
}

/** Why there is no S3 server, if somebody said so. */
export function s3SkipReason(): string | undefined {
  return process.env['TEST_S3_SKIP'] || undefined;
}

export function requireS3Settings(): S3Settings {
  return {
    endpoint: required('TEST_S3_ENDPOINT'),
    region: required('TEST_S3_REGION'),
    accessKeyId: required('TEST_S3_ACCESS_KEY_ID'),
    secretAccessKey: required('TEST_S3_SECRET_ACCESS_KEY'),
  };
}

function required(name: string): string {
  const value = process.env[name];
  if (value) return value;
  throw new Error(
    `${name} is missing: the S3 server of the tests is named by TEST_S3_ENDPOINT, _REGION, _ACCESS_KEY_ID and _SECRET_ACCESS_KEY.`,
  );
}

/**
 * A new bucket with a random name. Only where `s3Skip()` is false.
 * @param objectLock it has versions, too
 */
export async function createTestBucket({ objectLock = false } = {}): Promise<TestBucket> {
  const { endpoint, region, accessKeyId, secretAccessKey } = requireS3Settings();
  const bucket = `test-${randomBytes(8).toString('hex')}`;
  const client = new S3Client({
    endpoint,
    region,
    credentials: { accessKeyId, secretAccessKey },
    forcePathStyle: true,
    // Not every server knows the trailing checksums that are the default.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
  });
  await client.send(new CreateBucketCommand({ Bucket: bucket, ObjectLockEnabledForBucket: objectLock }));
  const drop = async () => {
    if (objectLock) await dropVersions(client, bucket);
    await dropBucket(client, bucket);
  };
  return { bucket, client, drop };
}

/** Whatever keeps them, but for compliance. */
async function dropVersions(client: S3Client, Bucket: string): Promise<void> {
  const { Versions = [], DeleteMarkers = [] } = await client.send(new ListObjectVersionsCommand({ Bucket }));
  for (const { Key, VersionId } of Versions)
    await client
      .send(new PutObjectLegalHoldCommand({ Bucket, Key, VersionId, LegalHold: { Status: 'OFF' } }))
      .catch(() => {});
  for (const { Key, VersionId } of [...Versions, ...DeleteMarkers])
    await client.send(new DeleteObjectCommand({ Bucket, Key, VersionId, BypassGovernanceRetention: true }));
}

async function dropBucket(client: S3Client, Bucket: string): Promise<void> {
  try {
    await abortUploads(client, Bucket);
    for await (const { Contents = [] } of paginateListObjectsV2({ client }, { Bucket })) {
      // Not all at once: the server asks to slow down.
      for (let begin = 0; begin < Contents.length; begin += 50)
        await Promise.all(
          Contents.slice(begin, begin + 50).map(({ Key }) => client.send(new DeleteObjectCommand({ Bucket, Key }))),
        );
    }
    await client.send(new DeleteBucketCommand({ Bucket }));
  } finally {
    client.destroy();
  }
}

/** Lists from the start until nothing is left: what was listed is gone by then. */
async function abortUploads(client: S3Client, Bucket: string): Promise<void> {
  for (;;) {
    const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket }));
    if (Uploads.length === 0) return;
    const aborts = Uploads.map(({ Key, UploadId }) =>
      client.send(new AbortMultipartUploadCommand({ Bucket, Key, UploadId })),
    );
    await Promise.all(aborts);
  }
}

/** What a bucket holds: the keys of its objects, in order, and of its open multipart uploads. */
export async function contentsOf({ client, bucket }: TestBucket): Promise<{ keys: string[]; openUploads: string[] }> {
  const keys: string[] = [];
  for await (const { Contents = [] } of paginateListObjectsV2({ client }, { Bucket: bucket })) {
    keys.push(...Contents.map(({ Key = '' }) => Key));
  }
  const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket: bucket }));
  return { keys, openUploads: Uploads.map(({ Key = '' }) => Key) };
}
