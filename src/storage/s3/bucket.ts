/**
 * What a bucket needs around the objects, for `npm run setup-bucket`. Rules of ours carry our name, so that a second run
 * replaces them and leaves those of others as they are.
 */
import {
  type CORSRule,
  CreateBucketCommand,
  GetBucketCorsCommand,
  GetBucketLifecycleConfigurationCommand,
  HeadBucketCommand,
  type LifecycleRule,
  PutBucketCorsCommand,
  PutBucketEncryptionCommand,
  PutBucketLifecycleConfigurationCommand,
  PutBucketVersioningCommand,
  type S3Client,
  S3ServiceException,
} from '@aws-sdk/client-s3';
import { makeClient, type S3Options } from './client.ts';

const CORS_RULE = 'stowage';
const LIFECYCLE_RULE = 'stowage-abort-incomplete-uploads';
/** One more than the longest life of an upload. */
const ABORT_AFTER_DAYS = 8;
const CORS_MAX_AGE = 3600;

export interface BucketSetup {
  keyPrefix: string;
  /** Origins whose pages upload straight to the bucket; none for no rule. */
  corsOrigins: string[];
  versioning: boolean;
  encryption?: { algorithm: 'AES256' } | { algorithm: 'aws:kms'; keyId?: string };
}

export interface SetupStep {
  name: string;
  outcome: 'done' | 'was there' | 'not asked for' | 'not supported' | 'failed';
  /** In words of ours. */
  detail?: string;
}

/** Runs every step; one that fails does not keep the others from running, but for a bucket that cannot be had. */
export async function setUpBucket(options: S3Options, setup: BucketSetup): Promise<SetupStep[]> {
  const client = makeClient(options, options.endpoint);
  const { bucket } = options;
  const steps: SetupStep[] = [];
  const step = async (name: string, run: () => Promise<SetupStep['outcome']>) => {
    const result = await run().then(
      (outcome): SetupStep => ({ name, outcome }),
      (error): SetupStep => ({ name, ...faultOf(error) }),
    );
    steps.push(result);
    return result;
  };
  try {
    const made = await step('bucket', () => ensureBucket(client, options));
    if (made.outcome === 'failed') return steps;
    await step('CORS for direct uploads', () => setCors(client, bucket, setup.corsOrigins));
    await step('abort of incomplete uploads', () => setLifecycle(client, bucket, setup.keyPrefix));
    await step('versioning', () => setVersioning(client, bucket, setup.versioning));
    await step('default encryption', () => setEncryption(client, bucket, setup.encryption));
    return steps;
  } finally {
    client.destroy();
  }
}

async function ensureBucket(client: S3Client, { bucket, region, endpoint }: S3Options): Promise<SetupStep['outcome']> {
  try {
    await client.send(new HeadBucketCommand({ Bucket: bucket }));
    return 'was there';
  } catch (error) {
    if (!(error instanceof S3ServiceException) || error.$metadata.httpStatusCode !== 404) throw error;
  }
  // AWS wants the region said, except for its first one; other servers know no regions.
  const elsewhere = endpoint === undefined && region !== 'us-east-1';
  await client.send(
    new CreateBucketCommand({
      Bucket: bucket,
      ...(elsewhere && { CreateBucketConfiguration: { LocationConstraint: region as 'eu-west-1' } }),
    }),
  );
  return 'done';
}

async function setCors(client: S3Client, bucket: string, origins: string[]): Promise<SetupStep['outcome']> {
  if (origins.length === 0) return 'not asked for';
  const ours: CORSRule = {
    ID: CORS_RULE,
    AllowedOrigins: origins,
    AllowedMethods: ['GET', 'HEAD', 'PUT'],
    AllowedHeaders: ['*'],
    ExposeHeaders: ['ETag', 'Content-Range', 'Content-Disposition', 'Accept-Ranges', 'Retry-After'],
    MaxAgeSeconds: CORS_MAX_AGE,
  };
  const present = await missingAsEmpty(
    client.send(new GetBucketCorsCommand({ Bucket: bucket })).then(({ CORSRules }) => CORSRules ?? []),
  );
  const others = present.filter(({ ID }) => ID !== CORS_RULE);
  await client.send(new PutBucketCorsCommand({ Bucket: bucket, CORSConfiguration: { CORSRules: [...others, ours] } }));
  return 'done';
}

async function setLifecycle(client: S3Client, bucket: string, prefix: string): Promise<SetupStep['outcome']> {
  const ours: LifecycleRule = {
    ID: LIFECYCLE_RULE,
    Status: 'Enabled',
    Filter: { Prefix: prefix },
    AbortIncompleteMultipartUpload: { DaysAfterInitiation: ABORT_AFTER_DAYS },
  };
  const present = await missingAsEmpty(
    client.send(new GetBucketLifecycleConfigurationCommand({ Bucket: bucket })).then(({ Rules }) => Rules ?? []),
  );
  const others = present.filter(({ ID }) => ID !== LIFECYCLE_RULE);
  await client.send(
    new PutBucketLifecycleConfigurationCommand({
      Bucket: bucket,
      LifecycleConfiguration: { Rules: [...others, ours] },
    }),
  );
  return 'done';
}

async function setVersioning(client: S3Client, bucket: string, wanted: boolean): Promise<SetupStep['outcome']> {
  if (!wanted) return 'not asked for';
  await client.send(new PutBucketVersioningCommand({ Bucket: bucket, VersioningConfiguration: { Status: 'Enabled' } }));
  return 'done';
}

async function setEncryption(
  client: S3Client,
  bucket: string,
  encryption: BucketSetup['encryption'],
): Promise<SetupStep['outcome']> {
  if (!encryption) return 'not asked for';
  await client.send(
    new PutBucketEncryptionCommand({
      Bucket: bucket,
      ServerSideEncryptionConfiguration: {
        Rules: [
          {
            ApplyServerSideEncryptionByDefault: {
              SSEAlgorithm: encryption.algorithm,
              ...('keyId' in encryption && encryption.keyId !== undefined && { KMSMasterKeyID: encryption.keyId }),
            },
            ...(encryption.algorithm === 'aws:kms' && { BucketKeyEnabled: true }),
          },
        ],
      },
    }),
  );
  return 'done';
}

/** No configuration of a kind is an error to S3. */
async function missingAsEmpty<Rule>(asking: Promise<Rule[]>): Promise<Rule[]> {
  try {
    return await asking;
  } catch (error) {
    if (error instanceof S3ServiceException && error.$metadata.httpStatusCode === 404) return [];
    throw error;
  }
}

function faultOf(error: unknown): Pick<SetupStep, 'outcome' | 'detail'> {
  if (!(error instanceof S3ServiceException))
    return { outcome: 'failed', detail: error instanceof Error ? error.message : 'unknown fault' };
  const status = error.$metadata.httpStatusCode;
  const unknown = status === 501 || status === 405 || ['NotImplemented', 'MethodNotAllowed'].includes(error.name);
  // The SDK asks for the bucket to be made in the region that it signs for.
  const advice = /LocationConstraint/.test(error.name) ? ': correct S3_REGION' : '';
  return { outcome: unknown ? 'not supported' : 'failed', detail: `${error.name} (${status ?? 'no answer'})${advice}` };
}

/** What the service needs and no more (IAM, version 2012-10-17). */
export function leastPrivilegePolicy(bucket: string, keyPrefix: string, kmsKeyId?: string): object {
  const resource = `arn:aws:s3:::${bucket}`;
  return {
    Version: '2012-10-17',
    Statement: [
      {
        Sid: 'StowageBucket',
        Effect: 'Allow',
        Action: ['s3:ListBucket', 's3:ListBucketMultipartUploads', 's3:GetBucketLocation'],
        Resource: resource,
      },
      {
        Sid: 'StowageObjects',
        Effect: 'Allow',
        Action: [
          's3:GetObject',
          's3:PutObject',
          's3:DeleteObject',
          's3:AbortMultipartUpload',
          's3:ListMultipartUploadParts',
        ],
        Resource: `${resource}/${keyPrefix}*`,
      },
      ...(kmsKeyId === undefined
        ? []
        : [
            {
              Sid: 'StowageKey',
              Effect: 'Allow',
              Action: ['kms:GenerateDataKey', 'kms:Decrypt'],
              Resource: kmsKeyId,
            },
          ]),
    ],
  };
}

/** Refuses everybody who does not use TLS. */
export function denyInsecureTransportPolicy(bucket: string): object {
  return {
    Version: '2012-10-17',
    Statement: [
      {
        Sid: 'DenyInsecureTransport',
        Effect: 'Deny',
        Principal: '*',
        Action: 's3:*',
        Resource: [`arn:aws:s3:::${bucket}`, `arn:aws:s3:::${bucket}/*`],
        Condition: { Bool: { 'aws:SecureTransport': 'false' } },
      },
    ],
  };
}
