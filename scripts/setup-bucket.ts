/**
 * `npm run setup-bucket -- [--versioning] [--encryption AES256|aws:kms]`: makes the bucket of the configuration where it
 * may, sets CORS for CORS_ORIGINS and the abort of incomplete uploads, and prints the policies to give to the service and
 * to the bucket. Safe to run twice. Exit code 1 when something could not be set.
 */
import { parseArgs } from 'node:util';
import { features } from '../src/app.ts';
import { readConfiguration } from '../src/startup.ts';
import { s3Options } from '../src/storage/open.ts';
import {
  type BucketSetup,
  denyInsecureTransportPolicy,
  leastPrivilegePolicy,
  setUpBucket,
} from '../src/storage/s3/bucket.ts';

const { config } = readConfiguration(features);

function encryptionOf(text: string | undefined): BucketSetup['encryption'] {
  if (text === undefined) return undefined;
  if (text === 'AES256') return { algorithm: text };
  if (text !== 'aws:kms') throw new Error('--encryption must be AES256 or aws:kms');
  const keyId = config.S3_SSE_KMS_KEY_ID;
  return { algorithm: text, ...(keyId !== undefined && { keyId }) };
}

try {
  const { values } = parseArgs({
    options: { versioning: { type: 'boolean', default: false }, encryption: { type: 'string' } },
  });
  const options = s3Options(config);
  const encryption = encryptionOf(values.encryption);
  const steps = await setUpBucket(options, {
    keyPrefix: config.S3_KEY_PREFIX,
    corsOrigins: config.CORS_ORIGINS,
    versioning: values.versioning,
    ...(encryption && { encryption }),
  });
  for (const { name, outcome, detail } of steps)
    console.log(`${outcome.padEnd(14)} ${name}${detail === undefined ? '' : `: ${detail}`}`);
  if (steps.some(({ outcome }) => outcome === 'failed')) process.exitCode = 1;
  const print = (title: string, policy: object) => console.log(`\n${title}\n${JSON.stringify(policy, undefined, 2)}`);
  print(
    'IAM policy with what the service needs, and no more:',
    leastPrivilegePolicy(options.bucket, config.S3_KEY_PREFIX, config.S3_SSE_KMS_KEY_ID),
  );
  print('Bucket policy that refuses connections without TLS:', denyInsecureTransportPolicy(options.bucket));
} catch (error) {
  console.error(`The bucket could not be set up: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
